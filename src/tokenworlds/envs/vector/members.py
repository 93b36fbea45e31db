"""One environment of a group: a command is sent to all members first, then all answers are received."""

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
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import IO, Any

from tokenworlds.cli import STATUS_ERROR, STATUS_MEMORY
from tokenworlds.envs.recorded import Recorded
from tokenworlds.envs.spec import EnvironmentSpec, Observation
from tokenworlds.envs.vector.commands import Command, SharedObservation, execute, shared_folder, shortage
from tokenworlds.errors import UserError

Factory = Callable[[], Recorded]
_ANSWER_SECONDS = 120.0
_LONG_ANSWER_SECONDS = 1800.0  # many workers start on few cores; a restored episode is played again in one go
_LEAVE_SECONDS = 2.0
_TIMEOUT = 128 + signal.SIGALRM  # exit status
_REMEDY = "start the run again, it continues from its last checkpoint"


class LocalMember:
    """An environment in this process."""

    def __init__(self, factory: Factory) -> None:
        self._env = factory()
        self.spec = self._env.environment_spec
        self.observation: Observation = {}
        self._answers: deque[Any] = deque()

    def send(self, command: Command, argument: Any = None) -> None:
        observation, answer = execute(self._env, command, argument)
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
    """An environment in a process of its own, where the factory must be importable (see ``EnvironmentFactory``).

    The worker inherits this process' environment variables, to which ``variables`` are added; ``quiet`` discards its
    stderr.
    """

    def __init__(
        self, factory: Factory, index: int, variables: dict[str, str] | None = None, *, quiet: bool = False
    ) -> None:
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
        """Specification of the environment; the first call waits until the worker has started."""
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
                raise UserError(f"environment worker {self._index} has not answered for {waited}; {_REMEDY}.", _TIMEOUT)
            status, answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._failure() from None
        if status == "user_error":
            raise UserError(answer)
        if status != "ok":
            failed = f"environment worker {self._index} failed with {answer} (its traceback is above)"
            number = STATUS_MEMORY if status == "memory" else STATUS_ERROR
            raise UserError(f"{failed}; once that is mended, {_REMEDY}.", number)
        return answer

    def ask(self, command: Command, argument: Any = None) -> Any:
        self.send(command, argument)
        return self.receive()

    def _failure(self) -> UserError:
        """Why a worker has ended without an answer; the exit status is a shell's for that signal, or that of a lack of
        memory."""
        code = self._process.wait()
        reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        reason += " (is the memory exhausted?)" if code == -signal.SIGKILL else ""
        reason += " (is /dev/shm full?)" if code == -signal.SIGBUS else ""
        if self._spec is None:
            reason += " while it started, " + ("what it said of it stands above" if code > 0 else "it said nothing")
        is_memory = code in (-signal.SIGKILL, -signal.SIGBUS)
        status = STATUS_MEMORY if is_memory else 128 - code if code < 0 else STATUS_ERROR
        return UserError(f"environment worker {self._index} {reason}; {_REMEDY}.", status)

    def hang_up(self) -> None:
        """Ask the worker to leave, without waiting for it."""
        self._connection.close()

    def close(self) -> None:
        self._finalizer()


def _start(variables: dict[str, str], quiet: bool) -> tuple[subprocess.Popen[bytes], Connection, IO[bytes]]:
    """A worker's process, this side's end of its socket, and the file of the memory that both share."""
    with ExitStack() as on_failure, ExitStack() as anyhow:
        ours, theirs = socket.socketpair()
        on_failure.callback(ours.close)
        anyhow.callback(theirs.close)
        memory = on_failure.enter_context(tempfile.TemporaryFile(dir=shared_folder()))
        descriptors = (theirs.fileno(), memory.fileno())
        # Linux would end a worker with the thread that started it.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        program = ["tokenworlds.attached", str(parent), str(descriptors[0]), "tokenworlds.envs.vector.worker"]
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


def _stop(process: subprocess.Popen[bytes], connection: Connection, memory: IO[bytes]) -> None:
    """End a worker: it leaves when its socket closes, and is killed when it does not."""
    connection.close()
    memory.close()
    try:
        process.wait(timeout=_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
