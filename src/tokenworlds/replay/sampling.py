"""Which segments a batch is made of.

IRIS draws an episode uniformly, whatever its length, and a place in it, with replacement. REM draws uniformly over all
segments of all episodes, without replacement, pass after pass. Delta-IRIS draws the episodes that were used least, and
a place in them. M3's draws by the segments' losses are in ``prioritised``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.config import Sampling
from tokenworlds.errors import UserError
from tokenworlds.replay.buffer import ReplayBuffer, Segments

Anchor = Literal["start", "end"]  # whether the first step of a segment is real or the last; padding is at the other end


class Sampler(ABC):
    """Batches of ``count`` training segments of ``length`` steps, behind ``context`` steps at least."""

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
        self._anchor, self._context = anchor, context

    @abstractmethod
    def refresh(self, epoch: int) -> None:
        """Refresh the index after data was added; called before the updates of that epoch of the run (from 1)."""

    @abstractmethod
    def sample(self, *, with_observations: bool = True) -> Segments:
        """The next batch; without ``with_observations`` the observations are left out."""

    def update_priorities(self, losses: Float[Tensor, "B"]) -> None:
        """Take notice of the losses of the segments drawn last; may be left out."""
        return

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold beside the generator."""
        return {}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue where ``state`` was taken; the buffer is to be loaded before."""
        assert not tensors


class EpisodeSampler(Sampler):
    """A uniform episode, a uniform place in it where ``context`` + 1 steps are real (all, in a shorter episode)."""

    def refresh(self, epoch: int) -> None:
        """Every draw looks at the whole buffer."""
        self._buffer.settle()

    def sample(self, *, with_observations: bool = True) -> Segments:
        sample = {"start": sample_from_start, "end": sample_from_end}[self._anchor]
        return sample(
            self._buffer,
            self._count,
            self._length,
            self._generator,
            least=self._context + 1,
            with_observations=with_observations,
        )


class SegmentSampler(Sampler):
    """All segments with at least ``context`` + 1 real steps, in random order, each once a pass.

    An episode of n steps has max(0, n - context) of them. Segment i of an episode covers its steps [i, i + length),
    padded on the right, or, anchored at the end, [context + 1 + i - length, context + 1 + i), padded on the left. The
    last batch of a pass may be smaller; then a new order is drawn. With ``drop_last`` (M3) all batches are full: what
    remains of a pass is left out, and where the segments are fewer than a batch, it goes through them several times.
    """

    _order: Int[Tensor, "segments"] | None = None

    def __init__(
        self,
        buffer: ReplayBuffer,
        count: int,
        length: int,
        generator: torch.Generator,
        *,
        anchor: Anchor = "start",
        context: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(buffer, count, length, generator, anchor=anchor, context=context)
        self._smallest = count if drop_last else 1

    def refresh(self, epoch: int) -> None:
        self._number()

    def _number(self) -> None:
        """Number the segments that the buffer holds now, and begin a pass over them.

        Raises:
            UserError: no episode is longer than the context.
        """
        total = count_segments(self._buffer, self._context)
        counts = (self._buffer.lengths - self._context).clamp(min=0)
        self._stops = counts.cumsum(0)  # first number after those of an episode
        self._starts = self._stops - counts
        self._shuffle(total)

    def sample(self, *, with_observations: bool = True) -> Segments:
        if self._order is None:
            self._number()
        assert self._order is not None
        if self._position + self._smallest > len(self._order):
            self._shuffle(self._total)
        chosen = self._order[self._position : self._position + self._count]
        self._position += self._count
        return self.take(chosen, with_observations=with_observations)

    def take(self, numbers: Int[Tensor, "B"], *, with_observations: bool = True) -> Segments:
        """The segments with these numbers: episode after episode, from its first step to its last."""
        episodes = torch.searchsorted(self._stops, numbers, right=True)
        first = 0 if self._anchor == "start" else self._context + 1 - self._length  # where segment 0 starts
        starts = numbers - self._starts[episodes] + first
        return self._buffer.segments(episodes, starts, self._length, with_observations=with_observations)

    def _shuffle(self, total: int) -> None:
        passes = -(-self._smallest // total)
        orders = [torch.randperm(total, generator=self._generator, device=self._buffer.device) for _ in range(passes)]
        self._order, self._total, self._position = torch.cat(orders), total, 0


class LeastUsedSampler(Sampler):
    """An episode with probability proportional to (1 + n)^-exponent, n being how often it was drawn before; a uniform
    step t in it, whatever the episode's length; and a segment with t at a uniform place in it.

    Anchored at the start, the segment is [t - U{0..L-1}, + L), padded on either side. Anchored at the end, it stops at
    min(t + 1 + U{0..L-1}, end of the episode): its last step is real. The draws of the run's first epoch are not
    counted. The published code counts about eight batches late, because its loaders draw ahead.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        count: int,
        length: int,
        generator: torch.Generator,
        *,
        anchor: Anchor,
        exponent: float,
    ) -> None:
        super().__init__(buffer, count, length, generator, anchor=anchor)
        self._exponent = exponent
        self._uses = torch.zeros(0, dtype=torch.int64, device=buffer.device)
        self._is_counting = False

    def refresh(self, epoch: int) -> None:
        self._is_counting = epoch > 1
        self._buffer.settle()

    @property
    def uses(self) -> Int[Tensor, "episodes"]:
        """How often each stored episode was drawn; 0 for those stored since the last draw."""
        added = self._buffer.num_episodes - len(self._uses)
        if added:
            self._uses = torch.cat([self._uses, self._uses.new_zeros(added)])
        return self._uses

    def weights(self) -> Float[Tensor, "episodes"]:
        """In float64: those of old episodes fall below 1e-10 of the others'."""
        return (1 + self.uses).double() ** -self._exponent

    def sample(self, *, with_observations: bool = True) -> Segments:
        episodes = _draw_weighted(self.weights(), self._count, self._generator)
        steps = _uniform_below(self._buffer.lengths[episodes], self._generator)
        places = torch.randint(self._length, (self._count,), generator=self._generator, device=self._buffer.device)
        if self._is_counting:
            self._uses = self._uses.index_add(0, episodes, torch.ones_like(episodes))
        return self.take(episodes, steps, places, with_observations=with_observations)

    def take(
        self,
        episodes: Int[Tensor, "B"],
        steps: Int[Tensor, "B"],
        places: Int[Tensor, "B"],
        *,
        with_observations: bool = True,
    ) -> Segments:
        """The segments of these episodes around these steps; ``places``, in {0..L-1}, are the draws that shift them."""
        if self._anchor == "start":
            starts = steps - places
        else:
            starts = torch.minimum(self._buffer.lengths[episodes], steps + 1 + places) - self._length
        return self._buffer.segments(episodes, starts, self._length, with_observations=with_observations)

    def state(self) -> dict[str, Tensor]:
        return {"uses": self.uses}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self._uses = tensors["uses"].to(self._buffer.device)


SAMPLERS: dict[Sampling, type[EpisodeSampler] | type[SegmentSampler]] = {
    Sampling.episodes: EpisodeSampler,
    Sampling.segments: SegmentSampler,
    Sampling.prioritised: SegmentSampler,  # for components whose segments have no priorities
}


def count_segments(buffer: ReplayBuffer, context: int) -> int:
    """How many segments with at least ``context`` + 1 real steps there are, without asking the device.

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


def sample_from_start(
    buffer: ReplayBuffer,
    count: int,
    length: int,
    generator: torch.Generator,
    *,
    least: int = 1,
    with_observations: bool = True,
) -> Segments:
    """``count`` segments whose first step is real, start ~ U{0..len-least}, padding on the right."""
    episodes, lengths = _draw_episodes(buffer, count, generator)
    starts = _uniform_below((lengths - least + 1).clamp(min=1), generator)
    return buffer.segments(episodes, starts, length, with_observations=with_observations)


def sample_from_end(
    buffer: ReplayBuffer,
    count: int,
    length: int,
    generator: torch.Generator,
    *,
    least: int = 1,
    with_observations: bool = True,
) -> Segments:
    """``count`` segments whose last step is real, stop ~ U{least..len}, padding on the left; of episodes with fewer
    than ``least`` steps, all of them."""
    episodes, lengths = _draw_episodes(buffer, count, generator)
    spare = (lengths - least).clamp(min=0)
    stops = lengths - spare + _uniform_below(spare + 1, generator)
    return buffer.segments(episodes, stops - length, length, with_observations=with_observations)


def _draw_episodes(buffer: ReplayBuffer, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    episodes = torch.randint(buffer.num_episodes, (count,), generator=generator, device=buffer.device)
    return episodes, buffer.lengths[episodes]


def _draw_weighted(weights: Float[Tensor, "episodes"], count: int, generator: torch.Generator) -> Int[Tensor, "B"]:
    """``count`` indices with replacement, by inversion of the cumulated weights."""
    cumulated = weights.cumsum(0)
    uniforms = torch.rand(count, generator=generator, device=weights.device, dtype=weights.dtype)
    indices = torch.searchsorted(cumulated, uniforms * cumulated[-1], right=True)
    return indices.clamp(max=len(weights) - 1)  # rounding may lift a uniform close to 1 to the sum


def _uniform_below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """One integer uniform in {0..limit-1} for each limit."""
    uniforms = torch.rand(limits.shape, generator=generator, device=limits.device, dtype=torch.float64)
    return torch.minimum((uniforms * limits).long(), limits - 1)
