"""Untrained agents of all methods, and of M3 on every kind of observation and action that an environment here has."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import small
from tests.viewer import support
from tokenworlds.loading import TrainedAgent

KINDS = {
    "iris": ("iris", None),
    "rem": ("rem", None),
    "delta_iris": ("delta_iris", None),
    "m3": ("m3", None),  # a picture and a map
    "m3 on a vector": ("m3", "gym/Pendulum-v1"),  # with continuous actions
}


def trained(kind: str) -> TrainedAgent:
    return support.trained(*KINDS[kind])


def observations(agent: TrainedAgent, *shape: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random ones by modality, (*shape, ...)."""
    return {name: values.numpy() for name, values in small.observations(agent.spec, *shape, seed=seed).items()}


def actions(agent: TrainedAgent, *shape: int, seed: int = 0) -> NDArray[Any]:
    """Random ones, (*shape, ...)."""
    drawn = agent.spec.actions.random(np.random.default_rng(seed), int(np.prod(shape)))
    return drawn.reshape(*shape, *agent.spec.actions.shape)


def rows(given: dict[str, NDArray[Any]], which: Any) -> dict[str, NDArray[Any]]:
    return {name: values[which] for name, values in given.items()}
