"""Craftax (Matthews et al. 2024), symbolic: a map of categories, a direction and a vector of statistics."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.spec import Environment
from tokenworlds.envs.wrappers import ClipReward

EPISODE_STEPS = 100_000  # the game's own limit


def names() -> list[str]:
    return ["Symbolic"]


def _compilation_cache() -> str | None:
    """A folder of the user in which compiled programs outlive the process; None where none can be written."""
    with contextlib.suppress(OSError, RuntimeError):  # a full or read-only disk; no home folder
        folder = Path.home() / ".cache" / "tokenworlds" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
    return None


def notice() -> str:
    """Why making the game takes long."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or _compilation_cache()
    kept = f"kept in {folder}" if folder else "every time: no folder can keep it, set JAX_COMPILATION_CACHE_DIR"
    return f"compiling Craftax, minutes on the first start; {kept}"


def make(task: str, config: EnvironmentConfig) -> Environment:
    """The game; its limit of steps is a truncation."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # all before the import of JAX; the accelerator is the agent's
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := _compilation_cache()) is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # compiling the game takes minutes
    from tokenworlds.envs.craftax.game import CraftaxGame, PublishedStarts

    length = min(config.max_episode_steps or EPISODE_STEPS, EPISODE_STEPS)
    env: Environment = PublishedStarts(length) if config.legacy_keys else CraftaxGame(length)
    return ClipReward(env) if config.clip_reward else env
