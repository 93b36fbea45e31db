"""What M3's prioritised replay costs: the tree of priorities against a softmax over all segments.

    python -m benchmarks.priorities [--segments N ...] [--repetitions N] [--threads N] [--device cuda]

Batches of 32 segments, 10 of them by priority, without reading them: only the choice, and the entry of their losses,
whose cost may grow with the number of stored segments. The plain way is a softmax and ``torch.multinomial`` without
replacement, twice (by priority, and uniformly among the others). Both are timed in turns; a time is the median over
repetitions of 20 calls each. A further line says what an epoch's restart costs once.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

import torch

from benchmarks.decoding import compare
from benchmarks.replay import SPEC, once
from tokenworlds.replay import PrioritisedSampler, ReplayBuffer
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.run import hardware

BATCH, UNIFORM = 32, 0.7
EPISODE = 1000  # segments
CALLS = 20


def replay(segments: int, device: torch.device) -> ReplayBuffer:
    """Episodes whose frames are of one pixel, nobody looks at them; every step begins a segment."""
    buffer = ReplayBuffer(SPEC, segments, device)
    zeros = torch.zeros(EPISODE)
    for _ in range(segments // EPISODE):
        buffer.extend({"image": zeros.view(-1, 1, 1, 1)}, zeros, zeros, zeros, close=True)
    return buffer


class Plain:
    """The same batches, by looking at every segment."""

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


def repeated(work: Callable[[], object]) -> Callable[[], object]:
    def calls() -> None:
        for _ in range(CALLS):
            work()

    return calls


def measure(segments: int, repetitions: int, device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(0)
    sampler = PrioritisedSampler(replay(segments, device), BATCH, 1, generator, uniform_fraction=UNIFORM, lag=0)
    filled = once(lambda: sampler.refresh(1), device)
    losses = 3 * torch.rand(segments, generator=generator, device=device)
    sampler.load_state({"priorities": torch.cat([losses.new_full((1,), -math.inf), losses])})
    again = once(lambda: sampler.refresh(2), device)
    print(f"{segments} segments; all entered in {filled:.1f} ms, a restart without new ones {again:.1f} ms")
    batch, some = torch.randint(segments, (BATCH,), generator=generator, device=device), losses[:BATCH]
    sampler._latest = batch + 1
    plain = Plain(losses, sampler._by_priority, generator)
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "draw": (sampler._choose, plain.draw),
        "update": (lambda: sampler.update_priorities(some), lambda: plain.update(batch, some)),
    }
    for name, both in works.items():
        tree, scan = (1e6 / CALLS * value for value in compare([repeated(work) for work in both], repetitions, device))
        print(f"  {name:6s} tree {tree:8.0f} us, plain {scan:8.0f} us, ratio {scan / tree:7.2f}x")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.priorities",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--segments", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(f"batches of {BATCH}, {hardware(device)}, torch {torch.__version__}, {git_revision()}")
    for segments in options.segments:
        measure(segments, options.repetitions, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
