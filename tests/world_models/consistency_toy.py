"""A world that a consistency model learns in minutes: a dot on 4 x 4 cells of pictures of 8 x 8 pixels, moved by the
actions, over the edge to the other side; its column after the move gives the reward. A copied frame is never right.

python -m tests.world_models.consistency_toy    (a quarter of an hour of a core: the numbers of docs/experiments.md)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests import small
from tokenworlds.agents.consistency import ConsistencyAgent
from tokenworlds.config import (
    ConsistencyConfig,
    DeltaWorldModelConfig,
    Generator,
    LossWeights,
    Scalar,
)
from tokenworlds.envs import ImageSpec
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.continuous_delta import ContinuousDeltaTokenizer
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.consistency import schedules
from tokenworlds.world_models.consistency.schedules import Intervals
from tokenworlds.world_models.consistency.world_model import ConsistencyWorldModel

CELLS, PIXELS, ACTIONS, LENGTH = 4, 8, 4, 8
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
BATCH, RATE, TOKENIZER_UPDATES, UPDATES = 16, 1e-3, 400, 900
TRAININGS: tuple[tuple[int, dict[str, Any]], ...] = (
    (0, {}), (1, {}), (0, {"prediction_weight": 0.0}), (0, {"published_noise": True}),
    (0, {"last_intervals": 1280}), (1, {"last_intervals": 1280}),
    (0, {"last_intervals": 1280, "prediction_weight": 0.0}),
)  # fmt: skip
"""Seeds, and what is different of the generator."""


@dataclass
class Shares:
    """Of steps of a rollout whose dot is in the right cell, by the step; of right rewards; and of each reward."""

    right: Tensor
    rewards: float
    majority: float


def segments(count: int, length: int, generator: torch.Generator) -> Segments:
    """Random walks."""
    places = torch.randint(CELLS, (count, 2), generator=generator)
    actions = torch.randint(ACTIONS, (count, length), generator=generator)
    moves, seen = torch.tensor(MOVES), [places]
    for taken in actions.unbind(1):
        seen.append((seen[-1] + moves[taken]) % CELLS)
    rows, columns = torch.stack(seen, dim=1).unbind(-1)
    cells = torch.zeros(count, length + 1, CELLS, CELLS).flatten(2)
    cells.scatter_(2, (rows * CELLS + columns).unsqueeze(-1), 1.0)
    pictures = cells.unflatten(2, (CELLS, CELLS)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    frames = (255 * pictures).to(torch.uint8).unsqueeze(2).expand(-1, -1, 3, -1, -1)
    rewards = (columns[:, 1:] == CELLS - 1).float() - (columns[:, 1:] == 0).float()
    rows = torch.zeros(count, length, dtype=torch.int64)
    return Segments({"image": frames[:, :-1]}, actions, rewards, rows.byte(), rows == 0, rows)


def agent(**changes: Any) -> ConsistencyAgent:
    """Untrained; changes are of the generator."""
    tokenizer = small.continuous_deltas(latent_dim=4, levels=1)
    config = DeltaWorldModelConfig(
        rewards=Scalar.sign, frame_encoder=tokenizer.frame_encoder, weights=LossWeights(1.0, 1.0, 0.1)
    )
    generator = ConsistencyConfig(
        **{
            "kind": Generator.consistency,
            "context_states": 2,
            "channels": [32, 32],
            "depths": [1, 1],
            "attention": [0, 0],
            "condition_dim": 16,
            "last_intervals": 80,  # too few updates to link the highest of the published 1,280 to the lowest
            **changes,
        }
    )
    image = ImageSpec(PIXELS, PIXELS, 3)
    coder = ContinuousDeltaTokenizer(tokenizer, PIXELS, 3, ACTIONS)
    world_model = ConsistencyWorldModel(config, generator, image, coder.shape, ACTIONS)
    return ConsistencyAgent(coder, world_model, small.frame_policy(), small.frame_policy(), context_frames=3)


def trained(seed: int, updates: int = UPDATES, **changes: Any) -> ConsistencyAgent:
    """An agent whose tokenizer and then world model have learned random walks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner, draws = agent(**changes), small.generator(seed)
    tokenizer, world_model = learner.tokenizer, learner.world_model
    optimizer = torch.optim.Adam(tokenizer.parameters(), RATE)
    for _ in range(TOKENIZER_UPDATES):
        some = segments(BATCH, 3, draws)
        optimizer.zero_grad()
        tokenizer.loss(some.observations["image"], some.actions, some.mask).total.backward()
        optimizer.step()
    tokenizer.eval()
    optimizer = torch.optim.AdamW(world_model.parameters(), RATE, weight_decay=0.01)
    world_model.train()
    generator = world_model.generator
    for update in range(updates):
        some = segments(BATCH, LENGTH, draws)
        count = schedules.points(update, updates, generator.first_intervals, generator.last_intervals)
        intervals = Intervals.of(count, generator, small.CPU)
        frames, _, deltas = learner.context(some)
        noise = world_model.draw(BATCH, LENGTH, intervals, draws)
        optimizer.zero_grad()
        losses = world_model.loss(frames, some.actions, deltas, some.rewards, some.terminations, some.mask, noise)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(world_model.parameters(), 10.0)
        optimizer.step()
    world_model.eval()
    return learner


@torch.no_grad()
def measured(learner: ConsistencyAgent, steps: int = 6, count: int = 512) -> Shares:
    """What is right in rollouts under given actions."""
    draws = small.generator(1)
    context = learner.context_frames
    some = segments(count, context + steps, draws)
    state = learner.start(learner.context(some.steps(slice(0, context))))
    right, rewards = [], []
    for step in range(steps):
        uniforms = torch.rand(learner.num_draws + 2, count, generator=draws)
        noise = StepNoise(uniforms[0], uniforms[1], uniforms[2:])
        state, reward, _ = learner.step(state, some.actions[:, context - 1 + step], noise)
        right.append((cell(state.frames) == cell(some.observations["image"][:, context + step].float())).float().mean())
        rewards.append(reward == some.rewards[:, context - 1 + step])
    real = some.rewards[:, context - 1 : context - 1 + steps]
    majority = max(float((real == value).float().mean()) for value in (-1, 0, 1))
    return Shares(torch.stack(right), float(torch.stack(rewards).float().mean()), majority)


def cell(frames: Tensor) -> Tensor:
    """Index of the brightest cell."""
    return torch.nn.functional.avg_pool2d(frames.mean(dim=1), 2).flatten(1).argmax(dim=1)


if __name__ == "__main__":
    for seed, changes in TRAININGS:
        shares = measured(trained(seed, **changes))
        right = " ".join(f"{share:.3f}" for share in shares.right.tolist())
        print(f"seed {seed} {changes}: right {right}, rewards {shares.rewards:.3f} ({shares.majority:.3f})", flush=True)
