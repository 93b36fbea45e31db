"""The contract of every sequence model: a parallel pass over a whole sequence, and the same function in steps with a
state.

Law (tested for every backbone): any split of a sequence into ``step`` calls gives what ``parallel`` gives. Where
attention is full inside a block, this holds for splits between blocks.

A *suffix* is a run of tokens that reads a state and leaves no trace in it: the prediction tokens of REM section 3.2.
They see one another as the tokens of a ``step`` do or, where a transformer is set so, all of them.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

State = TypeVar("State")


class Backbone(nn.Module, ABC, Generic[State]):
    """Maps token embeddings (B, S, D) to outputs of the same shape, causally."""

    is_causal: bool = True  # whether a position never sees a later one; else it may see those of the same ``step``

    def __init__(self, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.max_tokens = max_tokens  # positions a state can hold
        self.block_size = block_size

    @abstractmethod
    def initialise(self) -> None:
        """Draw the published initial weights."""

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

    def branch(
        self, state: State, x: Float[Tensor, "B n D"], suffix: Float[Tensor, "B K D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K D"], State]:
        """``step`` with x, of which only the last output is asked for, and the outputs of a suffix that reads the state
        after x.

        This default is for backbones whose ``step`` leaves the old state as it was.
        """
        outputs, state = self.step(state, x)
        return outputs[:, -1], self.step(state, suffix)[0], state

    def parallel_with_branches(
        self, x: Float[Tensor, "B S D"], suffix: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """``parallel`` over T whole blocks, of which only the output at every block's last token is asked for, and the
        outputs of one suffix of K <= block_size tokens for every block: it reads the state after the blocks before, at
        the positions of its own block.

        This default is for backbones whose ``step`` leaves the old state as it was.
        """
        self.check_branches(x, suffix)
        state, outputs, branches = self.init_state(len(x)), [], []
        for block, tokens in zip(x.split(self.block_size, dim=1), suffix.unbind(1)):
            branches.append(self.step(state, tokens)[0])
            out, state = self.step(state, block)
            outputs.append(out[:, -1])
        return torch.stack(outputs, dim=1), torch.stack(branches, dim=1)

    def check_branches(self, x: Tensor, suffix: Tensor) -> None:
        blocks, tokens = suffix.shape[1:3]
        if x.shape[1] != blocks * self.block_size or tokens > self.block_size:
            raise ValueError(
                f"{blocks} suffixes of {tokens} tokens need {blocks} blocks of {self.block_size} tokens and are no "
                f"longer than a block; the sequence has {x.shape[1]} tokens."
            )

    def check_room(self, start: int, stop: int) -> None:
        if stop > self.max_tokens:
            raise ValueError(
                f"a state holds {self.max_tokens} tokens, {start} are read, {stop} are asked for; start a new one."
            )
