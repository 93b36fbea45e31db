"""Observations to tokens and back."""

from tokenworlds.tokenizers.delta import DeltaTokenizer, DeltaTokenizerLosses
from tokenworlds.tokenizers.image import ImageTokenizer, TokenizerLosses, to_float
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.modality import ModalityTokenizer
from tokenworlds.tokenizers.observation import ObservationTokenizer, build
from tokenworlds.tokenizers.symbolic import GridTokenizer, TokenTokenizer
from tokenworlds.tokenizers.vector import VectorTokenizer

__all__ = [
    "DeltaTokenizer",
    "DeltaTokenizerLosses",
    "GridTokenizer",
    "ImageTokenizer",
    "ModalityTokenizer",
    "ModalityTokens",
    "ObservationTokenizer",
    "TokenLayout",
    "TokenTokenizer",
    "TokenizerLosses",
    "VectorTokenizer",
    "build",
    "to_float",
]
