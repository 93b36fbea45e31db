"""Environment steps per second of a group, played in this process and by a worker process each.

    python -m benchmarks.environments [--task crafter/Reward] [--num-envs 16] [--steps N] [--repetitions N] [--workers]

Uniform random actions in rounds as in training: finished environments wait for the others, and resets count. The two
are timed in turns, on the same episodes. With `--workers` only the workers are timed, without a ratio.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack

import numpy as np

from benchmarks.timing import command_line, machine
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import EnvironmentFactory, VectorEnvironment
from tokenworlds.envs.vector.environment import usable_processors


def play(vector: VectorEnvironment, seed: int, steps: int, generator: np.random.Generator) -> tuple[int, float]:
    """Environment steps that were made in ``steps`` steps of the group, and the seconds they took."""
    made, begin = 0, time.perf_counter()
    vector.reset(list(range(seed, seed + vector.num_envs)))
    for _ in range(steps):
        if vector.finished.all():
            vector.reset()
        made += int((~vector.finished).sum())
        vector.step(generator.integers(vector.spec.num_actions, size=vector.num_envs))
    return made, time.perf_counter() - begin


def main() -> int:
    parser = command_line(".environments", __doc__)
    parser.add_argument("--task", default="crafter/Reward")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200, help="steps of the group in a repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", action="store_true", help="time the workers only")
    options = parser.parse_args()
    factories = [EnvironmentFactory(options.task, EnvironmentConfig())] * options.num_envs
    kinds = {"workers": True} if options.workers else {"one process": False, "workers": True}
    print(f"{options.task}, {options.num_envs} environments, {usable_processors()} cores usable, {machine()}")
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    with ExitStack() as stack:
        vectors = {}
        for name, workers in kinds.items():
            begin = time.perf_counter()
            vectors[name] = stack.enter_context(VectorEnvironment(factories, workers=workers))
            started = time.perf_counter() - begin
            vectors[name].reset(list(range(options.num_envs)))
            print(f"{name:12s} started in {started:.2f} s, first reset after {time.perf_counter() - begin:.2f} s")
        for repetition in range(options.repetitions):
            for name, vector in vectors.items():
                made, seconds = play(vector, 100 * repetition, options.steps, np.random.default_rng(repetition))
                rates[name].append(made / seconds)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"{name:12s} {median:8.0f} steps/s")
    if len(medians) == 2:
        print(f"workers / one process: {medians['workers'] / medians['one process']:.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
