"""What a further term of the image tokenizer's loss reads and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from tokenworlds.config import TermConfig
from tokenworlds.replay.buffer import ReplayBuffer
from tokenworlds.replay.companions import Companion

Settings = TypeVar("Settings", bound=TermConfig)


@dataclass
class Scene:
    """A batch of frames and what the tokenizer made of them."""

    frames: Float[Tensor, "N C Y X"]  # in [-1, 1]
    reconstruction: Float[Tensor, "N C Y X"]  # in about [-1, 1]
    codes: Float[Tensor, "N E h w"]  # with the gradient of the latents
    given: Mapping[str, Tensor]  # what the terms need besides, by name
    distance: Callable[..., Tensor]  # of pixels, see ``pixels``
    base: tuple[Float[Tensor, ""], Float[Tensor, ""]]  # reconstruction loss, perceptual loss
    last_layer: nn.Parameter  # weight of the decoder's last layer


class Term(nn.Module, ABC, Generic[Settings]):
    """A loss beside those of IRIS. It is logged without its weight."""

    name: str

    def __init__(self, settings: Settings, latents: int, channels: int) -> None:
        super().__init__()
        self.settings = settings

    @property
    def needs(self) -> dict[str, Callable[[ReplayBuffer, str], Companion]]:
        """What batches of frames have to carry besides (``Scene.given``), by name: made from the replay buffer, for
        one of the modalities of its observations."""
        return {}

    @abstractmethod
    def value(self, scene: Scene) -> Float[Tensor, ""]:
        """The loss, without its weight."""

    def forward(self, scene: Scene) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss with its weight, and what is logged."""
        value = self.value(scene)
        return self.settings.weight * value, {f"loss_{self.name}": value}
