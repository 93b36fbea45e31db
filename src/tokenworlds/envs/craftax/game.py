"""The game Craftax as a compiled program. Needs the package `craftax`, which brings JAX."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from craftax.craftax.constants import Achievement, Action
from craftax.craftax.envs.craftax_symbolic_env import CraftaxSymbolicEnvNoAutoReset
from numpy.typing import NDArray

from tokenworlds.envs.craftax.observation import MODALITIES, decode_observation
from tokenworlds.envs.spec import Information, Observation, observation_space


@functools.cache
def compiled() -> tuple[Any, Any]:
    """Compiled start and step of an episode, including the coding of observations.

    begin(key) -> key, state, observation; advance(key, state, action) -> key, state, observation, reward, end,
    achievements. A key is split once per start and step, as by the published adapter, and the step's part once more, as
    by the game that resets itself. The game's limit of steps is removed, because it would terminate the game.
    """
    game = CraftaxSymbolicEnvNoAutoReset()
    rules = game.default_params.replace(max_timesteps=np.iinfo(np.int32).max)

    def begin(key: Any) -> tuple[Any, ...]:
        key, start = jax.random.split(key)
        flat, state = game.reset_env(start, rules)
        return key, state, decode_observation(flat, jnp)

    def advance(key: Any, state: Any, action: Any) -> tuple[Any, ...]:
        key, step = jax.random.split(key)
        flat, state, reward, is_over, _ = game.step_env(jax.random.split(step)[0], state, action, rules)
        return key, state, decode_observation(flat, jnp), reward, is_over, state.achievements

    key = jax.ShapeDtypeStruct((2,), np.uint32)
    action = jax.ShapeDtypeStruct((), np.int32)
    _, state, _ = jax.eval_shape(begin, key)
    return jax.jit(begin).lower(key).compile(), jax.jit(advance).lower(key, state, action).compile()


class CraftaxGame(gymnasium.Env[Observation, Any]):
    """Craftax with its published rewards, truncated after ``length`` steps.

    An episode follows from its seed and its actions alone. ``info["achievements"]`` of its last step names what was
    unlocked in it. Construction compiles the game.
    """

    modalities = MODALITIES
    achievements: tuple[str, ...] = tuple(Achievement(number).name.lower() for number in range(len(Achievement)))
    action_meanings: tuple[str, ...] = tuple(Action(number).name.lower() for number in range(len(Action)))

    def __init__(self, length: int) -> None:
        self._length = length
        self._begin, self._advance = compiled()
        self._key: Any = None
        self.observation_space = observation_space(self.modalities)
        self.action_space = gymnasium.spaces.Discrete(len(self.action_meanings))

    def _start(self, seed: int, options: dict[str, Any] | None) -> None:
        """Set the key to ``jax.random.PRNGKey(seed)``, with 64 bits."""
        self._key = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], dtype=np.uint32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Information]:
        super().reset(seed=seed)
        self._start(int(self.np_random.integers(2**62)) if seed is None else seed, options)
        self._steps = 0
        self._key, self._state, observation = self._begin(self._key)
        return {name: np.array(values) for name, values in observation.items()}, {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Information]:
        self._steps += 1
        self._key, self._state, observation, reward, is_over, unlocked = self._advance(
            self._key, self._state, np.int32(action)
        )
        terminated = bool(is_over)
        truncated = self._steps >= self._length and not terminated
        info: Information = {}
        if terminated or truncated:
            info["achievements"] = tuple(self.achievements[number] for number in np.flatnonzero(unlocked))
        arrays = {name: np.array(values) for name, values in observation.items()}
        return arrays, float(reward), terminated, truncated, info


class PublishedStarts(CraftaxGame):
    """As in the published runs, every environment begins with the world of key 0, whatever its seed, and goes on with
    the key of its last step. So an episode is determined by the key before it (``snapshot``) and its actions."""

    def _start(self, seed: int, options: dict[str, Any] | None) -> None:
        if (options or {}).get("scope", "machine") == "machine":
            super()._start(0, options)

    def snapshot(self) -> NDArray[np.uint8]:
        return np.asarray(self._key).view(np.uint8)

    def load_snapshot(self, snapshot: NDArray[np.uint8]) -> None:
        self._key = np.frombuffer(snapshot.tobytes(), dtype=np.uint32)
