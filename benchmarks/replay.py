"""The cost of a draw of training segments: the least-used episodes of Delta-IRIS against IRIS's uniform episodes.

    python -m benchmarks.replay [--episodes N ...] [--repetitions N] [--threads N] [--device cuda]

Batches of Delta-IRIS's world model on Crafter (32 segments of 21 steps), without their frames: only the search for the
rows, whose cost grows with the number of stored episodes. They are of 200 steps, written by 16 environments in turns of
100. The samplers are timed in turns; a time is the median over repetitions of 100 draws each. Further lines say what an
epoch's new steps cost once (the table of episodes and the successors of all rows), and a checkpoint's table.
"""

from __future__ import annotations

import json
import sys

import torch

from benchmarks.timing import Work, command_line, compare, machine, once, parse
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.replay import EpisodeSampler, LeastUsedSampler, ReplayBuffer, Sampler

BATCH, LENGTH = 32, 21
STEPS, STREAMS, TURN = 200, 16, 100
DRAWS = 100
SPEC = EnvironmentSpec({"image": ImageSpec(1, 1, 1)}, DiscreteActions(1))


def replay(episodes: int, device: torch.device) -> ReplayBuffer:
    """Episodes side by side; their frames are of one pixel."""
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


def draws(sampler: Sampler) -> Work:
    sampler.refresh(2)

    def work() -> None:
        for _ in range(DRAWS):
            sampler.sample(with_observations=False)

    return work


def main() -> int:
    parser = command_line(".replay", __doc__, 7, device=True)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    options = parse(parser)
    print(f"{BATCH} segments of {LENGTH}, {machine(options.device)}")
    for episodes in options.episodes:
        buffer = replay(episodes, options.device)
        table, successors = (1000 * once(work, options.device) for work in (buffer.settle, buffer.successors))
        kinds = samplers(buffer)
        works = [draws(sampler) for sampler in kinds.values()]
        seconds = dict(zip(kinds, compare(works, options.repetitions, options.device)))
        state = buffer.state(buffer.rows)[1]
        print(f"{episodes} episodes, {buffer.num_steps} steps, {len(state['lengths'])} chunks")
        for name, value in seconds.items():
            print(f"  {name:32s} {value / DRAWS * 1e6:8.0f} us a draw, {value / seconds['uniform']:5.2f}x uniform")
        megabytes = len(json.dumps(state)) / 1e6
        print(f"  table {table:.1f} ms, successors {successors:.1f} ms, {megabytes:.2f} MB in a checkpoint")
    return 0


if __name__ == "__main__":
    sys.exit(main())
