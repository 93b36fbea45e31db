"""IRIS's environment wrappers, for a raw game with one RGB frame (Y, X, 3) a step and ``info["lives"]``.

Order, innermost first: ``ClipReward``, ``TimeLimit``, ``NoopReset``, ``ResizedFrameSkip``, ``EpisodicLife``,
``ImageObservation``. The original resizes every raw frame at the very bottom. Only the last two frames of a step and
the frame after a reset can reach an observation, so ``ResizedFrameSkip`` resizes just those: the same pictures for half
the work. Resizing comes before the maximum, which is the opposite order of many pipelines.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from tokenworlds.config.environments import EnvironmentConfig
from tokenworlds.envs.spec import (
    Environment,
    Frame,
    ImageSpec,
    Information,
    Observation,
    Wrapper,
    action_meanings,
    observation_space,
)
from tokenworlds.errors import UserError

StepResult = tuple[Any, float, bool, bool, Information]


def resize_frame(frame: Frame, size: int) -> Frame:
    """Pillow's BILINEAR: a triangle filter whose support grows with the reduction (antialiased), rounded to uint8."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))


def channels_first(frame: Frame) -> Frame:
    """A picture (Y, X, C) as (C, Y, X)."""
    return np.ascontiguousarray(frame.transpose(2, 0, 1))


class ClipReward(Wrapper):
    """Rewards to their sign."""

    def step(self, action: Any) -> StepResult:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(np.sign(float(reward))), terminated, truncated, info


class TimeLimit(Wrapper):
    """Terminates an episode after so many steps since the reset: the world model learns to predict an end there.

    A truncation from inside becomes a termination, too, with ``info["truncated"]``.
    """

    def __init__(self, env: Environment, max_steps: int | None) -> None:
        super().__init__(env)
        self.max_steps = max_steps
        self._elapsed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Information]:
        self._elapsed = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> StepResult:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._elapsed += 1
        if truncated or (self.max_steps is not None and self._elapsed >= self.max_steps):
            if not terminated:
                info["truncated"] = True
            terminated = True
        return observation, float(reward), terminated, False, info


class NoopReset(Wrapper):
    """Repeats action 0, no operation, for n raw frames after a reset, n uniform in {1..noop_max}."""

    def __init__(self, env: Environment, noop_max: int) -> None:
        super().__init__(env)
        self.noop_max = noop_max
        first, *_ = action_meanings(env)
        if first != "NOOP":
            raise UserError(
                f"the game's action 0 is {first}, but it must do nothing (NOOP): after a reset it is repeated; this "
                "game cannot be played as published."
            )

    def draw_noops(self) -> int:
        """Number of no-ops, from the environment's own generator, which the seed of the reset has just set."""
        return int(self.np_random.integers(1, self.noop_max, endpoint=True)) if self.noop_max else 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Information]:
        observation, info = self.env.reset(seed=seed, options=options)
        for _ in range(self.draw_noops()):
            observation, _, terminated, _, info = self.env.step(0)
            if terminated:  # the remaining no-ops are done in the new game
                observation, info = self.env.reset(options={"scope": "game"})
        return observation, info


class ResizedFrameSkip(Wrapper):
    """Repeats an action; the observation is the pixel-wise maximum of the last two resized frames, the reward the sum.

    The two-frame buffer is written at the last two repetitions only, and never cleared: when the game ends earlier,
    the returned picture holds stale frames. M3 stores and learns them as final observations.
    """

    def __init__(self, env: Environment, frame_skip: int, size: int) -> None:
        super().__init__(env)
        self.frame_skip = frame_skip
        self.size = size
        self._last_two = np.zeros((2, size, size, 3), dtype=np.uint8)
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Information]:
        frame, info = self.env.reset(seed=seed, options=options)
        return resize_frame(frame, self.size), info

    def step(self, action: Any) -> StepResult:
        info: Information = {}
        total_reward, signs, terminated = 0.0, 0.0, False
        for repetition in range(self.frame_skip):
            frame, reward, terminated, _, info = self.env.step(action)
            total_reward += float(reward)
            signs += float(np.sign(float(reward)))
            slot = repetition - (self.frame_skip - 2)
            if slot >= 0:
                self._last_two[slot] = resize_frame(frame, self.size)
            if terminated:
                break
        return self._last_two.max(axis=0), total_reward, terminated, False, info | {"signs": signs}


class EpisodicLife(Wrapper):
    """Makes every life an episode: losing one that is not the last raises the end flag, marked ``info["life_loss"]``.

    A reset of scope "life" then goes on in the same game: one action 0 is stepped through the frame skip, its reward
    and end dropped (if the game ends in it, the next step sees that). As in the original it does so also when no life
    was lost just now.
    """

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._lives = 0
        self._is_game_over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Information]:
        if (options or {}).get("scope") == "life" and not self._is_game_over:
            observation, _, _, _, info = self.env.step(0)
            info["game_continues"] = True
        else:
            observation, info = self.env.reset(seed=seed, options=options)
            self._is_game_over = True  # nothing has been played: a further reset is one of the game
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> StepResult:
        observation, reward, terminated, _, info = self.env.step(action)
        self._is_game_over = terminated
        if 0 < info["lives"] < self._lives:
            info["life_loss"] = not terminated
            terminated = True
        self._lives = info["lives"]
        return observation, float(reward), terminated, False, info


class AsTrained(Wrapper):
    """Says what an environment of training would give in the same step: ``info["trained"]`` is its reward, and whether
    a lost life would end the episode there.

    Args:
        config: of training.
    """

    def __init__(self, env: Environment, config: EnvironmentConfig) -> None:
        super().__init__(env)
        self._config, self._lives = config, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Information]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._lives = info.get("lives", 0)
        return observation, info

    def step(self, action: Any) -> StepResult:
        observation, reward, terminated, truncated, info = self.env.step(action)
        before, self._lives = self._lives, info.get("lives", 0)
        given = reward = float(reward)
        if self._config.clip_reward:
            given = info.get("signs", float(np.sign(reward)))
        is_lost = self._config.done_on_life_loss and 0 < self._lives < before
        return observation, reward, terminated, truncated, info | {"trained": (given, is_lost)}


class ImageObservation(gymnasium.ObservationWrapper[Observation, Any, Frame]):
    """Turns pictures (Y, X, C) into ``{"image": (C, Y, X)}``."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        assert env.observation_space.shape is not None
        height, width, channels = env.observation_space.shape
        self.observation_space = observation_space({"image": ImageSpec(height, width, channels)})

    def observation(self, observation: Frame) -> Observation:
        return {"image": channels_first(observation)}
