"""What the frozen tokenizer makes of every stored frame, computed once an epoch instead of at every draw.

The tokenizer is frozen while the world model and the policy train, so a frame's tokens and its reconstruction do not change between two draws. At
published sizes an epoch draws each stored frame about five times, early epochs far more often; where reconstructions are drawn less often than there are
stored frames, they are decoded at the draw instead.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.agent import Agent, perception_chunk
from tokenworlds.replay.buffer import ReplayBuffer


class PerceptionCache:
    """Tokens (rows, K) and reconstructions (rows, C, Y, X), float32, of a buffer's rows, the padding row included."""

    def __init__(self, buffer: ReplayBuffer, agent: Agent) -> None:
        self._buffer, self._agent = buffer, agent
        self.chunk = perception_chunk(buffer.device)
        self._tokens = torch.zeros(0, agent.tokenizer.layout.num_tokens, dtype=torch.int64, device=buffer.device)
        self._seen: Tensor | None = None
        self._stamp: object = None

    @torch.no_grad()
    def refresh_tokens(self, tokenizer_updates: int) -> None:
        """Encode every frame with the tokenizer as it is now, unless neither it nor the buffer has changed since the last time."""
        stamp = (tokenizer_updates, self._buffer.rows)
        if stamp == self._stamp:
            return
        self._stamp, self._seen = stamp, None
        if len(self._tokens) <= self._buffer.capacity:
            self._tokens = self._tokens.new_zeros(self._buffer.capacity + 1, self._tokens.shape[1])
        for rows in self._chunks():
            self._tokens[rows] = self._agent.tokenizer.encode(self._buffer.observations(rows))

    @torch.no_grad()
    def refresh_seen(self, tokenizer_updates: int, draws: int) -> None:
        """Decode every frame, if more than that many are about to be drawn."""
        self.refresh_tokens(tokenizer_updates)
        if draws <= self._buffer.rows or self._seen is not None:
            return
        first = self._agent.decode(self._tokens[:1])
        self._seen = torch.zeros(self._buffer.rows, *first.shape[1:], device=self._buffer.device)
        for rows in self._chunks():
            self._seen[rows] = self._agent.decode(self._tokens[rows]).float()

    def _chunks(self) -> list[slice]:
        return [slice(start, min(start + self.chunk, self._buffer.rows)) for start in range(0, self._buffer.rows, self.chunk)]

    def tokens(self, rows: Int[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
        return self._tokens[rows]

    @torch.no_grad()
    def seen(self, rows: Int[Tensor, "B T"]) -> Float[Tensor, "B T C Y X"]:
        """What the policy sees of these frames."""
        flat = rows.flatten()
        if self._seen is not None:
            frames = self._seen.index_select(0, flat)
        else:
            frames = torch.cat([self._agent.decode(some) for some in self._tokens[flat].split(self.chunk)])
        seen: Tensor = frames.unflatten(0, rows.shape)
        return seen
