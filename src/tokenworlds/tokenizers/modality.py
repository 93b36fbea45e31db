"""The interface of the tokenizer of one modality.

Shapes: N observations, as stored or as decoded; S symbols of each (``layout``); a picture has Y rows of X pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.replay.companions import Needs


class ModalityTokenizer(nn.Module, ABC):
    """Encodes and decodes observations of one modality, by a fixed rule unless it ``learns`` (``image``)."""

    learns: bool = False
    num_tokens: int
    vocab_sizes: tuple[int, ...]  # one for each symbol of a token

    @property
    def needs(self) -> Needs:
        """What its loss needs besides the observations, where it learns: nothing, by default."""
        return {}

    @abstractmethod
    def encode(self, observations: Tensor) -> Int[Tensor, "N S"]:
        """Symbols of observations (N, *shape)."""

    @abstractmethod
    def codes(self, symbols: Int[Tensor, "N S"]) -> Tensor:
        """The policy's input that these symbols stand for."""

    @abstractmethod
    def decode(self, symbols: Int[Tensor, "N S"]) -> Tensor:
        """Observations (N, *shape), in the units of the environment; pictures in [0, 1]."""

    @abstractmethod
    def render(self, observations: Tensor) -> Float[Tensor, "N 3 Y X"]:
        """A picture of each observation, in [0, 1]."""
