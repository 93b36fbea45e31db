"""What habits score without looking: how much of a game a policy has to learn to see.

    python -m benchmarks.habits atari/MsPacman atari/UpNDown ... [--games 4] [--hold 6] [--noise 0.15] [--seed 0]

Whole test games, as runs at scale ``laptop`` play them: uniformly random actions; random actions, each of them held for
a few steps; and each action alone, but for a share of random ones. A row has the mean
score, its standard error over games, the rewards in 100 steps and the steps of a game. An agent that scores no more
than the best of these may have learned nothing else. Four games of a task take one to fifteen minutes of one
core: some actions end no game before its limit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.timing import command_line
from tokenworlds.cli import exit_status
from tokenworlds.config import load
from tokenworlds.envs import check_task, make
from tokenworlds.envs.spec import Environment
from tokenworlds.errors import UserError
from tokenworlds.training.progress import progress

Policy = Callable[[np.random.Generator, int, int], int]
"""Generator, step of the game, last action -> action."""
SHOWN = 4  # actions alone, the best ones


def policies(names: Sequence[str], hold: int, noise: float) -> dict[str, Policy]:
    """By name, for a game with these actions."""

    def anything(generator: np.random.Generator, step: int, last: int) -> int:
        return int(generator.integers(len(names)))

    def held(generator: np.random.Generator, step: int, last: int) -> int:
        return last if step % hold else anything(generator, step, last)

    def alone(action: int) -> Policy:
        return lambda generator, step, last: anything(generator, step, last) if generator.random() < noise else action

    singles = {f"{name} alone": alone(action) for action, name in enumerate(names)}
    return {"random": anything, f"random, held {hold} steps": held, **singles}


def play(env: Environment, policy: Policy, games: int, seed: int) -> list[tuple[float, int, int]]:
    """Score, rewards and steps of each game."""
    found = []
    for game in range(games):
        generator = np.random.default_rng([seed, game])
        env.reset(seed=seed + game)
        score, rewards, step, action, is_over = 0.0, 0, 0, 0, False
        while not is_over:
            action = policy(generator, step, action)
            _, reward, terminated, truncated, _ = env.step(action)
            score, rewards, step = score + float(reward), rewards + (float(reward) != 0), step + 1
            is_over = terminated or truncated
        found.append((score, rewards, step))
    return found


def measure(task: str, games: int, hold: int, noise: float, seed: int) -> list[tuple[str, float, float, float, float]]:
    """Name, mean score, standard error, rewards in 100 steps, and steps of a game: the two random policies, then the
    best actions alone.

    Raises:
        UserError: there is no such task, or it takes no single discrete action.
    """
    check_task(task)
    config = load(["method=rem", f"task={task}", "scale=laptop"])
    rows = []
    with make(config.task, config.environment.test) as env:
        if not (count := int(getattr(env.action_space, "n", 0))):
            raise UserError(f"{task} takes no single discrete action; choose another task.")
        names = getattr(env.unwrapped, "action_meanings", None) or [f"action {index}" for index in range(count)]
        chosen = policies(names, hold, noise)
        with progress(f"policies of {task}", len(chosen)) as bar:
            for number, (name, policy) in enumerate(chosen.items(), start=1):
                scores, rewards, steps = (np.array(column, float) for column in zip(*play(env, policy, games, seed)))
                error = float(scores.std(ddof=1) / np.sqrt(games)) if games > 1 else np.nan
                rows.append((name, scores.mean(), error, 100 * rewards.sum() / steps.sum(), steps.mean()))
                bar.to(number)
    return rows[:2] + sorted(rows[2:], key=lambda row: -row[1])[:SHOWN]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(".habits", __doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--games", type=int, default=4, help="of each policy (default: 4)")
    parser.add_argument("--hold", type=int, default=6, help="steps that a random action is held (default: 6)")
    parser.add_argument("--noise", type=float, default=0.15, help="share of random actions beside one (default: 0.15)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.games < 1 or options.hold < 1 or not 0 <= options.noise <= 1:
        raise UserError("--games and --hold must be at least 1, --noise from 0 to 1.")
    print(f"{'':<18} {'':<24} {'score':>10} {'±':>8} {'rewards/100':>12} {'steps':>7}")
    for task in options.tasks:
        for name, score, error, rate, steps in measure(task, options.games, options.hold, options.noise, options.seed):
            print(f"{task:<18} {name:<24} {score:>10.1f} {error:>8.1f} {rate:>12.1f} {steps:>7.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(main))
