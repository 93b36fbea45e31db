"""Observations to tokens and back."""

from tokenworlds.tokenizers.image import ImageTokenizer, TokenizerLosses, to_float
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.observation import ObservationTokenizer, build

__all__ = [
    "ImageTokenizer",
    "ModalityTokens",
    "ObservationTokenizer",
    "TokenLayout",
    "TokenizerLosses",
    "build",
    "to_float",
]
