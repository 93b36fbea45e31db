"""Commands to one environment of a group, in this process or in a worker, and the memory that observations share."""

from __future__ import annotations

import errno
import math
import mmap
import os
import resource
import tempfile
from typing import Any, Literal, NamedTuple

import numpy as np

from tokenworlds.envs.recorded import Recorded
from tokenworlds.envs.spec import EnvironmentSpec, Information, Observation

Command = Literal["reset", "step", "state", "restore", "render"]

# Entries of a step's info that leave the worker; the emulator's own do not.
_INFORMATION = ("lives", "life_loss", "truncated", "achievements", "trained")


class Outcome(NamedTuple):
    """Result of a step."""

    reward: float
    end: bool
    info: Information


def execute(env: Recorded, command: Command, argument: Any) -> tuple[Observation | None, Any]:
    """Execute one command on one environment: the new observation, if it changes, and the answer."""
    if command == "step":
        observation, reward, terminated, truncated, info = env.step(argument)
        info = {key: info[key] for key in _INFORMATION if key in info}
        if truncated and not terminated:
            info["truncated"] = True
        return observation, Outcome(reward, terminated or truncated, info)
    if command == "reset":
        return env.reset(seed=argument)[0], None
    if command == "restore":
        return env.restore(argument), env.finished
    return None, env.state() if command == "state" else env.render()


def shortage(error: BaseException) -> str | None:
    """A sentence about a lack of files, shared memory or processes, for which no environment is to blame; else None."""
    if not isinstance(error, OSError):
        return None
    fewer = "or play fewer environments side by side (num_envs)"
    match error.errno:
        case errno.EMFILE | errno.ENFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"too many open files (the limit is {limit}); raise it with `ulimit -n 4096`, {fewer}."
        case errno.ENOSPC | errno.EDQUOT:
            full = f"{shared_folder() or tempfile.gettempdir()} is full"
            needed = "it must hold an observation of each environment"
            return f"{full}: {needed}; free some of it, enlarge it (of a container: --shm-size=1g), {fewer}."
        case errno.EAGAIN | errno.ENOMEM:
            return f"no further process for an environment ({error.strerror}); end others, raise ulimit -u, {fewer}."
    return None


def shared_folder() -> str | None:
    """The system's folder for memory that processes share, if it has one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class SharedObservation:
    """One observation in memory that two processes map from the same unlinked file: no leftovers when one dies."""

    def __init__(self, spec: EnvironmentSpec, file_descriptor: int) -> None:
        sizes = {name: math.prod(part.shape) * part.dtype.itemsize for name, part in spec.observation.items()}
        aligned = {name: -(-size // 64) * 64 for name, size in sizes.items()}
        if os.fstat(file_descriptor).st_size < sum(aligned.values()):
            _reserve(file_descriptor, sum(aligned.values()))
        self._memory = mmap.mmap(file_descriptor, sum(aligned.values()))
        self.arrays: Observation = {}
        offset = 0
        for name, modality in spec.observation.items():
            count = sizes[name] // modality.dtype.itemsize
            flat = np.frombuffer(self._memory, dtype=modality.dtype, count=count, offset=offset)
            self.arrays[name] = flat.reshape(modality.shape)
            offset += aligned[name]

    def write(self, observation: Observation) -> None:
        for name, array in self.arrays.items():
            array[...] = observation[name]


def _reserve(file_descriptor: int, size: int) -> None:
    """Give a file this size and its memory. A size alone would promise what a full disk cannot keep: the first write
    into the map would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file_descriptor, 0, size)
    else:
        os.ftruncate(file_descriptor, size)
