"""Samplers of training batches.

IRIS samples an episode uniformly, whatever its length, and a place in it, with replacement. REM samples uniformly over
all segments of all episodes, without replacement, pass after pass. Delta-IRIS prefers the episodes that were used
least, and samples a place in them. M3's sampling by the segments' losses is in ``prioritised``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.config import Sampling
from tokenworlds.errors import UserError
from tokenworlds.replay.buffer import ReplayBuffer, Segments, Steps

Anchor = Literal["start", "end"]  # whether the first step of a segment is real or the last; padding is at the other end


@dataclass(eq=False)
class Sampler(ABC):
    """Batches of ``count`` training segments of ``length`` steps, behind ``context`` steps at least."""

    buffer: Steps
    count: int
    length: int
    generator: torch.Generator
    _: KW_ONLY
    anchor: Anchor = "start"
    context: int = 0

    @abstractmethod
    def refresh(self, epoch: int) -> None:
        """Refresh the index after data was added; called before the updates of that epoch of the run (from 1)."""

    @abstractmethod
    def rows(self) -> Int[Tensor, "B T"]:
        """Rows of the next batch in the buffer."""

    def sample(self, *, with_observations: bool = True) -> Segments:
        """The next batch, on request without its observations."""
        return self.buffer.read(self.rows(), with_observations=with_observations)

    def update_priorities(self, losses: Float[Tensor, "B"]) -> None:
        """Use the losses of the segments sampled last; may be left out."""
        return

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint, besides the generator's."""
        return {}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue where ``state`` was taken; the buffer has to be loaded before."""
        assert not tensors


class EpisodeSampler(Sampler):
    """A uniform episode, a uniform place in it where l = ``context`` + 1 steps are real (all, in a shorter episode).

    Anchored at the start, the first step is real, start ~ U{0..len-l}, with padding on the right; anchored at the end,
    the last one, stop ~ U{l..len}, with padding on the left.
    """

    def refresh(self, epoch: int) -> None:
        self.buffer.settle()

    def rows(self) -> Int[Tensor, "B T"]:
        device = self.buffer.device
        episodes = torch.randint(self.buffer.num_episodes, (self.count,), generator=self.generator, device=device)
        lengths = self.buffer.lengths[episodes]
        spare = (lengths - self.context - 1).clamp(min=0)
        starts = _uniform_below(spare + 1, self.generator)
        if self.anchor == "end":
            starts = lengths - spare + starts - self.length
        return self.buffer.segment_rows(episodes, starts, self.length)


@dataclass(eq=False)
class SegmentSampler(Sampler):
    """All segments with at least ``context`` + 1 real steps, in random order, each once a pass.

    An episode of n steps has max(0, n - context) of them. Segment i of an episode covers its steps [i, i + length),
    padded on the right, or, anchored at the end, [context + 1 + i - length, context + 1 + i), padded on the left. The
    last batch of a pass may be smaller; then a new order is sampled. With ``drop_last`` (M3) all batches are full: the
    remainder of a pass is left out, and where the segments are fewer than a batch, it holds them several times.
    """

    drop_last: bool = False
    _order: Int[Tensor, "segments"] | None = None

    def refresh(self, epoch: int) -> None:
        """Number the segments in the buffer and begin a pass over them.

        Raises:
            UserError: no episode is longer than the context.
        """
        total = count_segments(self.buffer, self.context)
        counts = (self.buffer.lengths - self.context).clamp(min=0)
        self._stops = counts.cumsum(0)  # first number after those of an episode
        self._starts = self._stops - counts
        self._shuffle(total)

    def rows(self) -> Int[Tensor, "B T"]:
        if self._order is None:
            self.refresh(1)
        assert self._order is not None
        if self._position + (self.count if self.drop_last else 1) > len(self._order):
            self._shuffle(self._total)
        chosen = self._order[self._position : self._position + self.count]
        self._position += self.count
        return self.rows_of(chosen)

    def rows_of(self, numbers: Int[Tensor, "B"]) -> Int[Tensor, "B T"]:
        """Rows of the segments with these numbers: episode after episode, from its first step to its last."""
        episodes = torch.searchsorted(self._stops, numbers, right=True)
        first = 0 if self.anchor == "start" else self.context + 1 - self.length  # where segment 0 starts
        starts = numbers - self._starts[episodes] + first
        return self.buffer.segment_rows(episodes, starts, self.length)

    def _shuffle(self, total: int) -> None:
        passes = -(-self.count // total) if self.drop_last else 1
        orders = [torch.randperm(total, generator=self.generator, device=self.buffer.device) for _ in range(passes)]
        self._order, self._total, self._position = torch.cat(orders), total, 0


@dataclass(eq=False)
class LeastUsedSampler(Sampler):
    """An episode with probability proportional to (1 + n)^-exponent, n being how often it was sampled before; a uniform
    step t in it, whatever the episode's length; and a segment with t at a uniform place in it.

    Anchored at the start, the segment is [t - U{0..L-1}, + L), padded on either side. Anchored at the end, it stops at
    min(t + 1 + U{0..L-1}, end of the episode): its last step is real. The uses in the run's first epoch are not
    counted. The published code counts about eight batches late, because its loaders sample ahead.
    """

    _: KW_ONLY
    exponent: float

    def __post_init__(self) -> None:
        self._uses = torch.zeros(0, dtype=torch.int64, device=self.buffer.device)
        self._is_counting = False

    def refresh(self, epoch: int) -> None:
        self._is_counting = epoch > 1
        self.buffer.settle()

    @property
    def uses(self) -> Int[Tensor, "episodes"]:
        """How often each stored episode was sampled; 0 for those stored since the last batch."""
        added = self.buffer.num_episodes - len(self._uses)
        if added:
            self._uses = torch.cat([self._uses, self._uses.new_zeros(added)])
        return self._uses

    def weights(self) -> Float[Tensor, "episodes"]:
        """Unnormalised probabilities, in float64: those of old episodes fall below 1e-10 of the others'."""
        return (1 + self.uses).double() ** -self.exponent

    def rows(self) -> Int[Tensor, "B T"]:
        episodes = _weighted_choice(self.weights(), self.count, self.generator)
        steps = _uniform_below(self.buffer.lengths[episodes], self.generator)
        places = torch.randint(self.length, (self.count,), generator=self.generator, device=self.buffer.device)
        if self._is_counting:
            self._uses = self._uses.index_add(0, episodes, torch.ones_like(episodes))
        return self.rows_of(episodes, steps, places)

    def rows_of(
        self, episodes: Int[Tensor, "B"], steps: Int[Tensor, "B"], places: Int[Tensor, "B"]
    ) -> Int[Tensor, "B T"]:
        """Rows of the segments of these episodes around these steps, shifted by ``places`` in {0..L-1}."""
        if self.anchor == "start":
            starts = steps - places
        else:
            starts = torch.minimum(self.buffer.lengths[episodes], steps + 1 + places) - self.length
        return self.buffer.segment_rows(episodes, starts, self.length)

    def state(self) -> dict[str, Tensor]:
        return {"uses": self.uses}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self._uses = tensors["uses"].to(self.buffer.device)


SAMPLERS: dict[Sampling, type[EpisodeSampler] | type[SegmentSampler]] = {
    Sampling.episodes: EpisodeSampler,
    Sampling.segments: SegmentSampler,
    Sampling.prioritised: SegmentSampler,  # for components whose segments have no priorities
}


def sample_from_end(
    buffer: ReplayBuffer, count: int, length: int, generator: torch.Generator, *, least: int = 1
) -> Segments:
    """Segments of uniform episodes whose last step is real, with at least ``least`` real steps where there are."""
    return EpisodeSampler(buffer, count, length, generator, anchor="end", context=least - 1).sample()


def count_segments(buffer: Steps, context: int) -> int:
    """Number of segments with at least ``context`` + 1 real steps, without asking the device.

    Raises:
        UserError: none.
    """
    lengths = [buffer.episode_length(index) for index in range(buffer.num_episodes)]
    total = sum(max(0, length - context) for length in lengths)
    if total == 0:
        raise UserError(
            f"no stored episode is longer than the context of {context} steps (the longest has "
            f"{max(lengths, default=0)}); collect for more epochs before training starts."
        )
    return total


def _weighted_choice(weights: Float[Tensor, "episodes"], count: int, generator: torch.Generator) -> Int[Tensor, "B"]:
    """``count`` indices with replacement, by inversion of the cumulated weights."""
    cumulated = weights.cumsum(0)
    uniforms = torch.rand(count, generator=generator, device=weights.device, dtype=weights.dtype)
    indices = torch.searchsorted(cumulated, uniforms * cumulated[-1], right=True)
    return indices.clamp(max=len(weights) - 1)  # rounding may lift a uniform close to 1 to the sum


def _uniform_below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """One integer uniform in {0..limit-1} for each limit."""
    uniforms = torch.rand(limits.shape, generator=generator, device=limits.device, dtype=torch.float64)
    return torch.minimum((uniforms * limits).long(), limits - 1)
