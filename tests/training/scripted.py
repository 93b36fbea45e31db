"""An environment whose episodes are written down: pictures count the steps, lengths and rewards are given."""

from typing import Any

import gymnasium
import numpy as np

from tests import small
from tokenworlds.envs import Recorded, VectorEnvironment

SHAPE = (3, small.RESOLUTION, small.RESOLUTION)
DISCRETE = gymnasium.spaces.Discrete(small.ACTIONS)


class Scripted(gymnasium.Env[Any, Any]):
    """Step n of episode e shows 10 e + n (modulo 256); the reward of a step is n plus a hundredth of the action (of the
    sum of its numbers)."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)})
    action_meanings = ("a", "b", "c")

    def __init__(
        self, lengths: list[int], action_space: gymnasium.Space[Any] = DISCRETE, *, truncates: bool = False
    ) -> None:
        self.action_space = action_space
        self._lengths, self._truncates = lengths, truncates
        self._episode, self._step = -1, 0

    def _observation(self) -> dict[str, Any]:
        return {"image": np.full(SHAPE, (10 * self._episode + self._step) % 256, dtype=np.uint8)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._step = self._episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        end = self._step == self._lengths[self._episode % len(self._lengths)]
        reward = self._step + 0.01 * float(np.sum(action))
        return self._observation(), reward, end and not self._truncates, end and self._truncates, {}


def vector(*lengths: list[int], **options: Any) -> VectorEnvironment:
    """One environment per list of episode lengths (repeated for ever)."""
    members = [lambda chosen=chosen: Recorded(Scripted(chosen, **options)) for chosen in lengths]
    return VectorEnvironment(members, workers=False)
