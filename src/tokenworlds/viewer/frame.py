"""What a front end gives to a session and shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Panel:
    """One picture of a frame, at its own resolution."""

    name: str
    picture: NDArray[np.uint8]
    """(Y, X, 3)."""
    zoom: int = 1
    """Whole factor by which to enlarge the picture without smoothing; a front end may take another one."""


@dataclass(frozen=True)
class Frame:
    """What is to be shown after a step of the clock."""

    panels: tuple[Panel, ...]
    status: dict[str, Any]
    """Plain JSON values."""


@dataclass(frozen=True)
class Input:
    """What was held or pressed since the last step of the clock."""

    keys: frozenset[str] = frozenset()
    """Names as in the web's ``KeyboardEvent.key``: ``w``, ``ArrowUp``, `` ``."""
    action: tuple[float, ...] | None = None
    """Continuous actions in [-1, 1], one a slider."""
