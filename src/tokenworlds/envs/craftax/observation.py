"""Coding of Craftax's observations; needs neither the game nor JAX."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tokenworlds.envs.spec import GridSpec, ModalitySpec, TokenSpec, VectorSpec

HEIGHT, WIDTH = 9, 11  # cells in view
BLOCKS, ITEMS, MOBS = 37, 5, 40  # one-hot groups of a cell; then its light. Mobs: 5 classes of 8 kinds
LIGHT_STEP = np.float32(0.05)
LIGHTS = 20  # floor(1 / 0.05) + 1, where the quotient of the two float32 is just below 20
STATISTICS = 51  # numbers after the cells
DIRECTION = slice(31, 35)  # of the player, one-hot, among the statistics

MODALITIES: dict[str, ModalitySpec] = {
    "vector": VectorSpec(STATISTICS - 4),
    "token": TokenSpec(1, 4),
    "token_2d": GridSpec(HEIGHT, WIDTH, (BLOCKS, ITEMS, MOBS, LIGHTS)),
}


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
