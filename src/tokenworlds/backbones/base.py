"""The contract of every sequence model: a parallel pass over a whole sequence, and the same function in steps with a
state.

Law (tested for every backbone): any split of a sequence into ``step`` calls gives what ``parallel`` gives. Where
attention is full inside a block, this holds for splits between blocks.

*Query tokens* (the prediction tokens of POP, REM section 3.2) read a state and leave it as it is. They attend to one
another as the tokens of a ``step`` do or, if a transformer is configured so, all to all.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

State = TypeVar("State")


class Backbone(nn.Module, ABC, Generic[State]):
    """Maps token embeddings (B, S, D) to outputs of the same shape, causally."""

    is_causal: bool = True  # whether no position attends to a later one; else it may to those of the same ``step``

    def __init__(self, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.max_tokens = max_tokens  # positions a state can hold
        self.block_size = block_size

    @abstractmethod
    def initialise(self) -> None:
        """Draw the published initial weights."""

    def repeat_first_layer(self) -> None:
        """Give all layers the weights of the first (``quirks.identical_layers``); only the retentive network does."""

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

    def step_and_query(
        self, state: State, x: Float[Tensor, "B n D"], query_tokens: Float[Tensor, "B K D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K D"], State]:
        """The last output of a ``step`` with x, the outputs of query tokens that read the state after x, and this
        state.

        The default is for backbones whose ``step`` does not change the old state.
        """
        outputs, state = self.step(state, x)
        return outputs[:, -1], self.step(state, query_tokens)[0], state

    def parallel_and_query(
        self, x: Float[Tensor, "B S D"], query_tokens: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """The output at the last token of each of T whole blocks, as of ``parallel``, and the outputs of K <=
        block_size query tokens for every block, which read the state before it at the positions of its tokens.

        The default is for backbones whose ``step`` does not change the old state.
        """
        self.check_query_tokens(x, query_tokens)
        state, outputs, predictions = self.init_state(len(x)), [], []
        for block, tokens in zip(x.split(self.block_size, dim=1), query_tokens.unbind(1)):
            predictions.append(self.step(state, tokens)[0])
            out, state = self.step(state, block)
            outputs.append(out[:, -1])
        return torch.stack(outputs, dim=1), torch.stack(predictions, dim=1)

    def check_query_tokens(self, x: Tensor, query_tokens: Tensor) -> None:
        blocks, tokens = query_tokens.shape[1:3]
        if x.shape[1] != blocks * self.block_size or tokens > self.block_size:
            raise ValueError(
                f"{blocks} times {tokens} query tokens need {blocks} blocks of {self.block_size} tokens and at most as "
                f"many query tokens as tokens in a block; the sequence has {x.shape[1]} tokens."
            )

    def check_room(self, start: int, stop: int) -> None:
        if stop > self.max_tokens:
            raise ValueError(
                f"a state holds {self.max_tokens} tokens, {start} are read, {stop} are asked for; start a new one."
            )


def initialise_gpt(module: nn.Module) -> None:
    """Linear and embedding weights N(0, 0.02^2), linear biases 0; for ``nn.Module.apply``."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
