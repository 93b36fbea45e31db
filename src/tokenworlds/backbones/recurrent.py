"""Stacked LSTM or GRU between two linear projections: token after token, a state of fixed size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenworlds.backbones.base import Backbone
from tokenworlds.config import RecurrentConfig

# Tensors (layers, B, hidden width): hidden and cell of an LSTM, hidden of a GRU
State = tuple[Tensor, ...]


class RecurrentBackbone(Backbone[State]):
    cell: type[nn.LSTM] | type[nn.GRU]

    def __init__(self, config: RecurrentConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        self.input = nn.Linear(embed_dim, config.hidden_dim)
        self.rnn = self.cell(config.hidden_dim, config.hidden_dim, config.num_layers, batch_first=True)
        self.output = nn.Linear(config.hidden_dim, embed_dim)

    def initialise(self) -> None:
        """Keep torch's defaults of construction."""

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self.step(self.init_state(len(x)), x)[0]

    def init_state(self, batch: int) -> State:
        shape = (self.rnn.num_layers, batch, self.rnn.hidden_size)
        return tuple(self.output.weight.new_zeros(shape) for _ in range(2 if self.cell is nn.LSTM else 1))

    def step(self, state: State, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], State]:
        h, state = self._recur(self.input(x), state)
        return self.output(h), state

    def parallel_and_query(
        self, x: Float[Tensor, "B S D"], query_tokens: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """The blocks one after another, then all query tokens at once: S + K consecutive cells instead of S + T K."""
        self.check_query_tokens(x, query_tokens)
        state, outputs, before = self.init_state(len(x)), [], []
        for block in self.input(x).split(self.block_size, dim=1):
            before.append(state)
            h, state = self._recur(block, state)
            outputs.append(h[:, -1])
        merged = tuple(torch.stack(parts, dim=2).flatten(1, 2) for parts in zip(*before))  # of a batch B T
        predictions, _ = self._recur(self.input(query_tokens).flatten(0, 1), merged)
        return self.output(torch.stack(outputs, dim=1)), self.output(predictions).unflatten(0, query_tokens.shape[:2])

    def _recur(self, h: Tensor, state: State) -> tuple[Tensor, State]:
        """The cells, in the number format of their parameters under autocast too: errors would add up over the
        tokens."""
        with torch.autocast(h.device.type, enabled=False):
            is_lstm = self.cell is nn.LSTM
            h, after = self.rnn(h.to(self.output.weight.dtype), state if is_lstm else state[0])
        return h, tuple(after) if is_lstm else (after,)


class LSTMBackbone(RecurrentBackbone):
    cell = nn.LSTM


class GRUBackbone(RecurrentBackbone):
    cell = nn.GRU
