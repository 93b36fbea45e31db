"""Sequence models in the world model of IRIS: size, an update, an imagined frame.

    python -m benchmarks.backbones [--only NAME ...] [--scale SCALE] [--batch N] [--repetitions N] [--threads N]
                                   [--device cuda]

An update is loss, gradients and Adam on random segments of the scale's batch size; a frame is imagined by the world
model alone, without the policy, for --batch trajectories. Names are variants of IRIS, the first is none.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from benchmarks.timing import Work, command_line, compare, machine, parse
from tokenworlds import methods
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.backbones.memory import bytes_per_environment
from tokenworlds.config import Scale, load
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.methods import optimisers

VARIANTS = (
    "block-causal", "transformer-xl", "retnet", "lstm", "gru", "mamba", "cfc-dense", "ncp-token", "ncp-frame",
    "pop-retnet",
)  # fmt: skip
CHOICES: dict[str, list[str]] = {"iris": []} | {name: [f"variant={name}"] for name in VARIANTS}
ACTIONS = 6


class Model:
    """The world model of IRIS, with random segments to learn from and random tokens to imagine from."""

    def __init__(self, choice: str, scale: str, device: torch.device) -> None:
        fixed = ["method=iris", "task=atari/Breakout", "model.tokenizer.perceptual=none"]
        self.config: Any = load([*fixed, f"scale={scale}", *CHOICES[choice]])
        size = self.config.environment.train.size
        spec = EnvironmentSpec({"image": ImageSpec(size, size)}, DiscreteActions(ACTIONS))
        self.world_model: Any = methods.get("iris").build_agent(self.config, spec).to(device).world_model
        self.device = device
        self.generator = torch.Generator(device).manual_seed(0)

    def update(self) -> Work:
        training = self.config.training
        shape = (training.world_model.batch_size, training.sequence_length)
        tokens, actions = self._tokens(*shape), self._random(ACTIONS, *shape)
        rewards, mask = torch.zeros(shape, device=self.device), torch.ones(shape, dtype=torch.bool, device=self.device)
        model = self.world_model.train()
        optimiser = optimisers.build(model, training.world_model)

        def work() -> None:
            optimiser.zero_grad()
            losses = model.loss(tokens, actions, rewards, ~mask, mask)
            (losses.observations + losses.rewards + losses.ends).backward()
            optimiser.step()

        return work

    def imagine(self, batch: int, frames: int) -> Work:
        model = self.world_model.eval()
        context = self.config.model.world_model.context
        tokens, past = self._tokens(batch, context), self._random(ACTIONS, batch, context - 1)
        actions = self._random(ACTIONS, frames, batch)
        noise = ImaginationNoise.sample(frames, model.layout.num_tokens, batch, self.generator)

        @torch.no_grad()
        def work() -> None:
            state = model.start(tokens, past)
            for step in range(frames):
                state, _, _ = model.step(state, actions[step], noise.step(step))

        return work

    def _tokens(self, *shape: int) -> torch.Tensor:
        (modality,) = self.world_model.layout.modalities
        return self._random(modality.vocab_size, *shape, self.world_model.layout.num_symbols)

    def _random(self, count: int, *shape: int) -> torch.Tensor:
        return torch.randint(count, shape, generator=self.generator, device=self.device)


def main() -> int:
    parser = command_line(".backbones", __doc__, 3, device=True)
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument("--scale", choices=[scale.name for scale in Scale], default="small")
    parser.add_argument("--batch", type=int, default=64)
    options = parse(parser)
    print(f"IRIS at scale {options.scale}, frames of {options.batch} trajectories, {machine(options.device)}")
    models = {name: Model(name, options.scale, options.device) for name in options.only}
    updates = compare([model.update() for model in models.values()], options.repetitions, options.device)
    frames = 5
    rollouts = [model.imagine(options.batch, frames) for model in models.values()]
    imagined = [seconds / frames for seconds in compare(rollouts, options.repetitions, options.device)]
    for (name, model), update, frame in zip(models.items(), updates, imagined):
        backbone = model.world_model.backbone
        count = sum(parameter.numel() for parameter in backbone.parameters())
        sizes = f"{count:>10,} parameters, state {bytes_per_environment(backbone):>9,} bytes"
        print(f"{name:15} {sizes}, update {1000 * update:8.1f} ms, frame {1000 * frame:7.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
