"""Normal noise on the pictures that an agent observes; what is drawn for people (``render``) stays clean."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenworlds.envs.spec import (
    Environment,
    Frame,
    ImageSpec,
    Information,
    ModalitySpec,
    Observation,
    Wrapper,
    describe,
    observation_space,
)
from tokenworlds.envs.wrappers import StepResult
from tokenworlds.errors import UserError

CLEAN = "clean_"  # before a picture's name: that of the same picture without noise
_STREAM = 1  # beside the seed of an episode, from which the environment's own randomness follows


class NoisyPictures(Wrapper):
    """Every observed picture as clip(picture + 255 std eps, 0, 255), eps standard normal per pixel and channel, rounded
    to the nearest uint8.

    The noise of an episode follows from the seed of its reset: each environment of a run has its own, and an episode
    that is repeated shows the same. A life that goes on in the running game draws on.

    Args:
        std: standard deviation, as a share of the range of a pixel.
        keeps_clean: whether the pictures without noise are observed, too, as modalities ``clean_<name>``.

    Raises:
        UserError: no picture is observed.
    """

    def __init__(self, env: Environment, std: float, *, keeps_clean: bool = False) -> None:
        super().__init__(env)
        self.std, self.keeps_clean = std, keeps_clean
        self.modalities: dict[str, ModalitySpec] = dict(describe(env).observation)
        self._pictures = [name for name, spec in self.modalities.items() if isinstance(spec, ImageSpec)]
        if not self._pictures:
            raise UserError(
                f"environment.noise is for pictures, the task shows {', '.join(self.modalities)}; leave it out."
            )
        if keeps_clean:
            self.modalities |= {f"{CLEAN}{name}": self.modalities[name] for name in self._pictures}
        self.observation_space = observation_space(self.modalities)
        self._generator = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Information]:
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None and not info.get("game_continues"):
            self._generator = np.random.default_rng([seed, _STREAM])
        return self._noisy(observation), info

    def step(self, action: Any) -> StepResult:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._noisy(observation), float(reward), terminated, truncated, info

    def _noisy(self, observation: Observation) -> Observation:
        clean = {f"{CLEAN}{name}": observation[name] for name in self._pictures} if self.keeps_clean else {}
        return {**observation, **{name: self._with_noise(observation[name]) for name in self._pictures}, **clean}

    def _with_noise(self, picture: Frame) -> Frame:
        noise = self._generator.standard_normal(picture.shape, dtype=np.float32)
        return np.clip(np.rint(picture + np.float32(255 * self.std) * noise), 0, 255).astype(np.uint8)


def clean(observations: dict[str, Any]) -> dict[str, Any]:
    """Observations with the pictures that were kept without noise in place of the noisy ones."""
    kept = {name.removeprefix(CLEAN): values for name, values in observations.items() if name.startswith(CLEAN)}
    return {name: kept.get(name, values) for name, values in observations.items()}
