"""Imagination with parallel observation prediction against token-by-token decoding, both ours, at REM's published size.

    python -m benchmarks.decoding [--batch N ...] [--backbone NAME] [--repetitions N] [--threads N] [--device cuda]

A rollout of the published horizon without burn-in of the policy, its frames already encoded. The two are timed in
turns, so that what else the machine does meanwhile meets both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from benchmarks.__main__ import wait
from benchmarks.phases import TokenPhases
from tokenworlds.agents.imagination import ImaginationNoise, rollout_of
from tokenworlds.config import Backbone
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.run import hardware


def rollout(phases: TokenPhases, batch: int) -> Callable[[], object]:
    """One imagined rollout from random tokens; its own, because a captured one holds one batch size."""
    layout, device = phases.agent.tokenizer.layout, phases.device
    vocabulary, actions = layout.modalities[0].vocab_size, phases.agent.world_model.embed_action.num_embeddings
    frames = torch.randint(vocabulary, (batch, phases.agent.context_frames, layout.num_tokens), device=device)
    past = torch.randint(actions, (batch, phases.agent.context_frames - 1), device=device)
    noise = ImaginationNoise.draw(
        phases.config.training.actor_critic.horizon, layout.num_tokens, batch, phases.generator
    )
    state = phases.agent.policy.initial_state(batch)
    run = rollout_of(phases.agent, batch, device, phases.config.runtime.compile)
    return lambda: run((frames, past), state, noise)


def compare(works: list[Callable[[], object]], repetitions: int, device: torch.device) -> list[float]:
    """Median seconds of each, in turns, after one warm-up each."""
    seconds: list[list[float]] = [[] for _ in works]
    for repetition in range(repetitions + 1):
        for work, times in zip(works, seconds):
            started = time.perf_counter()
            work()
            wait(device)
            if repetition:
                times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoding", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--backbone", choices=[name.name for name in Backbone], default="retnet")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    decodings = ("pop", "autoregressive")
    both = [
        TokenPhases("rem", device, [f"model.decoding={name}", f"model.backbone={options.backbone}"])
        for name in decodings
    ]
    horizon = both[0].config.training.actor_critic.horizon
    print(f"{options.backbone}, {horizon} steps, {hardware(device)}, torch {torch.__version__}, {git_revision()}")
    for batch in tqdm(options.batch, leave=False, disable=not sys.stderr.isatty()):
        parallel, serial = compare([rollout(phases, batch) for phases in both], options.repetitions, device)
        print(
            f"batch {batch:4d}: pop {parallel:8.3f} s, token by token {serial:8.3f} s, ratio {serial / parallel:5.2f}x"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
