"""What one environment of a group does on a command, in this process or in a worker."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any, Literal, NamedTuple

import numpy as np

from tokenworlds.envs.recorded import Recorded
from tokenworlds.envs.spec import EnvironmentSpec, Information, Observation

Command = Literal["reset", "step", "state", "restore", "render"]

# What the rest of the program may know about a step besides its reward; the emulator's own entries stay in the worker.
_INFORMATION = ("lives", "life_loss", "truncated", "achievements")


class Outcome(NamedTuple):
    """Result of a step."""

    reward: float
    end: bool
    info: Information


def carry_out(env: Recorded, command: Command, argument: Any) -> tuple[Observation | None, Any]:
    """One command on one environment: the new observation, if it changes, and the answer."""
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


class SharedObservation:
    """One observation in memory that two processes map from the same unlinked file: no leftovers when one dies."""

    def __init__(self, spec: EnvironmentSpec, file_descriptor: int) -> None:
        sizes = {name: math.prod(part.shape) * part.dtype.itemsize for name, part in spec.observation.items()}
        aligned = {name: -(-size // 64) * 64 for name, size in sizes.items()}
        if os.fstat(file_descriptor).st_size < sum(aligned.values()):
            os.ftruncate(file_descriptor, sum(aligned.values()))
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
