"""What the frozen tokenizer makes of stored steps, computed once an epoch instead of at every draw.

The tokenizer is frozen while the world model and the policy train, so a frame's tokens and its reconstruction, or the
delta tokens of a transition, do not change between two draws. At published sizes an epoch of IRIS or REM draws each
stored frame about five times, early epochs far more often; where reconstructions are drawn less often than there are
stored frames, they are decoded at the draw instead. Code vectors are looked up at the draw: a table of all of them
would be larger than the frames.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.agents.base import perception_chunk
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import PolicyInput
from tokenworlds.replay import ReplayBuffer, Segments


class PerceptionCache:
    """Tokens (rows, S) and reconstructions (rows, C, Y, X), float32, of a buffer's rows, the padding row included."""

    def __init__(self, buffer: ReplayBuffer, agent: TokenAgent) -> None:
        self._buffer, self._agent = buffer, agent
        self.chunk = perception_chunk(buffer.device)
        layout = agent.tokenizer.layout
        largest = max(size for modality in layout.modalities for size in modality.vocab_sizes)
        # Craftax has 444 symbols an observation and a million observations: no eight bytes for each
        kept = torch.int16 if largest <= torch.iinfo(torch.int16).max else torch.int32
        self._tokens = torch.zeros(0, layout.num_symbols, dtype=kept, device=buffer.device)
        self._seen: Tensor | None = None
        self._updates = -1  # of the tokenizer, when the rows below ``_encoded`` were encoded
        self._encoded = 0
        self._decoded = 0

    @torch.no_grad()
    def refresh_tokens(self, tokenizer_updates: int) -> None:
        """Encode every frame with the tokenizer as it is now: all of them after it was trained, else those that are
        new."""
        if tokenizer_updates != self._updates:
            self._updates, self._encoded, self._decoded, self._seen = tokenizer_updates, 0, 0, None
        self._tokens = _enlarged(self._tokens, self._buffer.capacity + 1)
        for rows in self._chunks(self._encoded):
            self._tokens[rows] = self._agent.tokenizer.encode(self._buffer.observations(rows))
        self._encoded = self._buffer.rows

    @torch.no_grad()
    def refresh_seen(self, tokenizer_updates: int, draws: int) -> None:
        """Decode every frame likewise, if more than that many are about to be drawn."""
        self.refresh_tokens(tokenizer_updates)
        if draws <= self._buffer.rows or self._agent.policy_input is not PolicyInput.pixels:
            self._seen, self._decoded = None, 0
            return
        if self._seen is None:
            self._seen = torch.zeros(0, *self._agent.see(self._tokens[:1].long()).shape[1:], device=self._buffer.device)
        self._seen = _enlarged(self._seen, self._buffer.capacity + 1)
        for rows in self._chunks(self._decoded):
            self._seen[rows] = self._agent.see(self._tokens[rows].long()).float()
        self._decoded = self._buffer.rows

    def _chunks(self, first: int) -> list[slice]:
        """Chunks that hold the rows from ``first`` on, always cut at the same rows: rounding may depend on a chunk's
        size, and a resumed run that computes them all at once has to find the same bits."""
        starts = range(first - first % self.chunk, self._buffer.rows, self.chunk) if first < self._buffer.rows else ()
        return [slice(start, min(start + self.chunk, self._buffer.rows)) for start in starts]

    def tokens(self, rows: Int[Tensor, "*B"]) -> Int[Tensor, "*B S"]:
        return self._tokens[rows].long()

    @torch.no_grad()
    def seen(self, rows: Int[Tensor, "B T"]) -> Tensor:
        """What the policy sees of these observations, (B, T, *seen)."""
        flat = rows.flatten()
        frames = self._agent.see(self.tokens(flat)) if self._seen is None else self._seen.index_select(0, flat)
        seen: Tensor = frames.unflatten(0, rows.shape)
        return seen


class TransitionCache:
    """Delta tokens of all stored transitions where fewer of them are stored than are about to be drawn; else the drawn
    ones are encoded at the draw. Both in the arithmetic that is given, whatever surrounds the call; by default in the
    surrounding one.

    Segments reach beyond their episodes, so two kinds of transitions touch padding: from the black frame into the first
    frame of an episode, and from the last one, whose successor may still come, into the black frame.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        agent: DeltaAgent,
        arithmetic: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._buffer, self._agent, self._arithmetic = buffer, agent, arithmetic
        self._chunk = perception_chunk(buffer.device)
        self._updates = -1  # of the tokenizer, when the tokens below were made
        self._is_filled = False
        self._forget()

    def _forget(self) -> None:
        """Nothing is known."""
        device = self._buffer.device
        self._successors = torch.zeros(0, dtype=torch.int64, device=device)
        self._begun = 0  # episodes whose first frame has been entered
        self._leaving = torch.zeros(0, self._agent.num_tokens, dtype=torch.int64, device=device)  # a row
        self._entering = torch.zeros_like(self._leaving)  # a row that begins an episode

    @torch.no_grad()
    def refresh(self, tokenizer_updates: int, draws: int) -> None:
        """Encode what has changed since the last call, if more than the stored transitions are about to be drawn."""
        if tokenizer_updates != self._updates:
            self._forget()
        self._updates, self._is_filled = tokenizer_updates, draws > self._buffer.rows
        if not self._is_filled:
            self._forget()
            return
        known, successors = len(self._successors), self._buffer.successors()
        rows = torch.arange(len(successors), device=successors.device)
        self._leaving, self._entering = (_enlarged(some, len(rows)) for some in (self._leaving, self._entering))
        is_stale = rows >= known
        is_stale[:known] |= successors[:known] != self._successors
        for number in (rows[is_stale] // self._chunk).unique().tolist():  # the same cuts, and rounding, after a resume
            chunk = rows[number * self._chunk : (number + 1) * self._chunk]
            self._leaving[chunk] = self._encode(chunk, successors[chunk])
        first = torch.ones_like(rows, dtype=torch.bool).index_fill(0, successors, False).nonzero().squeeze(-1)
        first = first[first > 0]  # rows that begin an episode
        if len(first) > self._begun:
            for chunk in first.split(self._chunk)[self._begun // self._chunk :]:
                self._entering[chunk] = self._encode(torch.zeros_like(chunk), chunk)
        self._successors, self._begun = successors, len(first)

    def _encode(self, before: Int[Tensor, "N"], after: Int[Tensor, "N"]) -> Int[Tensor, "N K"]:
        pairs = self._buffer.read(torch.stack([before, after], dim=1))
        with self._arithmetic():
            return self._agent.tokens(pairs.observations["image"], pairs.actions[:, :1]).squeeze(1)

    @torch.no_grad()
    def tokens(self, segments: Segments, frames: Float[Tensor, "B T C Y X"]) -> Int[Tensor, "B T1 K"]:
        """Of the transitions between a segment's steps; ``frames`` are its pictures as floats."""
        if not self._is_filled:
            with self._arithmetic():
                return self._agent.tokens(frames, segments.actions[:, :-1])
        before, after = segments.rows[:, :-1], segments.rows[:, 1:]
        is_entering = (before == 0) & (after > 0)
        return torch.where(is_entering.unsqueeze(-1), self._entering[after], self._leaving[before])


def _enlarged(values: Tensor, rows: int) -> Tensor:
    """``values`` with room for that many rows."""
    return (
        torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])]) if len(values) < rows else values
    )
