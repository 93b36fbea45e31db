"""MiniGrid's grid worlds in every modality at once: the smallest task on which all tokenizers are needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenworlds.envs.minigrid import left_out, limited, names, world
from tokenworlds.envs.minigrid_symbolic import GridSymbols
from tokenworlds.envs.spec import (
    Environment,
    EnvironmentConfig,
    ImageSpec,
    Observation,
    Split,
    TokenSpec,
    VectorSpec,
    observation_space,
)

__all__ = ["left_out", "make", "names"]


class EveryModality(GridSymbols):
    """Observes the picture, a vector (the agent's column and row, and the share of its steps that it has used), its
    direction, and the symbols of the grid."""

    def __init__(self, env: Environment, size: int, max_steps: int | None) -> None:
        super().__init__(env)
        self.size = size
        self.max_steps = min(max_steps or self.world.max_steps, self.world.max_steps)
        self.modalities |= {"image": ImageSpec(size, size), "vector": VectorSpec(3), "token": TokenSpec(1, 4)}
        self.observation_space = observation_space(self.modalities)

    def observation(self, observation: Any) -> Observation:
        share = self.world.step_count / self.max_steps
        return {
            "image": np.ascontiguousarray(self.draw(self.size).transpose(2, 0, 1)),
            "vector": np.array([*self.world.agent_pos, share], dtype=np.float32),
            "token": np.array([self.world.agent_dir], dtype=np.uint8),
            "token_2d": self.symbols(),
        }


def make(name: str, split: Split, config: EnvironmentConfig) -> Environment:
    """As the family ``minigrid``, seen in more ways."""
    return limited(EveryModality(world(name), config.size, config.max_episode_steps), config)
