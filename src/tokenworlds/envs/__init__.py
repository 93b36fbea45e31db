"""Gymnasium environments with the papers' exact preprocessing: vectorised, resumable bit for bit."""

from tokenworlds.envs.recorded import Recorded, RecordedState
from tokenworlds.envs.registry import EnvironmentFactory, check_task, known_tasks, make, summary
from tokenworlds.envs.spec import (
    ActionSpec,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    GridSpec,
    ImageSpec,
    ModalitySpec,
    MultiDiscreteActions,
    Observation,
    TokenSpec,
    VectorSpec,
)
from tokenworlds.envs.vector import VectorEnvironment

__all__ = [
    "ActionSpec",
    "ContinuousActions",
    "DiscreteActions",
    "EnvironmentFactory",
    "EnvironmentSpec",
    "GridSpec",
    "ImageSpec",
    "ModalitySpec",
    "MultiDiscreteActions",
    "Observation",
    "Recorded",
    "RecordedState",
    "TokenSpec",
    "VectorEnvironment",
    "VectorSpec",
    "check_task",
    "known_tasks",
    "make",
    "summary",
]
