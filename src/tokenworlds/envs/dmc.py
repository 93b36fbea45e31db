"""The DeepMind Control Suite, proprioceptive: states of a body as a vector, torques as actions (M3's 18 tasks)."""

from __future__ import annotations

import os
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tokenworlds.envs.extras import require
from tokenworlds.envs.spec import (
    Environment,
    EnvironmentConfig,
    Frame,
    Information,
    ModalitySpec,
    Observation,
    Split,
    VectorSpec,
    observation_space,
)
from tokenworlds.envs.wrappers import ClipReward
from tokenworlds.errors import UserError

_TASKS = {
    "acrobot": ("swingup",),
    "ball_in_cup": ("catch",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse"),
    "cheetah": ("run",),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "hopper": ("hop", "stand"),
    "pendulum": ("swingup",),
    "reacher": ("easy", "hard"),
    "walker": ("run", "stand", "walk"),
}


def names() -> list[str]:
    return [f"{domain}-{task}" for domain, tasks in _TASKS.items() for task in tasks]


class ControlTask(gymnasium.Env[Observation, Any]):
    """One task: never terminated, truncated with the simulator's last step.

    An action is held for ``repeat`` of the simulator's control steps, of which an episode has 1000; its reward is their
    sum. An episode follows from its seed and its actions alone: the task's random numbers start anew at every reset.
    """

    def __init__(self, domain: str, task: str, repeat: int) -> None:
        from absl import logging
        from dm_control import suite

        logging.set_verbosity(logging.ERROR)  # else each construction warns of the models' deprecated attributes
        self._simulation = suite.load(domain, task, task_kwargs={"random": 0})
        self._repeat = repeat
        bounds = self._simulation.action_spec()
        self._centre, self._reach = (bounds.maximum + bounds.minimum) / 2, (bounds.maximum - bounds.minimum) / 2
        size = len(self._vector(self._simulation.reset()))
        self.modalities: dict[str, ModalitySpec] = {"vector": VectorSpec(size)}
        self.observation_space = observation_space(self.modalities)
        self.action_space = gymnasium.spaces.Box(-1, 1, bounds.shape, np.float32)

    @staticmethod
    def _vector(moment: Any) -> NDArray[np.float32]:
        return np.concatenate([np.ravel(entry) for entry in moment.observation.values()]).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Information]:
        super().reset(seed=seed)
        self._simulation.task.random.seed(self.np_random.integers(2**32, size=8))
        return {"vector": self._vector(self._simulation.reset())}, {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Information]:
        torques = self._centre + self._reach * np.asarray(action, dtype=np.float32)
        reward = 0.0
        for _ in range(self._repeat):
            moment = self._simulation.step(torques)
            reward += moment.reward
            if moment.last():
                break
        return {"vector": self._vector(moment)}, reward, False, bool(moment.last()), {}

    def render(self) -> Any:
        """A picture (Y, X, 3) of the body.

        Raises:
            UserError: the simulator cannot draw here.
        """
        try:
            return cast(Frame, self._simulation.physics.render(camera_id=0))
        except RuntimeError as error:
            raise UserError("the simulator cannot draw here; set MUJOCO_GL to egl or osmesa.") from error


def make(name: str, split: Split, config: EnvironmentConfig) -> Environment:
    """A task, the same for both splits; ``config.frame_skip`` control steps an action (published: 2, so that an episode
    has 500 actions). ``config.max_episode_steps`` counts actions here."""
    require(f"dmc/{name}", "dm-control", "dm_control")
    os.environ.setdefault("MUJOCO_GL", "disabled")  # before its import: states need no pictures, nor libraries for them
    domain, _, task = name.partition("-")
    env: Environment = ControlTask(domain, task, config.frame_skip)
    if config.max_episode_steps is not None:
        env = gymnasium.wrappers.TimeLimit(env, config.max_episode_steps)
    return ClipReward(env) if config.clip_reward else env
