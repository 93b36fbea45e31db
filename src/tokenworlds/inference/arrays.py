"""Observations and actions of users as the agent's networks take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenworlds.config.environments import TEMPERATURES
from tokenworlds.envs import (
    ActionSpec,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    ImageSpec,
    ModalitySpec,
    MultiDiscreteActions,
    Observation,
)
from tokenworlds.errors import UserError, brief, excerpt

Leading = tuple[int, ...]
"""Sizes of the dimensions before those of one observation or action."""


def check_observations(spec: EnvironmentSpec, given: Any) -> tuple[Observation, Leading]:
    """Observations by modality as they are stored: pictures uint8 (C, Y, X), which may be given as (Y, X, C), too.

    Args:
        given: modality -> array (*leading, *shape), or the array itself where there is one modality.

    Raises:
        UserError: a modality is missing or unknown, or an array has another shape or type, or values that no
            environment shows.
    """
    known = spec.observation
    if not isinstance(given, Mapping):
        if len(known) > 1:
            raise UserError(f"the agent observes {', '.join(known)}; give a dictionary with an array for each.")
        given = dict.fromkeys(known, given)
    if given.keys() != known.keys():
        names = brief(", ".join(map(str, given)), 80) if given else "nothing"
        raise UserError(f"the agent observes {', '.join(known)}, but the observation holds {names}; give just these.")
    arrays = {name: _modality(name, _array(name, given[name]), part) for name, part in known.items()}
    found = {name: values.shape[: values.ndim - len(known[name].shape)] for name, values in arrays.items()}
    if len(set(found.values())) > 1:
        raise UserError(f"the arrays hold different numbers of observations ({brief(found, 100)}); give equal ones.")
    return arrays, found.popitem()[1]


def _modality(name: str, values: NDArray[Any], part: ModalitySpec) -> NDArray[Any]:
    shape, wanted = part.shape, f"{part.shape}"
    if isinstance(part, ImageSpec):
        last = (part.height, part.width, part.channels)
        wanted += f" or {last}"
        if values.shape[-3:] != shape and values.shape[-3:] == last:
            values = np.moveaxis(values, -1, -3)
    if values.shape[-len(shape) :] != shape:
        raise UserError(f"{name} has the shape {values.shape}; the agent observes {wanted}, alone or in a batch.")
    values = _cast(name, values, part.dtype)
    if fault := part.fault(values):
        raise UserError(f"{name} {fault}.")
    return values


def _array(name: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # parts of several lengths; a tensor on a GPU
        raise UserError(f"{name} cannot be read as an array ({brief(error, 80)}); give numpy arrays.") from error


def check_actions(spec: ActionSpec, given: Any) -> tuple[NDArray[Any], Leading]:
    """Actions (*leading, *shape) in the environment's type.

    Raises:
        UserError: they have another shape or type, or are out of range.
    """
    values = _array("the action", given)
    least, most = _range(spec)
    before = values.ndim - len(spec.shape)
    if before < 0 or values.shape[before:] != spec.shape:
        raise UserError(f"the actions have the shape {values.shape}; each of them has the shape {spec.shape}.")
    values = _cast("the action", values, spec.dtype)
    if not ((values >= least) & (values <= most)).all():
        raise UserError(f"an action is out of range; the least is {least}, the greatest {most}.")
    return values, values.shape[:before]


def _range(spec: ActionSpec) -> tuple[Any, Any]:
    match spec:
        case DiscreteActions(count=count):
            return 0, count - 1
        case MultiDiscreteActions(counts=counts):
            return 0, np.array(counts) - 1
        case ContinuousActions():
            return -1, 1


def _cast(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers as the type that is wanted, in new memory; whole ones must fit in it."""
    has_kind = values.dtype.kind in ("fiu" if dtype.kind == "f" else "iu") or values.size == 0
    cast = values.astype(dtype, order="C") if has_kind else values
    if not has_kind or (dtype.kind != "f" and (cast != values).any()):
        raise UserError(f"{name} holds {values.dtype} values that are no {dtype}; give it as the environment does.")
    return cast


def check_temperature(given: Any) -> float:
    """A temperature at which logits can be divided.

    Raises:
        UserError: it is no number, or out of range.
    """
    least, most = TEMPERATURES
    if not isinstance(given, int | float | np.number) or (given != 0 and not least <= given <= most):
        raise UserError(f"temperature is {_shown(given)}; it must be 0 for what is most likely, or {least} to {most}.")
    return float(given)


def check_whole(name: str, given: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds, both included.

    Raises:
        UserError: it is no whole number, or out of range.
    """
    is_whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not is_whole or given < least or (most is not None and given > most):
        to = "on" if most is None else f"to {most:,}"
        raise UserError(f"{name} is {_shown(given)}; it must be a whole number from {least} {to}.")
    return int(given)


def _shown(given: Any) -> str:
    """A value for a message; text in quotes, which a number in it would not need."""
    return excerpt(repr(given) if isinstance(given, str) else given)


def check_seed(given: Any) -> int:
    """A seed of torch's generators.

    Raises:
        UserError: it is no whole number, or out of range.
    """
    return check_whole("seed", given, 0, 2**63 - 1)


def to_device(observations: Observation, device: torch.device) -> dict[str, Tensor]:
    """Arrays that nobody else changes as tensors."""
    return {name: torch.from_numpy(values).to(device) for name, values in observations.items()}
