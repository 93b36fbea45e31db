"""Tokens of stored observations, computed once an epoch instead of at every draw.

The tokenizer is frozen while world model and policy train, so a frame's tokens and its reconstruction do not change
between two draws. At published sizes an epoch of IRIS or REM draws each stored frame about five times, early epochs far
more often; where reconstructions are drawn less often than there are stored frames, they are decoded at the draw
instead. Code vectors are looked up at the draw: a table of all of them would be larger than the frames.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from tokenworlds.agents.chunks import chunk_size, enlarged
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import PolicyInput
from tokenworlds.replay import ReplayBuffer


class TokenCache:
    """Tokens (rows, S) and reconstructions (rows, C, Y, X), float32, of a buffer's rows, the padding row included."""

    def __init__(self, buffer: ReplayBuffer, agent: TokenAgent) -> None:
        self._buffer, self._agent = buffer, agent
        self.chunk = chunk_size(buffer.device)
        layout = agent.tokenizer.layout
        largest = max(size for modality in layout.modalities for size in modality.vocab_sizes)
        # Craftax has 444 symbols an observation and a million observations: no eight bytes for each
        dtype = torch.int16 if largest <= torch.iinfo(torch.int16).max else torch.int32
        self._tokens = torch.zeros(0, layout.num_symbols, dtype=dtype, device=buffer.device)
        self._inputs: Tensor | None = None
        self._updates = -1  # of the tokenizer, when the rows below ``_encoded`` were encoded
        self._encoded = 0
        self._decoded = 0

    @torch.no_grad()
    def refresh_tokens(self, tokenizer_updates: int) -> None:
        """Encode with the tokenizer as it is now: all frames after it was trained, else those that are new."""
        if tokenizer_updates != self._updates:
            self._updates, self._encoded, self._decoded, self._inputs = tokenizer_updates, 0, 0, None
        self._tokens = enlarged(self._tokens, self._buffer.capacity + 1)
        for rows in self._chunks(self._encoded):
            self._tokens[rows] = self._agent.tokenizer.encode(self._buffer.observations(rows))
        self._encoded = self._buffer.rows

    @torch.no_grad()
    def refresh_inputs(self, tokenizer_updates: int, draws: int) -> None:
        """Encode and decode likewise; decode only if more than the stored frames are about to be drawn."""
        self.refresh_tokens(tokenizer_updates)
        if draws <= self._buffer.rows or self._agent.input is not PolicyInput.pixels:
            self._inputs, self._decoded = None, 0
            return
        if self._inputs is None:
            shape = self._agent.policy_input(self._tokens[:1].long()).shape[1:]
            self._inputs = torch.zeros(0, *shape, device=self._buffer.device)
        self._inputs = enlarged(self._inputs, self._buffer.capacity + 1)
        for rows in self._chunks(self._decoded):
            self._inputs[rows] = self._agent.policy_input(self._tokens[rows].long()).float()
        self._decoded = self._buffer.rows

    def _chunks(self, first: int) -> list[slice]:
        """Chunks that hold the rows from ``first`` on, always cut at the same rows: rounding may depend on a chunk's
        size, and a resumed run that computes them all at once has to find the same bits."""
        starts = range(first - first % self.chunk, self._buffer.rows, self.chunk) if first < self._buffer.rows else ()
        return [slice(start, min(start + self.chunk, self._buffer.rows)) for start in starts]

    def tokens(self, rows: Int[Tensor, "*B"]) -> Int[Tensor, "*B S"]:
        return self._tokens[rows].long()

    @torch.no_grad()
    def policy_inputs(self, rows: Int[Tensor, "B T"]) -> Tensor:
        """Policy inputs (B, T, ...) of these rows."""
        flat, cached = rows.flatten(), self._inputs
        found = self._agent.policy_input(self.tokens(flat)) if cached is None else cached.index_select(0, flat)
        return found.unflatten(0, rows.shape)
