"""Gymnasium environments with the papers' exact preprocessing: vectorised, resumable bit for bit.

``WorldModelEnv`` and ``WorldModelVectorEnv`` are trained world models, and their ``Contexts`` where imagined episodes
begin (``tokenworlds.world_model_env``). They stand on agents, which stand on this package: what they need is imported
when one of them is asked for by its name, which ``*`` does not do.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tokenworlds.world_model_env import Contexts as Contexts
    from tokenworlds.world_model_env import PlayedContexts as PlayedContexts
    from tokenworlds.world_model_env import RecordedContexts as RecordedContexts
    from tokenworlds.world_model_env import WorldModelEnv as WorldModelEnv
    from tokenworlds.world_model_env import WorldModelVectorEnv as WorldModelVectorEnv

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

_OF_WORLD_MODELS = ("Contexts", "PlayedContexts", "RecordedContexts", "WorldModelEnv", "WorldModelVectorEnv")


def __getattr__(name: str) -> Any:
    if name not in _OF_WORLD_MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tokenworlds.world_model_env"), name)
