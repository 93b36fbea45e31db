"""Any environment that is registered with Gymnasium: ``gym/CartPole-v1``, ``gym/mypackage:MyEnv-v0``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tokenworlds.config import EnvironmentConfig
from tokenworlds.config.spaces import Entry, Part, categories, channels_last, construct, find, observed, require_actions
from tokenworlds.envs.spec import (
    Environment,
    GridSpec,
    ImageSpec,
    Information,
    ModalitySpec,
    Observation,
    TokenSpec,
    VectorSpec,
    Wrapper,
    observation_space,
)
from tokenworlds.envs.wrappers import ClipReward, StepResult, channels_first, resize_frame
from tokenworlds.errors import UserError, brief, excerpt

_SEEDS = 2**31  # the seeds that every simulator takes

Reader = Callable[[Any], NDArray[Any]]
"""An observation as the environment gives it -> one modality of it."""


class AnyEnvironment(Wrapper):
    """Observations by modality, actions as agents choose them: what the spaces of an environment say of both.

    Pictures become (3, size, size); all vectors and scalars one ``vector``, all categories one ``token``, a map of
    categories a ``token_2d``; further pictures and maps are numbered. Continuous actions are scaled from [-1, 1].
    Its information is left out: agents learn from observations, rewards and ends alone.
    """

    def __init__(self, env: Environment, size: int) -> None:
        super().__init__(env)
        _require_seeds(env)
        self.modalities: dict[str, ModalitySpec] = {}
        self._readers: dict[str, Reader] = {}
        found = observed(env.observation_space)
        for part in (Part.vector, Part.token):
            if several := [entry for entry in found if entry.part is part]:
                self._add(part.name, *_concatenated(part, several))
        for part in (Part.image, Part.token_2d):
            several = [entry for entry in found if entry.part is part]
            for number, entry in enumerate(several, start=1):
                name = part.name if number == 1 else f"{part.name}_{number}"
                self._add(name, *(_picture(entry, size) if part is Part.image else _map(entry)))
        self.observation_space = observation_space(self.modalities)
        self.action_space, self._act = _actions(env.action_space)
        if isinstance(self.action_space, spaces.Discrete):
            self.action_meanings = _meanings(env, int(self.action_space.n))

    def _add(self, name: str, spec: ModalitySpec, read: Reader) -> None:
        self.modalities[name], self._readers[name] = spec, read

    def has_wrapper_attr(self, name: str) -> bool:
        """Only what this wrapper has itself: to an environment's own names (``achievements``, ``snapshot``) benchmarks
        give a meaning that it need not know."""
        return hasattr(type(self), name) or name in vars(self)

    def _observation(self, observation: Any) -> Observation:
        return {name: self._modality(name, read, observation) for name, read in self._readers.items()}

    def _modality(self, name: str, read: Reader, observation: Any) -> NDArray[Any]:
        """
        Raises:
            UserError: the environment shows what its space does not hold.
        """
        spec = self.modalities[name]
        try:
            values = read(observation)
            fault = spec.fault(values) if values.shape == spec.shape else f"has the shape {values.shape}"
        except (LookupError, TypeError, ValueError) as error:
            fault = f"cannot be read ({type(error).__name__}: {brief(error, 60)})"
        if fault:
            raise UserError(
                f"the environment {type(self.unwrapped).__name__} shows what its observation_space does not hold: "
                f"{name} {fault}; mend one of them."
            )
        return np.ascontiguousarray(values, spec.dtype)

    def _old(self, wanted: str) -> UserError:
        return UserError(
            f"the environment {type(self.unwrapped).__name__} is of the interface before Gymnasium's: {wanted}."
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Information]:
        result = self.env.reset(seed=None if seed is None else seed % _SEEDS)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
            raise self._old("reset must return (observation, info)")
        return self._observation(result[0]), {}

    def step(self, action: Any) -> StepResult:
        try:
            observation, given, terminated, truncated, _ = self.env.step(self._act(action))
        except ValueError as error:
            if "to unpack (expected 5" not in str(error):  # here, or in a wrapper of Gymnasium's
                raise
            raise self._old("step must return (observation, reward, terminated, truncated, info)") from error
        reward = np.asarray(given)
        if reward.size != 1 or reward.dtype.kind not in "biuf" or not np.isfinite(reward).all():
            raise UserError(
                f"the environment {type(self.unwrapped).__name__} gave the reward {excerpt(given)}; a finite number is "
                "needed."
            )
        return self._observation(observation), float(reward.item()), bool(terminated), bool(truncated), {}

    def render(self) -> Any:
        """A picture (Y, X, 3).

        Raises:
            UserError: the environment draws none.
        """
        if self.env.render_mode != "rgb_array":
            raise UserError(f"the environment {type(self.unwrapped).__name__} has no render mode rgb_array.")
        return np.asarray(self.env.render(), np.uint8)


def _require_seeds(env: Environment) -> None:
    """Refuse environments of the interface before Gymnasium's."""
    parameters = inspect.signature(env.unwrapped.reset).parameters
    takes_any = any(value.kind is value.VAR_KEYWORD for value in parameters.values())
    if not takes_any and not {"seed", "options"} <= parameters.keys():
        raise UserError(
            "its reset lacks seed or options: write reset(self, *, seed=None, options=None) -> (observation, info)."
        )


def _at(entry: Entry, observation: Any) -> Any:
    for key in entry.path:
        observation = observation[key]
    return observation


def _concatenated(part: Part, several: list[Entry]) -> tuple[ModalitySpec, Reader]:
    """All vectors, or all categories, of an observation; these as counted from zero."""

    def read(observation: Any) -> NDArray[Any]:
        return np.concatenate([np.ravel(_at(entry, observation)) - start for entry, start in zip(several, starts)])

    if part is Part.vector:
        starts: list[Any] = [np.float32(0) for _ in several]
        return VectorSpec(sum(int(np.prod(entry.space.shape or ())) for entry in several)), read
    starts = [np.ravel(getattr(entry.space, "start", 0)) for entry in several]
    counts = np.concatenate([np.ravel(cast(NDArray[Any], categories(entry.space))) for entry in several])
    return TokenSpec(len(counts), int(counts.max())), read


def _map(entry: Entry) -> tuple[ModalitySpec, Reader]:
    """Cells row after row; a third axis holds several categories of each."""
    counts = cast(NDArray[Any], categories(entry.space))
    height, width = counts.shape[:2]
    columns = counts[0, 0].reshape(-1)
    start = getattr(entry.space, "start", 0)
    spec = GridSpec(height, width, tuple(int(count) for count in columns))
    return spec, lambda observation: (np.asarray(_at(entry, observation)) - start).reshape(spec.shape)


def _picture(entry: Entry, size: int) -> tuple[ModalitySpec, Reader]:
    box = cast(spaces.Box, entry.space)
    is_last, is_bytes = channels_last(box.shape), box.dtype == np.uint8

    def read(observation: Any) -> NDArray[np.uint8]:
        frame = np.asarray(_at(entry, observation))
        frame = frame[..., None] if frame.ndim == 2 else frame if is_last else frame.transpose(1, 2, 0)
        if not is_bytes:
            frame = np.round(np.clip(frame, 0, 1) * 255).astype(np.uint8)
        frame = np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))
        return channels_first(frame if frame.shape[:2] == (size, size) else resize_frame(frame, size))

    return ImageSpec(size, size), read


def _actions(space: gymnasium.Space[Any]) -> tuple[gymnasium.Space[Any], Callable[[Any], Any]]:
    """The space that agents act in, and what turns an action from there into one of the environment's.

    Raises:
        UserError: no agent can choose such actions.
    """
    require_actions(space)
    match space:
        case spaces.Discrete(n=count, start=start):
            return spaces.Discrete(int(count)), lambda action: int(action) + int(start)
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            counts, start = cast(NDArray[Any], categories(space)), getattr(space, "start", 0)
            shape, dtype = counts.shape, space.dtype
            act = lambda action: (np.reshape(action, shape) + start).astype(dtype)  # noqa: E731
            return spaces.MultiDiscrete(counts.ravel()), act
    size = int(np.prod(space.shape or ()))
    return spaces.Box(-1, 1, (size,), np.float32), partial(_scaled, cast(spaces.Box, space))


def _scaled(box: spaces.Box, action: Any) -> NDArray[Any]:
    share = (np.clip(np.reshape(action, box.shape), -1, 1).astype(np.float64) + 1) / 2
    return (box.low + share * (box.high.astype(np.float64) - box.low)).astype(box.dtype)


def _meanings(env: Environment, count: int) -> tuple[str, ...]:
    """Names of discrete actions: the environment's own, if it has one of each, else numbers."""
    for name in ("action_meanings", "get_action_meanings"):
        if env.has_wrapper_attr(name):
            found = env.get_wrapper_attr(name)
            found = tuple(map(str, found() if callable(found) else found))
            if len(found) == count:
                return found
    return tuple(f"action {index}" for index in range(count))


def names() -> list[str]:
    """None: which environments there are depends on the packages that are imported (``gymnasium.pprint_registry``)."""
    return []


def check(task: str) -> None:
    """
    Raises:
        UserError: the environment is not registered.
    """
    find(task)


def make(task: str, config: EnvironmentConfig) -> Environment:
    """An environment with its own rewards, ends and time limit, which ``config.max_episode_steps`` can shorten.

    Raises:
        UserError: it cannot be made, or its spaces are none that an agent can read or act in.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # which draws many of them
    env = construct(task, config.max_episode_steps)
    try:
        wrapped: Environment = AnyEnvironment(env, config.size)
    except UserError as error:
        raise UserError(f"{excerpt(task, 60)}: {error}") from error
    return ClipReward(wrapped) if config.clip_reward else wrapped
