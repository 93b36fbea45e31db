"""Several environments in lock-step, in this process or one worker process each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenworlds.envs.recorded import Recorded, RecordedState
from tokenworlds.envs.spec import EnvironmentSpec, Information, Observation
from tokenworlds.envs.stepping import Command, Outcome, SharedObservation, carry_out, shared_folder, shortage
from tokenworlds.errors import UserError

Factory = Callable[[], Recorded]
_ANSWER_SECONDS = 120.0
_LONG_ANSWER_SECONDS = 1800.0  # many workers start on few cores; a restored episode is played again in one go
_LEAVE_SECONDS = 2.0
_REMEDY = "start the run again, it continues from its last checkpoint"


@runtime_checkable
class Announcing(Protocol):
    """A factory that has something to tell a person before its environments are made, workers' included."""

    def announce(self) -> None: ...


class Member(Protocol):
    """One environment of a group: commands are sent to all members first, then all answers are received."""

    @property
    def spec(self) -> EnvironmentSpec: ...

    @property
    def observation(self) -> Observation: ...

    def send(self, command: Command, argument: Any = None) -> None: ...

    def receive(self) -> Any: ...

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


class LocalMember:
    """An environment in this process."""

    def __init__(self, factory: Factory) -> None:
        self._env = factory()
        self.spec = self._env.environment_spec
        self.observation: Observation = {}
        self._answers: deque[Any] = deque()

    def send(self, command: Command, argument: Any = None) -> None:
        observation, answer = carry_out(self._env, command, argument)
        if observation is not None:
            self.observation = observation
        self._answers.append(answer)

    def receive(self) -> Any:
        return self._answers.popleft()

    def hang_up(self) -> None:
        pass

    def close(self) -> None:
        self._env.close()


class WorkerMember:
    """An environment in a process of its own. The factory must be importable there (see ``EnvironmentFactory``)."""

    def __init__(
        self, factory: Factory, index: int, variables: dict[str, str] | None = None, *, quiet: bool = False
    ) -> None:
        """The system's environment of the worker is that of this process, and ``variables``; what it writes to stderr
        is lost if it is to be ``quiet``."""
        self._index = index
        try:
            self._process, self._connection, self._memory = _start(variables or {}, quiet)
        except OSError as error:
            reason = shortage(error) or f"it cannot be started: {error}."
            raise UserError(f"environment worker {index}: {reason}") from error
        self._finalizer = weakref.finalize(self, _stop, self._process, self._connection, self._memory)
        self._spec: EnvironmentSpec | None = None
        self._patience = _LONG_ANSWER_SECONDS
        self._put(factory)

    @property
    def spec(self) -> EnvironmentSpec:
        """Waits for the worker's start when first asked for."""
        if self._spec is None:
            self._spec = self.receive()
            self._shared = SharedObservation(self._spec, self._memory.fileno())
        return self._spec

    @property
    def observation(self) -> Observation:
        return self._shared.arrays

    def _put(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._failure() from None

    def send(self, command: Command, argument: Any = None) -> None:
        self._patience = _LONG_ANSWER_SECONDS if command == "restore" else _ANSWER_SECONDS
        self._put((command, argument))

    def receive(self) -> Any:
        try:
            if not self._connection.poll(self._patience):
                waited = f"{self._patience:.0f} s"
                raise UserError(f"environment worker {self._index} has not answered for {waited}; {_REMEDY}.")
            status, answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._failure() from None
        if status == "user_error":
            raise UserError(answer)
        if status == "error":
            failed = f"environment worker {self._index} failed with {answer} (its traceback is above)"
            raise UserError(f"{failed}; once that is mended, {_REMEDY}.")
        return answer

    def _failure(self) -> UserError:
        """The worker is gone without a word."""
        code = self._process.wait()
        reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        reason += " (is the memory exhausted?)" if code == -signal.SIGKILL else ""
        reason += " (is /dev/shm full?)" if code == -signal.SIGBUS else ""
        if self._spec is None:
            said = "what it said of it stands above" if code > 0 else "it said nothing"
            return UserError(f"environment worker {self._index} {reason} while it started, {said}; {_REMEDY}.")
        return UserError(f"environment worker {self._index} {reason}; {_REMEDY}.")

    def hang_up(self) -> None:
        """Tell the worker to leave, without waiting for it."""
        self._connection.close()

    def close(self) -> None:
        self._finalizer()


def _start(variables: dict[str, str], quiet: bool) -> tuple[subprocess.Popen[bytes], Connection, IO[bytes]]:
    """A worker's process, our end of its socket, and the file of the memory that both share."""
    with ExitStack() as on_failure, ExitStack() as anyhow:
        ours, theirs = socket.socketpair()
        on_failure.callback(ours.close)
        anyhow.callback(theirs.close)
        memory = on_failure.enter_context(tempfile.TemporaryFile(dir=shared_folder()))
        descriptors = (theirs.fileno(), memory.fileno())
        # Linux would end a worker with the thread that started it.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        program = ["tokenworlds.attached", str(parent), str(descriptors[0]), "tokenworlds.envs.worker"]
        search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", *program, *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if quiet else None,
            pass_fds=descriptors,
            env={**os.environ, "PYTHONPATH": search_path, **threads, **variables},
        )
        on_failure.pop_all()
    return process, Connection(ours.detach()), memory


def usable_processors() -> int:
    """Processor cores that this process may use; where the system does not say, those it has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _stop(process: subprocess.Popen[bytes], connection: Connection, memory: Any) -> None:
    """End a worker: it leaves when its socket closes, and is killed when it does not."""
    connection.close()
    memory.close()
    try:
        process.wait(timeout=_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class VectorEnvironment:
    """N environments in lock-step, in rounds: one that has finished waits until ``reset`` begins the next round.

    Arguments:
        factories: one per environment, e.g. ``[EnvironmentFactory(task, split, config)] * 8``.
        workers: one process per environment. ``None``: if there are several environments and more than two processor
            cores. The results are the same either way.

    ``finished`` (N,) tells which environments wait for a reset; before the first one, all do.
    """

    def __init__(self, factories: Sequence[Factory], workers: bool | None = None) -> None:
        if workers is None:
            workers = len(factories) > 1 and usable_processors() > 2
        self._members: list[Member] = []
        for factory in factories:
            if isinstance(factory, Announcing):
                factory.announce()
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

        An environment whose end was a lost life goes on in the running game when the new round begins.
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

        The observation of an end is the last one of its episode. What has finished before is left alone: it keeps this
        observation and its end flag, with reward 0 and nothing to tell.
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
        """Where the environments stand, for a checkpoint; those that have finished included."""
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
