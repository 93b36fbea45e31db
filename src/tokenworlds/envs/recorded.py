"""Resumable environments: an episode is repeated from its seed and its actions.

This holds for environments whose randomness is all drawn from the seed of ``reset(seed=...)``, and whose code is still
the same; where the repeated episode shows something else in the end, it is refused.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from tokenworlds.envs.spec import Environment, EnvironmentSpec, Information, Observation, Wrapper, describe
from tokenworlds.errors import UserError


class RecordedState(TypedDict):
    """State of an environment."""

    seed: int  # of the last reset with a seed
    episode: int  # games since then
    snapshot: NDArray[np.uint8] | None  # of the machine before this game, where a machine goes on from game to game
    actions: NDArray[Any]  # (steps, ...), since the game began
    life_resets: list[int]  # number of actions before each continuation after a lost life
    checksum: int | None  # of the current observation; None: nothing to compare with


def _checksum(observation: Observation) -> int:
    """Of every modality, in the order of their names."""
    checksum = 0
    for name in sorted(observation):
        checksum = zlib.crc32(np.ascontiguousarray(observation[name]).tobytes(), checksum)
    return checksum


def episode_seed(seed: int, episode: int) -> int:
    """Seed of one game: the first takes the given seed itself."""
    if episode == 0:
        return seed
    return int(np.random.SeedSequence([seed, episode]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Recorded(Wrapper):
    """Outermost wrapper of every environment: all randomness follows from one seed, and ``state`` resumes exactly.

    ``reset(seed=...)`` starts anew. ``reset()`` starts the next episode of the same sequence: after a lost life in the
    running game, else in a new game whose seed follows from the first one and a counter.
    """

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self.environment_spec: EnvironmentSpec = describe(env)
        self._seed: int | None = None
        self._observation: Observation = {}
        self.finished = True  # whether the next call has to be a reset
        self._begin(0, None)

    def _begin(self, episode: int, snapshot: NDArray[np.uint8] | None) -> None:
        self._episode, self._snapshot = episode, snapshot
        self._actions: list[Any] = []
        self._life_resets: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Information]:
        self.finished = False
        if seed is None and self._seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])  # from the system's entropy
        if seed is not None:
            self._seed = int(seed)
            self._begin(0, None)
            self._observation, info = self.env.reset(seed=self._seed)
            return self._observation, info
        assert self._seed is not None
        snapshot = self.env.get_wrapper_attr("snapshot")() if self.env.has_wrapper_attr("snapshot") else None
        episode = self._episode + 1
        self._observation, info = self.env.reset(seed=episode_seed(self._seed, episode), options={"scope": "life"})
        if info.get("game_continues"):
            self._life_resets.append(len(self._actions))
        else:
            self._begin(episode, snapshot)
        return self._observation, info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Information]:
        self._actions.append(np.array(action, dtype=self.environment_spec.actions.dtype))  # a copy
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self.finished = bool(terminated or truncated)
        return self._observation, float(reward), terminated, truncated, info

    def state(self) -> RecordedState:
        """Everything needed to continue, as numbers and arrays."""
        if self._seed is None:
            raise RuntimeError("an environment has no state before its first reset.")
        actions = self.environment_spec.actions
        return RecordedState(
            seed=self._seed,
            episode=self._episode,
            snapshot=self._snapshot,
            actions=np.array(self._actions, dtype=actions.dtype).reshape(-1, *actions.shape),
            life_resets=list(self._life_resets),
            checksum=_checksum(self._observation),
        )

    def restore(self, state: RecordedState) -> Observation:
        """Repeat the saved episode; returns its current observation (after its end, the last one).

        Raises:
            UserError: the environment shows something else than when the state was taken.
        """
        self._seed = int(state["seed"])
        snapshot, episode = state["snapshot"], int(state["episode"])
        if snapshot is not None:
            self.env.get_wrapper_attr("load_snapshot")(snapshot)
        self._begin(episode, snapshot)
        scope = "machine" if snapshot is None else "game"
        observation: Observation
        observation, _ = self.env.reset(seed=episode_seed(self._seed, episode), options={"scope": scope})
        self.finished = False
        life_resets = [int(position) for position in state["life_resets"]]
        resets_before = Counter(life_resets)
        for position in range(len(state["actions"]) + 1):
            for _ in range(resets_before[position]):
                observation, _ = self.env.reset(options={"scope": "life"})
                self.finished = False
            if position < len(state["actions"]):
                observation, _, terminated, truncated, _ = self.env.step(state["actions"][position])
                self.finished = bool(terminated or truncated)
        self._actions, self._life_resets, self._observation = list(state["actions"]), life_resets, observation
        if (checksum := state.get("checksum")) is not None and checksum != _checksum(observation):
            raise UserError(
                f"the environment {type(self.unwrapped).__name__} shows something else when the same actions are "
                "repeated from the same seed: its code has changed, or it draws random numbers that "
                "reset(seed=...) does not seed; start again with runtime.resume=never, or go on with "
                "runtime.resume=any_code."
            )
        return observation
