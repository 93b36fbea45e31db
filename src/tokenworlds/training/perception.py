"""What the frozen tokenizer makes of every stored frame, computed once an epoch instead of at every draw.

The tokenizer is frozen while the world model and the policy train, so a frame's tokens and its reconstruction do not change between two draws; at
published sizes an epoch draws each stored frame about five times, early epochs far more often.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.agent import Agent, perception_chunk
from tokenworlds.replay.buffer import ReplayBuffer


class PerceptionCache:
    """Tokens (rows, K) and reconstructions (rows, C, Y, X), float32, of a buffer's rows, padding row included."""

    def __init__(self, buffer: ReplayBuffer, agent: Agent) -> None:
        self._buffer = buffer
        self._agent = agent
        self._stamp: object = None
        self._tokens: Tensor | None = None
        self._seen: Tensor | None = None

    @torch.no_grad()
    def refresh(self, tokenizer_updates: int) -> None:
        """Recompute everything with the tokenizer as it is now, unless neither it nor the buffer has changed since the last time."""
        buffer, chunk = self._buffer, perception_chunk(self._buffer.device)
        stamp = (tokenizer_updates, buffer.rows)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        for start in range(0, buffer.rows, chunk):
            rows = slice(start, min(start + chunk, buffer.rows))
            tokens, seen = self._agent.perceive(buffer.observations(rows))
            if self._tokens is None or self._seen is None or len(self._tokens) <= buffer.num_steps:
                self._tokens = tokens.new_zeros(buffer.capacity + 1, *tokens.shape[1:])
                self._seen = seen.new_zeros(buffer.capacity + 1, *seen.shape[1:], dtype=torch.float32)
            self._tokens[rows], self._seen[rows] = tokens, seen

    def tokens(self, rows: Int[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
        assert self._tokens is not None, "refresh() comes first"
        return self._tokens[rows]

    def seen(self, rows: Int[Tensor, "B T"]) -> Float[Tensor, "B T C Y X"]:
        assert self._seen is not None, "refresh() comes first"
        return self._seen.index_select(0, rows.flatten()).unflatten(0, rows.shape)
