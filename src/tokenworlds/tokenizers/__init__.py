"""Observations to tokens and back."""

from tokenworlds.tokenizers.delta import DeltaTokenizer, DeltaTokenizerLosses
from tokenworlds.tokenizers.image import ImageTokenizer, TokenizerLosses, to_float
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.observation import ObservationTokenizer, build

__all__ = [
    "DeltaTokenizer",
    "DeltaTokenizerLosses",
    "ImageTokenizer",
    "ModalityTokens",
    "ObservationTokenizer",
    "TokenLayout",
    "TokenizerLosses",
    "build",
    "to_float",
]
