"""Craftax (Matthews et al. 2024), symbolic: a map of categories, a direction and a vector of statistics."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tokenworlds.envs.extras import require
from tokenworlds.envs.spec import (
    Environment,
    EnvironmentConfig,
    GridSpec,
    ModalitySpec,
    Split,
    TokenSpec,
    VectorSpec,
)
from tokenworlds.envs.wrappers import ClipReward

EPISODE_STEPS = 100_000  # the game's own limit

HEIGHT, WIDTH = 9, 11  # cells in view
BLOCKS, ITEMS, MOBS = 37, 5, 40  # one-hot groups of a cell; then its light. Mobs: 5 classes of 8 kinds
LIGHT_STEP = np.float32(0.05)
LIGHTS = 20  # floor(1 / 0.05) + 1, where the quotient of the two float32 is just below 20
STATISTICS = 51  # numbers after the cells
DIRECTION = slice(31, 35)  # where the player looks, one-hot, among the statistics

MODALITIES: dict[str, ModalitySpec] = {
    "vector": VectorSpec(STATISTICS - 4),
    "token": TokenSpec(1, 4),
    "token_2d": GridSpec(HEIGHT, WIDTH, (BLOCKS, ITEMS, MOBS, LIGHTS)),
}


def names() -> list[str]:
    return ["Symbolic"]


def decode_observation(flat: Any, library: ModuleType = np) -> dict[str, Any]:
    """The modalities of the game's flat observation (*N, 9 * 11 * 83 + 51), float32.

    Arguments:
        library: the array library that computes it, ``numpy`` or ``jax.numpy``.

    Returns:
        ``vector`` (*N, 47), ``token`` (*N, 1), ``token_2d`` (*N, 99, 4): block, item, mob (0 is both no mob and the
        first kind, as published) and light of each cell.
    """
    cells = flat[..., :-STATISTICS].reshape(*flat.shape[:-1], -1, BLOCKS + ITEMS + MOBS + 1)
    statistics = flat[..., -STATISTICS:]
    ends = (BLOCKS, BLOCKS + ITEMS, BLOCKS + ITEMS + MOBS)
    columns = [library.argmax(cells[..., end - size : end], -1) for end, size in zip(ends, (BLOCKS, ITEMS, MOBS))]
    light = library.floor_divide(cells[..., -1], LIGHT_STEP)
    before, after = statistics[..., : DIRECTION.start], statistics[..., DIRECTION.stop :]
    return {
        "vector": library.concatenate([before, after], -1),
        "token": library.argmax(statistics[..., DIRECTION], -1, keepdims=True).astype(np.uint8),
        "token_2d": library.stack([*columns, light], -1).astype(np.uint8),
    }


def _compilation_cache() -> str | None:
    """A folder of the user in which compiled programs outlive the process; None where none can be written."""
    with contextlib.suppress(OSError, RuntimeError):  # a full or read-only disk; nobody's home
        folder = Path.home() / ".cache" / "tokenworlds" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
    return None


def notice() -> str | None:
    """What a person waits for when the game is made; nothing where it is not installed."""
    if importlib.util.find_spec("craftax") is None:
        return None
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or _compilation_cache()
    kept = f"kept in {folder}" if folder else "every time: no folder can keep it, set JAX_COMPILATION_CACHE_DIR"
    return f"compiling Craftax, minutes on the first start; {kept}"


def make(name: str, split: Split, config: EnvironmentConfig) -> Environment:
    """The game, the same for both splits; running out of steps is a truncation."""
    require("craftax/Symbolic", "craftax")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # all before the import of JAX; the accelerator is the agent's
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := _compilation_cache()) is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # compiling the game takes minutes
    from tokenworlds.envs.craftax_game import CraftaxGame, PublishedStarts

    length = EPISODE_STEPS if config.max_episode_steps is None else min(config.max_episode_steps, EPISODE_STEPS)
    env: Environment = PublishedStarts(length) if config.legacy_keys else CraftaxGame(length)
    return ClipReward(env) if config.clip_reward else env
