"""What training batches of single frames carry besides the frames, where a loss needs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from jaxtyping import Int
from torch import Tensor

from tokenworlds.replay.buffer import ReplayBuffer, Steps

Needs = Mapping[str, Callable[[ReplayBuffer, str], "Companion"]]
"""Name -> what makes a companion from a replay buffer, for one modality of its observations."""


class Companion(ABC):
    """A value for each row of a replay buffer; it follows the buffer as this grows."""

    @abstractmethod
    def of(self, rows: Int[Tensor, "B"]) -> Tensor:
        """Values (B, ...) of rows that are no padding."""

    def known(self, steps: Steps) -> Steps:
        """Those of the steps that have a value: all, by default."""
        return steps


class Companions:
    """Companions of a replay buffer, by modality and name."""

    def __init__(self, buffer: ReplayBuffer, needs: Mapping[str, Needs]) -> None:
        self._by_modality = {
            modality: {name: make(buffer, modality) for name, make in named.items()}
            for modality, named in needs.items()
        }
        self.steps: Steps = buffer
        """The steps that training may sample."""
        for named in self._by_modality.values():
            for companion in named.values():
                self.steps = companion.known(self.steps)

    def of(self, rows: Int[Tensor, "B"]) -> dict[str, dict[str, Tensor]]:
        """Values of these rows, by modality and name."""
        return {
            modality: {name: companion.of(rows) for name, companion in named.items()}
            for modality, named in self._by_modality.items()
        }
