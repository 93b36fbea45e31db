"""The cost of M3's prioritised replay: the tree of priorities against a softmax over all segments.

    python -m benchmarks.priorities [--segments N ...] [--repetitions N] [--threads N] [--device cuda]

Batches of 32 segments, 10 of them by priority, without reading them: only the choice, and the entry of their losses,
whose cost may grow with the number of stored segments. The plain way is a softmax and ``torch.multinomial`` without
replacement, twice (by priority, and uniformly among the others). Both are timed in turns; a time is the median over
repetitions of 20 calls each. A further line says what an epoch's restart costs once.
"""

from __future__ import annotations

import math
import sys

import torch

from benchmarks.replay import SPEC
from benchmarks.timing import Work, command_line, compare, machine, once, parse
from tokenworlds.replay import PrioritisedSampler, ReplayBuffer

BATCH, UNIFORM = 32, 0.7
EPISODE = 1000  # segments
CALLS = 20


def replay(segments: int, device: torch.device) -> ReplayBuffer:
    """Episodes whose frames are of one pixel; every step begins a segment."""
    buffer = ReplayBuffer(SPEC, segments, device)
    zeros = torch.zeros(EPISODE)
    for _ in range(segments // EPISODE):
        buffer.extend({"image": zeros.view(-1, 1, 1, 1)}, zeros, zeros, zeros, close=True)
    return buffer


class Plain:
    """The same batches, by a softmax over every segment."""

    def __init__(self, priorities: torch.Tensor, by_priority: int, generator: torch.Generator) -> None:
        self._priorities, self._count, self._generator = priorities.clone(), by_priority, generator

    def draw(self) -> torch.Tensor:
        chances = self._priorities.softmax(0)
        first = chances.multinomial(self._count, generator=self._generator)
        others = torch.ones_like(chances).index_fill_(0, first, 0.0)
        both = torch.cat([first, others.multinomial(BATCH - self._count, generator=self._generator)])
        return both[torch.randperm(BATCH, generator=self._generator, device=both.device)]

    def update(self, items: torch.Tensor, losses: torch.Tensor) -> None:
        self._priorities[items] = losses


def repeated(work: Work) -> Work:
    def calls() -> None:
        for _ in range(CALLS):
            work()

    return calls


def measure(segments: int, repetitions: int, device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(0)
    sampler = PrioritisedSampler(replay(segments, device), BATCH, 1, generator, uniform_fraction=UNIFORM, lag=0)
    filled = 1000 * once(lambda: sampler.refresh(1), device)
    losses = 3 * torch.rand(segments, generator=generator, device=device)
    sampler.load_state({"priorities": torch.cat([losses.new_full((1,), -math.inf), losses])})
    again = 1000 * once(lambda: sampler.refresh(2), device)
    print(f"{segments} segments; all entered in {filled:.1f} ms, a restart without new ones {again:.1f} ms")
    batch, some = torch.randint(segments, (BATCH,), generator=generator, device=device), losses[:BATCH]
    sampler._latest = batch + 1
    plain = Plain(losses, sampler._by_priority, generator)
    works: dict[str, tuple[Work, Work]] = {
        "draw": (sampler._choose, plain.draw),
        "update": (lambda: sampler.update_priorities(some), lambda: plain.update(batch, some)),
    }
    for name, both in works.items():
        tree, scan = (1e6 / CALLS * value for value in compare([repeated(work) for work in both], repetitions, device))
        print(f"  {name:6s} tree {tree:8.0f} us, plain {scan:8.0f} us, ratio {scan / tree:7.2f}x")


def main() -> int:
    parser = command_line(".priorities", __doc__, 7, device=True)
    parser.add_argument("--segments", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    options = parse(parser)
    print(f"batches of {BATCH}, {machine(options.device)}")
    for segments in options.segments:
        measure(segments, options.repetitions, options.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
