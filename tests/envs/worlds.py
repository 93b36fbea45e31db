"""Two tiny worlds that are registered with Gymnasium when this module is imported: ``gym/tests.envs.worlds:Spot-v0``
shows a picture, ``gym/tests.envs.worlds:Bag-v0`` a dictionary with a picture, numbers and categories."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

CELLS = 4


class Spot(gymnasium.Env[Any, Any]):
    """A bright cell on a row; the reward is at the right end, where it starts at random in the left half."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    achievements = snapshot = "names that mean something else to benchmarks"

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space: Any = spaces.Box(0, 255, (20, 24), np.uint8)
        self.action_space: Any = spaces.Discrete(2, start=-1)
        self.position = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = int(self.np_random.integers(CELLS // 2))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        assert action in (-1, 0)
        self.position = max(self.position + (1 if action == 0 else -1), 0)
        end = self.position == CELLS - 1
        return self._observation(), np.array([float(end)]), end, False, {"lives": "none", "game_continues": True}

    def _picture(self) -> Any:
        frame = np.zeros((24, 20), np.uint8)
        frame[6 * self.position : 6 * self.position + 6] = 250
        return frame.T  # no copy: neither contiguous nor the agent's to keep

    def _observation(self) -> Any:
        return self._picture()

    def render(self) -> Any:
        return np.repeat(self._picture()[..., None], 3, axis=2)


class Bag(Spot):
    """The same world in a nested dictionary, moved by three switches at once: two of them have no effect."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.action_space = spaces.MultiBinary(3)
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 1, (3, 12, 12), np.float32),
                "body": spaces.Dict({"place": spaces.Box(-np.inf, np.inf, (), np.float64), "left": spaces.Discrete(9)}),
                "signs": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Discrete(CELLS, start=5))),
                "map": spaces.MultiBinary((2, CELLS)),
            }
        )

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return super().step(int(action[1]) - 1)

    def _observation(self) -> Any:
        marks = np.zeros((2, CELLS), np.int8)
        marks[:, self.position] = 1
        return {
            "camera": np.full((3, 12, 12), self.position / CELLS, np.float32),
            "body": {"place": np.float64(self.position), "left": CELLS - 1 - self.position},
            "signs": (np.array([self.position % 2, self.position % 3]), self.position + 5),
            "map": marks,
        }


for world in (Spot, Bag):
    gymnasium.register(f"{world.__name__}-v0", world, max_episode_steps=12)
