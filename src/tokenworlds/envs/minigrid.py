"""MiniGrid's grid worlds as small pixel worlds: the whole grid is seen as one picture."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from PIL import Image

from tokenworlds.envs.spec import Environment, EnvironmentConfig, Frame, Split
from tokenworlds.envs.wrappers import ClipReward, ImageObservation, TimeLimit

_LARGEST_DRAWING = 640  # pixels a side; drawing time grows with the area


def _identifiers() -> dict[str, str]:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import minigrid  # noqa: F401  # registers its worlds

    prefix, suffix = "MiniGrid-", "-v0"
    worlds = [name for name in gymnasium.registry if name.startswith(prefix) and name.endswith(suffix)]
    return {name.removeprefix(prefix).removesuffix(suffix): name for name in sorted(worlds)}


def names() -> list[str]:
    missing = left_out()
    return [name for name in _identifiers() if name not in missing]


def left_out() -> dict[str, str]:
    """Worlds that the package registers but cannot make, and why: those grown from pattern pictures, which its wheels
    lack."""
    worlds = [name for name in _identifiers() if name.startswith("WFC-")]
    package = sys.modules["minigrid"].__file__
    assert package is not None
    if (Path(package).parent / "envs" / "wfc" / "patterns").is_dir():
        return {}
    return dict.fromkeys(worlds, "the installed package minigrid lacks the pattern pictures that it is grown from")


def tile_pixels(cells: int, size: int) -> int:
    """Pixels to draw a cell with, so that reducing a row of ``cells`` to ``size`` pixels is exact averaging.

    The smallest tile that makes the drawing a whole multiple of ``size``; where that would be too large, twice the
    final resolution.
    """
    step = size // math.gcd(cells, size)
    tile = step * math.ceil(size / cells / step)
    return tile if tile * cells <= _LARGEST_DRAWING else math.ceil(2 * size / cells)


def world(name: str) -> Environment:
    """The package's grid world."""
    return gymnasium.make(_identifiers()[name], disable_env_checker=True, render_mode="rgb_array", highlight=False)


def limited(env: Environment, config: EnvironmentConfig) -> Environment:
    """With the rewards that are asked for; running out of steps is an end."""
    return TimeLimit(ClipReward(env) if config.clip_reward else env, config.max_episode_steps)


class WholeGrid(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Base of the observations of the whole grid, which the agent's field of view does not bound."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self.world = cast(Any, env.unwrapped)

    @property
    def action_meanings(self) -> tuple[str, ...]:
        return tuple(action.name for action in self.world.actions)

    def draw(self, size: int) -> Frame:
        """A picture (size, size, 3), without the highlighted field of view."""
        tile = max(tile_pixels(cells, size) for cells in (self.world.width, self.world.height))
        drawing = self.world.grid.render(tile, self.world.agent_pos, self.world.agent_dir)
        if drawing.shape[:2] == (size, size):
            return cast(Frame, drawing)
        return np.asarray(Image.fromarray(drawing).resize((size, size), Image.Resampling.BOX))


class GridPicture(WholeGrid):
    """Observes the grid as a picture (size, size, 3)."""

    def __init__(self, env: Environment, size: int) -> None:
        super().__init__(env)
        self.size = size
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)

    def observation(self, observation: Any) -> Frame:
        return self.draw(self.size)


def make(name: str, split: Split, config: EnvironmentConfig) -> Environment:
    """A grid world with MiniGrid's own rewards and ends; running out of its steps is an end, too."""
    return ImageObservation(limited(GridPicture(world(name), config.size), config))
