"""``VectorEnvironment``: a group of environments in lock-step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenworlds.envs.recorded import RecordedState
from tokenworlds.envs.spec import Information, Observation
from tokenworlds.envs.vector.commands import Command, Outcome
from tokenworlds.envs.vector.members import Factory, LocalMember, WorkerMember


def usable_processors() -> int:
    """Processor cores that this process may use; where the system does not say, those it has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class VectorEnvironment:
    """N environments in lock-step, in rounds: one that has finished waits until ``reset`` begins the next round.

    Arguments:
        factories: one per environment, e.g. ``[EnvironmentFactory(task, config)] * 8``; an ``announce`` of theirs is
            called first.
        workers: one process per environment. ``None``: if there are several environments and more than two processor
            cores. The results are the same either way.

    ``finished`` (N,) says which environments wait for a reset; before the first one, all do.
    """

    def __init__(self, factories: Sequence[Factory], workers: bool | None = None) -> None:
        if workers is None:
            workers = len(factories) > 1 and usable_processors() > 2
        self._members: list[LocalMember | WorkerMember] = []
        for factory in factories:
            getattr(factory, "announce", lambda: None)()
        try:
            for index, factory in enumerate(factories):
                self._members.append(WorkerMember(factory, index) if workers else LocalMember(factory))
            self.spec, *_ = [member.spec for member in self._members]
        except BaseException:
            self.close()
            raise
        self.finished: NDArray[np.bool_] = np.ones(len(factories), dtype=bool)

    @property
    def num_envs(self) -> int:
        return len(self._members)

    @property
    def observations(self) -> Observation:
        """The current observations, modality -> (N, ...); a copy."""
        current = [member.observation for member in self._members]
        return {name: np.stack([observation[name] for observation in current]) for name in self.spec.observation}

    def reset(self, seeds: Sequence[int] | None = None) -> Observation:
        """With seeds (N,): start anew. Without: a new round for the environments that have finished; others go on.

        An environment whose episode ended with a lost life goes on in the running game when the new round begins.
        """
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one per environment, but got {len(seeds)}.")
        chosen = [index for index in range(self.num_envs) if seeds is not None or self.finished[index]]
        for index in chosen:
            self._members[index].send("reset", None if seeds is None else int(seeds[index]))
        for index in chosen:
            self._members[index].receive()
        self.finished = np.zeros(self.num_envs, dtype=bool)
        return self.observations

    def step(self, actions: ArrayLike) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[Information]]:
        """One step with actions (N, *shape): observations, rewards (N,), ends (N,), infos (lives, life_loss,
        truncated, achievements). Running out of time is an end, too, one whose info says ``truncated``.

        The observation of an end is the last one of its episode. An environment that had finished before is left
        alone: it keeps this observation and its end flag, with reward 0 and an empty info.
        """
        chosen = np.asarray(actions)
        if len(chosen) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} actions, one per environment, but got {len(chosen)}.")
        running = np.flatnonzero(~self.finished)
        if len(running) == 0:
            raise RuntimeError("all environments have finished; reset() begins their next round.")
        for index in running:
            self._members[index].send("step", chosen[index])
        outcomes = [Outcome(0.0, True, {}) for _ in self._members]
        for index in running:
            outcomes[index] = self._members[index].receive()
        rewards = np.array([outcome.reward for outcome in outcomes], dtype=np.float32)
        ends = np.array([outcome.end for outcome in outcomes], dtype=bool)
        self.finished = ends.copy()
        return self.observations, rewards, ends, [outcome.info for outcome in outcomes]

    def _ask(self, command: Command) -> list[Any]:
        for member in self._members:
            member.send(command)
        return [member.receive() for member in self._members]

    def state(self) -> list[RecordedState]:
        """States of all environments for a checkpoint, those that have finished included."""
        return self._ask("state")

    def restore(self, states: Sequence[RecordedState]) -> Observation:
        """Continue where ``state`` was taken, bit for bit; returns the current observations."""
        for member, state in zip(self._members, states, strict=True):
            member.send("restore", state)
        self.finished = np.array([member.receive() for member in self._members], dtype=bool)
        return self.observations

    def render(self) -> list[NDArray[np.uint8]]:
        """The raw pictures (Y, X, 3) of the games."""
        return self._ask("render")

    def close(self) -> None:
        """Stop all workers. May be called twice."""
        for member in self._members:
            member.hang_up()
        for member in self._members:
            member.close()

    def __enter__(self) -> VectorEnvironment:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
