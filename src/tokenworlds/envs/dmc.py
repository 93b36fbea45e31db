"""DeepMind Control Suite, proprioceptive: the state of a body as a vector, torques as actions (M3's 18 tasks)."""

from __future__ import annotations

import os
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.spec import (
    Environment,
    Frame,
    Information,
    ModalitySpec,
    Observation,
    VectorSpec,
    observation_space,
)
from tokenworlds.envs.wrappers import ClipReward
from tokenworlds.errors import UserError, brief

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

    render_mode = "rgb_array"

    def __init__(self, domain: str, task: str, repeat: int) -> None:
        from absl import logging

        suite = _suite()
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
        physics = self._simulation.physics
        quality = physics.model.vis.quality  # of drawing alone; the finest costs a CPU six times as much
        quality.offsamples, quality.shadowsize = 0, 512
        try:
            return cast(Frame, physics.render(camera_id=0))
        except Exception as error:  # of whatever graphics library there is
            raise UserError(
                f"the simulator cannot draw here; set MUJOCO_GL to egl or osmesa ({brief(error, 80)})."
            ) from error


def _suite() -> Any:
    """The package's tasks. It selects a renderer at its import; training needs none, so by default drawing is disabled
    during the import, and the variable is restored afterwards for child processes that draw."""
    chosen = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = chosen or "disabled"
    try:
        from dm_control import suite
    except Exception as error:  # of whatever graphics library there is
        if not chosen:
            raise
        raise UserError(
            f"dm_control cannot draw with MUJOCO_GL={brief(chosen, 20)} ({brief(error, 80)}); unset it, or set egl or "
            "osmesa."
        ) from error
    finally:
        if not chosen:
            del os.environ["MUJOCO_GL"]
    return suite


def make(task: str, config: EnvironmentConfig) -> Environment:
    """A task with ``config.frame_skip`` control steps an action (published: 2, so that an episode has 500 actions).
    ``config.max_episode_steps`` counts actions here."""
    domain, _, name = task.removeprefix("dmc/").partition("-")
    env: Environment = ControlTask(domain, name, config.frame_skip)
    if config.max_episode_steps is not None:
        env = gymnasium.wrappers.TimeLimit(env, config.max_episode_steps)
    return ClipReward(env) if config.clip_reward else env
