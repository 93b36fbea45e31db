"""Delta tokens of stored transitions, computed once an epoch instead of at every draw (see ``token_cache``)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.agents.chunks import chunk_size, enlarged
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.replay import ReplayBuffer, Segments


class TransitionCache:
    """Delta tokens of all stored transitions where fewer of them are stored than are about to be drawn; else the drawn
    ones are encoded at the draw. Both under ``autocast``; by default under that of the caller.

    Segments reach beyond their episodes, so two kinds of transitions involve padding: from the black frame into the
    first frame of an episode, and from the last one, whose successor may still come, into the black frame.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        agent: DeltaAgent,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._buffer, self._agent, self._autocast = buffer, agent, autocast
        self._chunk = chunk_size(buffer.device)
        self._updates = -1  # of the tokenizer, when the tokens below were made
        self._is_filled = False
        self._clear()

    def _clear(self) -> None:
        device = self._buffer.device
        self._successors = torch.zeros(0, dtype=torch.int64, device=device)
        self._begun = 0  # episodes whose first transition is encoded
        self._leaving = torch.zeros(0, self._agent.num_tokens, dtype=torch.int64, device=device)  # a row
        self._entering = torch.zeros_like(self._leaving)  # a row that begins an episode

    @torch.no_grad()
    def refresh(self, tokenizer_updates: int, draws: int) -> None:
        """Encode what has changed since the last call, if more than the stored transitions are about to be drawn."""
        self._is_filled = draws > self._buffer.rows
        if tokenizer_updates != self._updates or not self._is_filled:
            self._clear()
        self._updates = tokenizer_updates
        if not self._is_filled:
            return
        known, successors = len(self._successors), self._buffer.successors()
        rows = torch.arange(len(successors), device=successors.device)
        self._leaving, self._entering = (enlarged(some, len(rows)) for some in (self._leaving, self._entering))
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
        with self._autocast():
            return self._agent.tokens(pairs.observations["image"], pairs.actions[:, :1]).squeeze(1)

    @torch.no_grad()
    def tokens(self, segments: Segments, frames: Float[Tensor, "B T C Y X"]) -> Int[Tensor, "B T1 K"]:
        """Tokens of the transitions between a segment's steps; ``frames`` are its pictures as floats."""
        if not self._is_filled:
            with self._autocast():
                return self._agent.tokens(frames, segments.actions[:, :-1])
        before, after = segments.rows[:, :-1], segments.rows[:, 1:]
        is_entering = (before == 0) & (after > 0)
        return torch.where(is_entering.unsqueeze(-1), self._entering[after], self._leaving[before])
