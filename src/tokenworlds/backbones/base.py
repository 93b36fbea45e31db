"""The contract of every sequence model: a parallel pass over a whole sequence, and the same function in steps with a
state.

Law (tested for every backbone): any split of a sequence into ``step`` calls gives what ``parallel`` gives. Where
attention is full inside a block, this holds for splits between blocks.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

State = TypeVar("State")


class Backbone(nn.Module, ABC, Generic[State]):
    """Maps token embeddings (B, S, D) to outputs of the same shape, causally."""

    max_tokens: int  # positions a state can hold
    is_causal: bool = True  # whether a position never sees a later one; else it may see those of the same ``step``

    @abstractmethod
    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Outputs of a whole sequence that starts at position 0."""

    @abstractmethod
    def init_state(self, batch: int) -> State:
        """An empty state, its memory preallocated on the module's device."""

    @abstractmethod
    def step(self, state: State, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], State]:
        """Outputs of the next n tokens, and the state after them. Memory of the old state may be reused: do not keep
        it."""
