"""Which segments a batch is made of.

IRIS draws an episode uniformly, whatever its length, and a place in it, with replacement. REM draws uniformly over all
segments of all episodes, without replacement, pass after pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from tokenworlds.config import Sampling
from tokenworlds.errors import UserError
from tokenworlds.replay.buffer import ReplayBuffer, Segments

Anchor = Literal["start", "end"]  # whether the first step of a segment is real or the last; padding is at the other end


class Sampler(Protocol):
    """Batches of training segments."""

    def restart(self) -> None:
        """Take notice of what the buffer holds now; called before an epoch's updates."""

    def draw(self, *, look: bool = True) -> Segments:
        """The next batch; without ``look`` the observations are left out."""


class EpisodeSampler:
    """A uniform episode, a uniform place in it where ``context`` + 1 steps are real (all, in a shorter episode)."""

    def __init__(
        self,
        buffer: ReplayBuffer,
        count: int,
        length: int,
        generator: torch.Generator,
        *,
        anchor: Anchor = "start",
        context: int = 0,
    ) -> None:
        self._sample = {"start": sample_from_start, "end": sample_from_end}[anchor]
        self._arguments = (buffer, count, length, generator)
        self._least = context + 1

    def restart(self) -> None:
        """Nothing to do: every draw looks at the whole buffer."""

    def draw(self, *, look: bool = True) -> Segments:
        return self._sample(*self._arguments, least=self._least, look=look)


class SegmentSampler:
    """All segments with at least ``context`` + 1 real steps, in random order, each once a pass.

    An episode of n steps has max(0, n - context) of them. Segment i of an episode covers its steps [i, i + length),
    padded on the right, or, anchored at the end, [context + 1 + i - length, context + 1 + i), padded on the left. The
    last batch of a pass may be smaller; then a new order is drawn.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        count: int,
        length: int,
        generator: torch.Generator,
        *,
        anchor: Anchor = "start",
        context: int = 0,
    ) -> None:
        self._buffer, self._count, self._length, self._generator = buffer, count, length, generator
        self._context = context
        self._first = 0 if anchor == "start" else context + 1 - length  # where segment 0 starts
        self._order: Int[Tensor, "segments"] | None = None
        self._position = 0

    def restart(self) -> None:
        """Number the segments that the buffer holds now, and begin a pass over them.

        Raises:
            UserError: no episode is longer than the context.
        """
        lengths = [self._buffer.episode(index)[1] for index in range(self._buffer.num_episodes)]
        total = sum(max(0, length - self._context) for length in lengths)
        if total == 0:
            raise UserError(
                f"no stored episode is longer than the context of {self._context} steps (the longest has "
                f"{max(lengths, default=0)}); collect for more epochs before training starts."
            )
        counts = (self._buffer.lengths - self._context).clamp(min=0)
        self._stops = counts.cumsum(0)  # first number after those of an episode
        self._starts = self._stops - counts
        self._shuffle(total)

    def draw(self, *, look: bool = True) -> Segments:
        if self._order is None:
            self.restart()
        assert self._order is not None
        if self._position >= len(self._order):
            self._shuffle(len(self._order))
        chosen = self._order[self._position : self._position + self._count]
        self._position += self._count
        return self.take(chosen, look=look)

    def take(self, numbers: Int[Tensor, "B"], *, look: bool = True) -> Segments:
        """The segments with these numbers: episode after episode, from its first step to its last."""
        episodes = torch.searchsorted(self._stops, numbers, right=True)
        starts = numbers - self._starts[episodes] + self._first
        return self._buffer.segments(episodes, starts, self._length, look=look)

    def _shuffle(self, total: int) -> None:
        self._order = torch.randperm(total, generator=self._generator, device=self._buffer.device)
        self._position = 0


SAMPLERS: dict[Sampling, type[EpisodeSampler] | type[SegmentSampler]] = {
    Sampling.episodes: EpisodeSampler,
    Sampling.segments: SegmentSampler,
}


def sample_from_start(
    buffer: ReplayBuffer, count: int, length: int, generator: torch.Generator, *, least: int = 1, look: bool = True
) -> Segments:
    """``count`` segments whose first step is real, start ~ U{0..len-least}, padding on the right."""
    episodes, lengths = _draw_episodes(buffer, count, generator)
    starts = _uniform_below((lengths - least + 1).clamp(min=1), generator)
    return buffer.segments(episodes, starts, length, look=look)


def sample_from_end(
    buffer: ReplayBuffer, count: int, length: int, generator: torch.Generator, *, least: int = 1, look: bool = True
) -> Segments:
    """``count`` segments whose last step is real, stop ~ U{least..len}, padding on the left; of episodes with fewer
    than ``least`` steps, all of them."""
    episodes, lengths = _draw_episodes(buffer, count, generator)
    spare = (lengths - least).clamp(min=0)
    stops = lengths - spare + _uniform_below(spare + 1, generator)
    return buffer.segments(episodes, stops - length, length, look=look)


def traverse(buffer: ReplayBuffer, count: int, length: int, context: int = 0) -> Iterator[Segments]:
    """Every episode in chunks of ``length`` (the last one padded), at most ``count`` chunks a batch of one episode.

    The first ``context`` steps of a chunk are the last ones of the chunk before: so every step but the first
    ``context`` of an episode stands behind such a context exactly once.
    """
    for index in range(buffer.num_episodes):
        steps = buffer.episode(index)[1]
        if steps > context:
            starts = torch.arange(0, steps - context, length - context, device=buffer.device)
            for some in starts.split(count):
                yield buffer.segments(torch.full_like(some, index), some, length)


def _draw_episodes(buffer: ReplayBuffer, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    episodes = torch.randint(buffer.num_episodes, (count,), generator=generator, device=buffer.device)
    return episodes, buffer.lengths[episodes]


def _uniform_below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """One integer uniform in {0..limit-1} for each limit."""
    uniforms = torch.rand(limits.shape, generator=generator, device=limits.device, dtype=torch.float64)
    return torch.minimum((uniforms * limits).long(), limits - 1)
