"""Gymnasium environments with the papers' exact preprocessing: vectorised, resumable bit for bit."""

from tokenworlds.envs.done_tracker import DoneTracker
from tokenworlds.envs.recorded import Recorded, RecordedState
from tokenworlds.envs.registry import EnvironmentFactory, check_task, known_tasks, make
from tokenworlds.envs.spec import EnvironmentConfig, EnvironmentSpec, ImageSpec, Observation
from tokenworlds.envs.vector import VectorEnvironment

__all__ = [
    "DoneTracker",
    "EnvironmentConfig",
    "EnvironmentFactory",
    "EnvironmentSpec",
    "ImageSpec",
    "Observation",
    "Recorded",
    "RecordedState",
    "VectorEnvironment",
    "check_task",
    "known_tasks",
    "make",
]
