"""What a draw of training segments costs: the least-used episodes of Delta-IRIS against IRIS's uniform episodes.

    python -m benchmarks.replay [--episodes N ...] [--repetitions N] [--threads N] [--device cuda]

Batches of Delta-IRIS's world model on Crafter (32 segments of 21 steps), without their frames: only the search for the
rows, whose cost grows with the number of stored episodes. They are of 200 steps, written by 16 environments in turns of
100. The samplers are timed in turns; a time is the median over repetitions of 100 draws each. Further lines say what an
epoch's new steps cost once (the table of episodes and the successors of all rows), and a checkpoint's table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.__main__ import wait
from benchmarks.decoding import compare
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.replay import EpisodeSampler, LeastUsedSampler, ReplayBuffer, Sampler
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.run import hardware

BATCH, LENGTH = 32, 21
STEPS, STREAMS, TURN = 200, 16, 100
DRAWS = 100
SPEC = EnvironmentSpec({"image": ImageSpec(1, 1, 1)}, DiscreteActions(1))


def replay(episodes: int, device: torch.device) -> ReplayBuffer:
    """Episodes side by side; their frames are of one pixel, nobody looks at them."""
    buffer = ReplayBuffer(SPEC, episodes * STEPS, device)
    zeros = torch.zeros(TURN)
    for first in range(0, episodes, STREAMS):
        for turn in range(STEPS // TURN):
            for stream in range(min(STREAMS, episodes - first)):
                frames = torch.zeros(TURN, 1, 1, 1, dtype=torch.uint8)
                is_last = (turn + 1) * TURN == STEPS
                buffer.extend({"image": frames}, zeros.long(), zeros, zeros, stream=stream, close=is_last)
    return buffer


def samplers(buffer: ReplayBuffer) -> dict[str, Sampler]:
    generator = torch.Generator(buffer.device).manual_seed(0)
    least_used: dict[str, Sampler] = {
        f"least used, anchored at the {anchor}": LeastUsedSampler(
            buffer, BATCH, LENGTH, generator, anchor=anchor, exponent=5.0
        )
        for anchor in ("start", "end")
    }
    return {"uniform": EpisodeSampler(buffer, BATCH, LENGTH, generator)} | least_used


def draws(sampler: Sampler) -> Callable[[], object]:
    sampler.refresh(2)

    def work() -> None:
        for _ in range(DRAWS):
            sampler.sample(with_observations=False)

    return work


def once(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    work()
    wait(device)
    return 1000 * (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(f"{BATCH} segments of {LENGTH}, {hardware(device)}, torch {torch.__version__}, {git_revision()}")
    for episodes in options.episodes:
        buffer = replay(episodes, device)
        table = once(buffer.settle, device)
        successors = once(buffer.successors, device)
        kinds = samplers(buffer)
        works: list[Callable[[], object]] = [draws(sampler) for sampler in kinds.values()]
        seconds = dict(zip(kinds, compare(works, options.repetitions, device)))
        state = buffer.state(buffer.rows)[1]
        json_bytes = len(json.dumps(state))
        print(f"{episodes} episodes, {buffer.num_steps} steps, {len(state['lengths'])} chunks")
        for name, value in seconds.items():
            print(f"  {name:32s} {value / DRAWS * 1e6:8.0f} us a draw, {value / seconds['uniform']:5.2f}x uniform")
        print(f"  table {table:.1f} ms, successors {successors:.1f} ms, {json_bytes / 1e6:.2f} MB in a checkpoint")
    return 0


if __name__ == "__main__":
    sys.exit(main())
