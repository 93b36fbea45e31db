"""Stacked LSTM or GRU between two linear projections: token after token, a state of fixed size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenworlds.backbones.base import Backbone
from tokenworlds.config.backbones import RecurrentConfig

Cell = type[nn.LSTM] | type[nn.GRU]


@dataclass
class RecurrentState:
    """What torch's cells carry, each tensor (layers, B, hidden width): hidden and cell of an LSTM, hidden of a GRU."""

    tensors: tuple[Tensor, ...]

    @classmethod
    def stack(cls, states: list[RecurrentState]) -> RecurrentState:
        """T states as one of a batch B T, time running faster."""
        return cls(tuple(torch.stack(parts, dim=2).flatten(1, 2) for parts in zip(*(s.tensors for s in states))))


class RecurrentBackbone(Backbone[RecurrentState]):
    def __init__(self, cell: Cell, config: RecurrentConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        self.input = nn.Linear(embed_dim, config.hidden_dim)
        self.rnn = cell(config.hidden_dim, config.hidden_dim, config.num_layers, batch_first=True)
        self.output = nn.Linear(config.hidden_dim, embed_dim)

    def initialise(self) -> None:
        """Torch's defaults, which construction has drawn."""

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self.step(self.init_state(len(x)), x)[0]

    def init_state(self, batch: int) -> RecurrentState:
        shape = (self.rnn.num_layers, batch, self.rnn.hidden_size)
        count = 2 if isinstance(self.rnn, nn.LSTM) else 1
        return RecurrentState(tuple(self.output.weight.new_zeros(shape) for _ in range(count)))

    def step(self, state: RecurrentState, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], RecurrentState]:
        h, state = self._recur(self.input(x), state)
        return self.output(h), state

    def parallel_with_branches(
        self, x: Float[Tensor, "B S D"], suffix: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """The blocks one after another, then all suffixes at once: S + K consecutive cells instead of S + T K."""
        self.check_branches(x, suffix)
        state, outputs, before = self.init_state(len(x)), [], []
        for block in self.input(x).split(self.block_size, dim=1):
            before.append(state)
            h, state = self._recur(block, state)
            outputs.append(h[:, -1])
        branches, _ = self._recur(self.input(suffix).flatten(0, 1), RecurrentState.stack(before))
        return self.output(torch.stack(outputs, dim=1)), self.output(branches).unflatten(0, suffix.shape[:2])

    def _recur(self, h: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """The cells, in the number format of their parameters under autocast too: errors would add up over the
        tokens."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(self.output.weight.dtype)
            if isinstance(self.rnn, nn.LSTM):
                hidden, cell = state.tensors
                h, after = self.rnn(h, (hidden, cell))
            else:
                h, last = self.rnn(h, *state.tensors)
                after = (last,)
        return h, RecurrentState(tuple(after))
