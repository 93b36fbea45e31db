"""How soon an image shows a reward: which tasks a small budget can learn.

    python -m benchmarks.rewards atari/Krull atari/Gopher ... [--steps 9000] [--updates 900] [--seed 0]

A uniformly random policy plays a task as runs at scale ``laptop`` do in training. From two frames and the action a
small convolutional network then learns whether this step has a positive reward, whether one of the next nine has (as
many as are imagined there), and whether the episode ends. For each of them the area under the ROC curve is printed, in
steps that it has not learned from: 0.5 is chance, 1 is certainty. A world model that sees tokens instead of pixels
knows less. A task takes about a minute of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import command_line
from tokenworlds.cli import exit_status
from tokenworlds.config import load
from tokenworlds.envs import check_task, make
from tokenworlds.errors import UserError
from tokenworlds.training.progress import progress

AHEAD = 9  # steps in which a reward comes soon
HELD_OUT = 0.25  # share of the steps, at the end
BATCH = 64
CHECKS = 6  # during the updates; the best counts, as rare rewards are soon learned by heart
OUTCOMES = ("reward", f"within {AHEAD}", "end")


def play(task: str, steps: int, seed: int) -> tuple[Tensor, Tensor, NDArray[np.float32], NDArray[np.bool_], int]:
    """Frames (T, C, Y, X), actions (T,), rewards (T,) and ends (T,) of a random policy; and the number of actions.

    Raises:
        UserError: there is no such task, or it has no single picture or no single discrete action.
    """
    check_task(task)
    config = load(["method=rem", f"task={task}", "scale=laptop"])
    frames, actions, rewards, ends = [], [], [], []
    with make(config.task, config.environment.train) as env:
        space, count = env.observation_space, int(getattr(env.action_space, "n", 0))
        if not isinstance(space, spaces.Dict) or list(space) != ["image"] or not count:
            raise UserError(f"{task} shows no single picture, or takes no single discrete action; choose another task.")
        generator = np.random.default_rng(seed)
        observation, _ = env.reset(seed=seed)
        with progress(f"random steps of {task}", steps) as bar:
            for step in range(steps):
                frames.append(observation["image"])
                actions.append(int(generator.integers(count)))
                observation, reward, terminated, truncated, _ = env.step(actions[-1])
                rewards.append(reward)
                ends.append(terminated or truncated)
                if ends[-1]:
                    observation, _ = env.reset()
                bar.to(step + 1)
    given = torch.from_numpy(np.stack(frames)), torch.tensor(actions)
    return *given, np.array(rewards, np.float32), np.array(ends), count


def outcomes(rewards: NDArray[np.float32], ends: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``OUTCOMES`` (T, 3) of every step: 0 or 1."""
    positive = rewards > 0
    soon, is_same = positive.copy(), np.ones(len(ends), bool)
    for ahead in range(1, AHEAD):
        is_same[: len(ends) - ahead] &= ~ends[ahead - 1 : len(ends) - 1]  # no episode has ended between
        soon[: len(ends) - ahead] |= positive[ahead:] & is_same[: len(ends) - ahead]
    return np.stack([positive, soon, ends], axis=1).astype(np.float32)


def area(scores: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Area under the ROC curve: how often a true example has a higher score than another; NaN where all are alike."""
    positive, negative = scores[true > 0], np.sort(scores[true == 0])
    if not len(positive) or not len(negative):
        return np.nan
    below, up_to = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(negative))


class Network(nn.Module):
    """Logits (B, 3) from two frames (B, 2 C, Y, X) and the action (B,)."""

    def __init__(self, channels: int, size: int, actions: int) -> None:
        super().__init__()
        widths = (channels, 16, 32, 32)
        layers = [(nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()) for before, after in pairwise(widths)]
        self.eye = nn.Sequential(*(part for layer in layers for part in layer), nn.Flatten())
        self.see = nn.Linear(widths[-1] * (size // 8) ** 2, 128)
        self.act, self.out, self.actions = nn.Linear(128 + actions, 64), nn.Linear(64, len(OUTCOMES)), actions

    def forward(self, frames: Tensor, actions: Tensor) -> Tensor:
        seen = F.relu(self.see(self.eye(frames.float() / 255)))
        taken = F.one_hot(actions, self.actions).float()
        logits: Tensor = self.out(F.relu(self.act(torch.cat([seen, taken], dim=1))))
        return logits


def frames_before(ends: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The step before each one; the first of an episode precedes itself."""
    steps = np.arange(len(ends))
    return np.where(np.r_[True, ends[:-1]], steps, steps - 1)


def learn(
    network: nn.Module,
    see: Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]],
    true: NDArray[np.float32],
    updates: int,
    seed: int,
) -> list[float]:
    """Areas of ``OUTCOMES`` in the last steps, which are held out; the best of some checks.

    Args:
        see: what the network gets of these steps: what is seen, and the actions.
    """
    steps, first = len(true), held_out_from(len(true))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    generator, best = np.random.default_rng(seed), [np.nan] * len(OUTCOMES)
    for update in range(1, updates + 1):
        rows = generator.integers(0, first - AHEAD, BATCH)
        loss = F.binary_cross_entropy_with_logits(network(*see(rows)), torch.from_numpy(true[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % max(1, updates // CHECKS) == 0:
            with torch.no_grad():
                last = np.arange(first, steps - AHEAD)
                scores = torch.cat([network(*see(some)) for some in np.array_split(last, max(1, len(last) // 256))])
            areas = [area(scores[:, index].numpy(), true[last, index]) for index in range(len(OUTCOMES))]
            best = [float(np.fmax(*pair)) for pair in zip(best, areas)]
    return best


def held_out_from(steps: int) -> int:
    """The first of so many steps that nothing is learned from."""
    return round(steps * (1 - HELD_OUT))


def measure(task: str, steps: int, updates: int, seed: int) -> list[float]:
    """Areas of ``OUTCOMES``, after the rates of the first and the last in 100 steps."""
    frames, actions, rewards, ends, count = play(task, steps, seed)
    true, before = outcomes(rewards, ends), frames_before(ends)
    torch.manual_seed(seed)
    network = Network(2 * frames.shape[1], frames.shape[-1], count)

    def see(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return torch.cat([frames[before[rows]], frames[rows]], dim=1), actions[rows]

    areas = learn(network, see, true, updates, seed)
    return [100 * float(true[:, 0].mean()), 100 * float(true[:, 2].mean()), *areas]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(".rewards", __doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--steps", type=int, default=9000, help="of the random policy (default: 9000)")
    parser.add_argument("--updates", type=int, default=900, help="of the network (default: 900)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.steps < 100 or options.updates < CHECKS:
        raise UserError(f"--steps must be at least 100, --updates at least {CHECKS}.")
    print(f"{'':<24} in 100 steps: rewards, ends   area under the curve: {', '.join(OUTCOMES)}")
    for task in options.tasks:
        rates, areas = (found := measure(task, options.steps, options.updates, options.seed))[:2], found[2:]
        print(
            f"{task:<24} {rates[0]:>21.2f} {rates[1]:>6.2f} {' ' * 22}" + "".join(f"{one:8.2f}" for one in areas),
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(exit_status(main))
