"""MiniGrid's grid worlds, observed as a whole: as a picture (``minigrid``), as symbols (``minigrid_symbolic``: object,
colour and state of every cell), or in every modality at once (``minigrid_mixed``)."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.spec import (
    Environment,
    Frame,
    GridSpec,
    ImageSpec,
    ModalitySpec,
    Observation,
    TokenSpec,
    VectorSpec,
    observation_space,
)
from tokenworlds.envs.wrappers import ClipReward, TimeLimit, channels_first

_LARGEST_DRAWING = 640  # pixels a side; drawing time grows with the area
_STATES = 4  # three of a door, four directions of the agent


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
    """Worlds that the package registers but cannot make, and why: those generated from pattern pictures, which its
    wheels lack."""
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


class GridObservation(gymnasium.ObservationWrapper[Observation, Any, Any]):
    """Observes the whole grid, which the agent's field of view does not bound, in some of the modalities

    * ``image``: a picture (3, size, size) without the highlighted field of view;
    * ``vector``: the agent's column and row, and the share of the episode's steps that it has used;
    * ``token``: the agent's direction;
    * ``token_2d``: (cells, 3), row after row; the agent is an object of its cell, with its direction as the state.
    """

    def __init__(self, env: Environment, modalities: tuple[str, ...], config: EnvironmentConfig) -> None:
        super().__init__(env)
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX  # after the package was told not to greet

        self.world = cast(Any, env.unwrapped)
        self.size = config.size
        self.max_steps = min(config.max_episode_steps or self.world.max_steps, self.world.max_steps)
        self.action_meanings = tuple(action.name for action in self.world.actions)
        self._agent = OBJECT_TO_IDX["agent"], COLOR_TO_IDX["red"]
        vocab_sizes = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), _STATES)
        specs: dict[str, ModalitySpec] = {
            "image": ImageSpec(self.size, self.size),
            "vector": VectorSpec(3),
            "token": TokenSpec(1, _STATES),
            "token_2d": GridSpec(self.world.height, self.world.width, vocab_sizes),
        }
        self.modalities = {name: specs[name] for name in modalities}
        self.observation_space = observation_space(self.modalities)

    def observation(self, observation: Any) -> Observation:
        return {name: getattr(self, f"_{name}")() for name in self.modalities}

    def _image(self) -> Frame:
        tile = max(tile_pixels(cells, self.size) for cells in (self.world.width, self.world.height))
        drawing = self.world.grid.render(tile, self.world.agent_pos, self.world.agent_dir)
        if drawing.shape[:2] != (self.size, self.size):
            drawing = np.asarray(Image.fromarray(drawing).resize((self.size, self.size), Image.Resampling.BOX))
        return channels_first(drawing)

    def _vector(self) -> NDArray[np.float32]:
        return np.array([*self.world.agent_pos, self.world.step_count / self.max_steps], dtype=np.float32)

    def _token(self) -> NDArray[np.uint8]:
        return np.array([self.world.agent_dir], dtype=np.uint8)

    def _token_2d(self) -> NDArray[np.uint8]:
        cells = self.world.grid.encode()  # (columns, rows, 3)
        cells[tuple(self.world.agent_pos)] = *self._agent, self.world.agent_dir
        return np.ascontiguousarray(cells.transpose(1, 0, 2)).reshape(-1, 3)


_OBSERVED = {
    "minigrid": ("image",),
    "minigrid_symbolic": ("token_2d",),
    "minigrid_mixed": ("image", "vector", "token", "token_2d"),
}


def make(task: str, config: EnvironmentConfig) -> Environment:
    """A grid world with MiniGrid's rewards and terminations; its limit of steps is a termination, too."""
    benchmark, _, name = task.partition("/")
    world = gymnasium.make(_identifiers()[name], disable_env_checker=True, render_mode="rgb_array", highlight=False)
    env: Environment = GridObservation(world, _OBSERVED[benchmark], config)
    return TimeLimit(ClipReward(env) if config.clip_reward else env, config.max_episode_steps)
