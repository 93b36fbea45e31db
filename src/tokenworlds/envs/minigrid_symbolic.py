"""MiniGrid's grid worlds as symbols: every cell's object, colour and state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenworlds.envs.minigrid import WholeGrid, left_out, limited, names, world
from tokenworlds.envs.spec import (
    Environment,
    EnvironmentConfig,
    GridSpec,
    ModalitySpec,
    Observation,
    Split,
    observation_space,
)

__all__ = ["GridSymbols", "left_out", "make", "names"]

STATES = 4  # of a door three, of the agent its directions


class GridSymbols(WholeGrid):
    """Observes the grid as ``token_2d``, the agent drawn into its cell with its direction as the state."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX  # after the package was told not to greet

        self._agent = OBJECT_TO_IDX["agent"], COLOR_TO_IDX["red"]
        vocab_sizes = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), STATES)
        grid = GridSpec(self.world.height, self.world.width, vocab_sizes)
        self.modalities: dict[str, ModalitySpec] = {"token_2d": grid}
        self.observation_space = observation_space(self.modalities)

    def symbols(self) -> NDArray[np.uint8]:
        """(cells, 3), row after row."""
        cells = self.world.grid.encode()  # (columns, rows, 3)
        cells[tuple(self.world.agent_pos)] = *self._agent, self.world.agent_dir
        return np.ascontiguousarray(cells.transpose(1, 0, 2)).reshape(-1, 3)

    def observation(self, observation: Any) -> Observation:
        return {"token_2d": self.symbols()}


def make(name: str, split: Split, config: EnvironmentConfig) -> Environment:
    """As the family ``minigrid``, seen in another way."""
    return limited(GridSymbols(world(name)), config)
