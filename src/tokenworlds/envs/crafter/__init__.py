"""Crafter (Hafner 2021) with the rewards and the score of its benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.spec import Environment
from tokenworlds.envs.wrappers import ClipReward, ImageObservation, TimeLimit
from tokenworlds.errors import UserError
from tokenworlds.scores import crafter_score

EPISODE_STEPS = 10_000  # the game's own limit
_SMALLEST = 18  # pixels: 9 tiles of 2; in smaller ones the items of the inventory would have no pixel


def names() -> list[str]:
    return ["Reward"]


def summary(success_rates: Mapping[str, float]) -> dict[str, float]:
    return {"crafter_score": crafter_score(success_rates.values())}


def make(task: str, config: EnvironmentConfig) -> Environment:
    """The game without repeated actions and no-ops; the limit of steps is a termination."""
    if config.size < _SMALLEST:
        raise UserError(f"environment.size must be at least {_SMALLEST} for Crafter, but is {config.size}.")
    from tokenworlds.envs.crafter.game import CrafterGame

    env: Environment = CrafterGame(config.size, min(config.max_episode_steps or EPISODE_STEPS, EPISODE_STEPS))
    env = ClipReward(env) if config.clip_reward else env
    return ImageObservation(TimeLimit(env, None))
