"""Segments prioritised by their last losses (M3's world model)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.replay.buffer import ReplayBuffer
from tokenworlds.replay.priorities import PriorityTree, perturbed
from tokenworlds.replay.sampling import Sampler, count_segments

NEW = 10.0  # priority of a segment that was not sampled yet; losses are far below
SPARSE = 64  # a batch is small among so many times as many segments


@dataclass(eq=False)
class PrioritisedSampler(Sampler):
    """A part of every batch by priority, the rest uniformly.

    ceil((1 - u) B) of B segments are sampled by softmax(priorities) without replacement, the others uniformly without
    replacement among the remaining ones; then they are shuffled, because every member of M3's ensemble learns from a
    quarter of the batch. A priority is the last loss of its segment.

    The segments are those of ``SegmentSampler`` anchored at the start; the number of a segment is the buffer row of its
    first step, which does not change when episodes grow. While there are fewer segments than a batch, all are sampled
    with replacement, so that a batch keeps its size; the largest of a segment's losses then becomes its priority.

    With a ``lag`` batches are sampled so many batches ahead and losses go to the segments sampled last, the wrong ones:
    this is what two loader workers do in the published runs on Atari and DMC (lag 4). As there, every epoch begins with
    nothing sampled ahead.
    """

    buffer: ReplayBuffer
    _: KW_ONLY
    uniform_fraction: float
    lag: int

    def __post_init__(self) -> None:
        self._by_priority = math.ceil(round((1 - self.uniform_fraction) * self.count, 6))  # 3 of 10 at 0.7, not 4
        self._tree = PriorityTree(self.buffer.device)
        self._segments = torch.zeros(0, dtype=torch.int64, device=self.buffer.device)  # their numbers
        self._latest = self._segments  # numbers of the batch sampled last
        self._ahead: deque[Tensor] = deque()  # numbers of batches sampled, but not yet returned

    def refresh(self, epoch: int) -> None:
        """Enter the new segments.

        Raises:
            UserError: no episode is longer than the context.
        """
        count_segments(self.buffer, self.context)
        self._tree.reserve(self.buffer.capacity + 1)
        absent = torch.nonzero(self._priorities[1:] == -math.inf).squeeze(1) + 1
        episodes, offsets = self.buffer.locate(absent)
        new = absent[offsets + self.context < self.buffer.lengths[episodes]]
        self._tree.update(new, torch.full_like(new, NEW, dtype=torch.float64))
        self._segments = torch.nonzero(self._priorities > -math.inf).squeeze(1)
        self._ahead.clear()

    @property
    def _priorities(self) -> Float[Tensor, "rows"]:
        """Priorities by number; -inf where there is no segment."""
        return self._tree.leaves[: self.buffer.rows]

    def priorities(self) -> Float[Tensor, "segments"]:
        """Priorities of all segments, in the order of their numbers."""
        return self._tree.leaves[self._segments]

    def rows(self) -> Int[Tensor, "B T"]:
        while len(self._ahead) <= self.lag:
            self._latest = self._choose()
            self._ahead.append(self._latest)
        return self.rows_of(self._ahead.popleft())

    def rows_of(self, numbers: Int[Tensor, "B"]) -> Int[Tensor, "B T"]:
        """Rows of the segments with these numbers."""
        return self.buffer.segment_rows(*self.buffer.locate(numbers), self.length)

    def update_priorities(self, losses: Float[Tensor, "B"]) -> None:
        self._tree.update(self._latest, losses.detach())

    def _choose(self) -> Int[Tensor, "B"]:
        """Numbers of a batch's segments."""
        if len(self._segments) < self.count:
            return self._choose_repeatedly()
        first = self._tree.sample(self._by_priority, self.generator)
        is_sparse = len(self._segments) >= SPARSE * self.count
        others = self._candidates(first) if is_sparse else self._others(first)
        return self._shuffled(_first_distinct(torch.cat([first, others]), self.count))

    def _others(self, taken: Int[Tensor, "k"]) -> Int[Tensor, "n"]:
        """Segments that are not taken, uniformly without replacement, by random keys for all."""
        keys = torch.rand(len(self._segments), generator=self.generator, dtype=torch.float64, device=self.buffer.device)
        keys.index_fill_(0, torch.searchsorted(self._segments, taken), -1.0)
        return self._segments[keys.topk(self.count - len(taken)).indices]

    def _candidates(self, taken: Int[Tensor, "k"]) -> Int[Tensor, "n"]:
        """Segments sampled uniformly with replacement. The first r of them that neither are taken nor occurred
        before are
        r of the others without replacement, and 2r + 16 suffice: a candidate is of no use with probability 1/64 at
        most, so fewer than r are of use with probability 2^(2r + 16) 64^-(r + 17) <= 2^-86 at most."""
        count = 2 * (self.count - len(taken)) + 16
        places = torch.randint(len(self._segments), (count,), generator=self.generator, device=self.buffer.device)
        return self._segments[places]

    def _choose_repeatedly(self) -> Int[Tensor, "B"]:
        """Sample with replacement: the largest of perturbed priorities is a sample, and so is the largest noise."""
        priorities = self._tree.leaves[self._segments].expand(self.count, -1)
        is_uniform = torch.arange(self.count, device=self.buffer.device) >= self._by_priority
        weights = torch.where(is_uniform[:, None], 0.0, priorities)
        places = perturbed(weights, self.generator).argmax(dim=1)
        return self._shuffled(self._segments[places])

    def _shuffled(self, numbers: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
        return numbers[torch.randperm(len(numbers), generator=self.generator, device=self.buffer.device)]

    def state(self) -> dict[str, Tensor]:
        """The published checkpoints lack the priorities: a resumed run begins with all of them at 10."""
        return {"priorities": self._priorities}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        priorities = tensors["priorities"].to(self.buffer.device)
        self._tree.reserve(self.buffer.capacity + 1)
        self._tree.update(torch.arange(len(priorities), device=self.buffer.device), priorities)


def _first_distinct(values: Int[Tensor, "n"], count: int) -> Int[Tensor, "B"]:
    """The first ``count`` different values, in their order."""
    is_repeat = (values[:, None] == values).tril(-1).any(dim=1)
    return values[is_repeat.to(torch.int8).argsort(stable=True)[:count]]
