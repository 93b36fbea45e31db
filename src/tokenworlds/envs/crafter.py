"""Crafter (Hafner 2021) with the rewards of its benchmark, and the benchmark's score."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tokenworlds.envs.extras import require
from tokenworlds.envs.spec import Environment, EnvironmentConfig, Split
from tokenworlds.envs.wrappers import ClipReward, ImageObservation, TimeLimit
from tokenworlds.errors import UserError

EPISODE_STEPS = 10_000  # the game's own limit
_SMALLEST = 18  # pixels: 9 tiles of 2; in smaller ones the items of the inventory would have no pixel

ACHIEVEMENTS = (
    "collect_coal",
    "collect_diamond",
    "collect_drink",
    "collect_iron",
    "collect_sapling",
    "collect_stone",
    "collect_wood",
    "defeat_skeleton",
    "defeat_zombie",
    "eat_cow",
    "eat_plant",
    "make_iron_pickaxe",
    "make_iron_sword",
    "make_stone_pickaxe",
    "make_stone_sword",
    "make_wood_pickaxe",
    "make_wood_sword",
    "place_furnace",
    "place_plant",
    "place_stone",
    "place_table",
    "wake_up",
)


def names() -> list[str]:
    return ["Reward"]


def score(rates: Mapping[str, float]) -> float:
    """The Crafter score in percent: exp(mean(ln(1 + s_i))) - 1, s_i the success rate of an achievement in percent.

    Arguments:
        rates: for each of ``ACHIEVEMENTS`` the share of episodes that unlocked it, from 0 to 1.
    """
    if set(rates) != set(ACHIEVEMENTS):
        different = ", ".join(sorted(set(rates) ^ set(ACHIEVEMENTS)))
        raise ValueError(f"expected a rate for each of the {len(ACHIEVEMENTS)} achievements; different: {different}.")
    if not all(0 <= rate <= 1 for rate in rates.values()):
        raise ValueError(f"expected rates from 0 to 1, but got {dict(rates)}.")
    return math.exp(sum(math.log1p(100 * rate) for rate in rates.values()) / len(rates)) - 1


def make(name: str, split: Split, config: EnvironmentConfig) -> Environment:
    """The game, the same for both splits: no repeated actions, no no-ops; the limit of steps is an end."""
    require("crafter/Reward", "crafter")
    if config.size < _SMALLEST:
        raise UserError(f"environment.size must be at least {_SMALLEST} for Crafter, but is {config.size}.")
    from tokenworlds.envs.crafter_game import CrafterGame

    length = EPISODE_STEPS if config.max_episode_steps is None else min(config.max_episode_steps, EPISODE_STEPS)
    env: Environment = CrafterGame(config.size, length)
    env = ClipReward(env) if config.clip_reward else env
    return ImageObservation(TimeLimit(env, None))
