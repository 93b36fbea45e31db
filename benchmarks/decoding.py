"""Imagination with parallel observation prediction against token-by-token decoding, both ours, at REM's published size.

    python -m benchmarks.decoding [--batch N ...] [--backbone NAME] [--repetitions N] [--threads N] [--device cuda]

A rollout of the published horizon without burn-in of the policy, its frames already encoded. The two are timed in
turns, so that what else the machine does meanwhile meets both.
"""

from __future__ import annotations

import sys

import torch
from tqdm import tqdm

from benchmarks.phases import TokenPhases
from benchmarks.timing import Work, command_line, compare, machine, parse
from tokenworlds.agents.imagination import ImaginationNoise, rollout_of
from tokenworlds.agents.token import TokenContext
from tokenworlds.config import Backbone


def rollout(phases: TokenPhases, batch: int) -> Work:
    """One imagined rollout from random tokens; its own, because a captured one holds one batch size."""
    layout, device = phases.agent.tokenizer.layout, phases.device
    vocabulary, actions = layout.modalities[0].vocab_size, phases.agent.world_model.embed_action.num_embeddings
    frames = torch.randint(vocabulary, (batch, phases.agent.context_frames, layout.num_tokens), device=device)
    past = torch.randint(actions, (batch, phases.agent.context_frames - 1), device=device)
    horizon = phases.config.training.actor_critic.horizon
    noise = ImaginationNoise.sample(horizon, layout.num_tokens, batch, phases.generator)
    state = phases.agent.policy.initial_state(batch)
    run = rollout_of(phases.agent, batch, device, phases.config.runtime.compile)
    return lambda: run(TokenContext(frames, past), state, noise)


def main() -> int:
    parser = command_line(".decoding", __doc__, 5, device=True)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--backbone", choices=[name.name for name in Backbone], default="retnet")
    options = parse(parser)
    both = [
        TokenPhases("rem", options.device, [f"model.decoding={name}", f"model.backbone={options.backbone}"])
        for name in ("pop", "autoregressive")
    ]
    print(f"{options.backbone}, {both[0].config.training.actor_critic.horizon} steps, {machine(options.device)}")
    for batch in tqdm(options.batch, leave=False, disable=not sys.stderr.isatty()):
        pop, serial = compare([rollout(phases, batch) for phases in both], options.repetitions, options.device)
        print(f"batch {batch:4d}: pop {pop:8.3f} s, token by token {serial:8.3f} s, ratio {serial / pop:5.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
