"""What a world model expects to follow from actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from tokenworlds.agents.imagined_world import ImaginedWorld
from tokenworlds.envs import EnvironmentSpec, Observation
from tokenworlds.episodes import Episode
from tokenworlds.errors import UserError
from tokenworlds.inference.arrays import check_actions, check_observations, to_device
from tokenworlds.replay import Segments


@dataclass(frozen=True)
class Imagined:
    """What follows from T actions; in a batch all arrays have its dimension first."""

    observations: Observation
    """Modality -> (T + 1, ...) as of the environment, pictures uint8 (C, Y, X). The first is the one that imagination
    starts from, decoded from its tokens (Delta-IRIS: the real one). Empty where none were asked for."""
    rewards: NDArray[np.float32]
    """(T,), the environment's as predicted."""
    terminations: NDArray[np.bool_]
    """(T,), whether the episode ends with this step. What follows an end means nothing."""
    tokens: NDArray[Any]
    """(T, S) that were sampled: of the next observation, or of the change to it (Delta-IRIS)."""


def read_context(spec: EnvironmentSpec, context: Any, length: int, device: torch.device) -> tuple[Segments, bool]:
    """At most ``length`` last frames of what ``TrainedAgent.imagine`` is given, (B, T, ...), and whether it is a batch.

    Raises:
        UserError: observations or actions do not fit the environment, or each other.
    """
    if isinstance(context, Episode):
        known = len(next(iter(context.observations.values())))
        context = context.observations, context.actions[: known - 1]
    has_time = isinstance(context, tuple) and len(context) == 2
    observations, leading = check_observations(spec, context[0] if has_time else context)
    if not has_time:
        observations = {name: np.expand_dims(values, len(leading)) for name, values in observations.items()}
        context, leading = (None, np.zeros((*leading, 0, *spec.actions.shape), spec.actions.dtype)), (*leading, 1)
    actions, between = check_actions(spec.actions, context[1])
    if len(leading) not in (1, 2) or 0 in leading or between != (*leading[:-1], leading[-1] - 1):
        raise UserError(
            f"the context has observations {leading} and actions {between}; give an observation or a batch of them, or "
            "a pair: observations (T,) and actions (T - 1,) between them, or (B, T) and (B, T - 1)."
        )
    is_batch = len(leading) == 2
    if not is_batch:
        observations, actions = {name: values[None] for name, values in observations.items()}, actions[None]
    after = np.pad(actions, [(0, 0), (0, 1)] + [(0, 0)] * len(spec.actions.shape))  # nothing is known after the last
    recent = {name: values[:, -length:] for name, values in observations.items()}
    return Segments.of_frames(to_device(recent, device), torch.from_numpy(after[:, -length:]).to(device)), is_batch


@torch.no_grad()
def imagine(
    world: ImaginedWorld, spec: EnvironmentSpec, context: Segments, is_batch: bool, actions: Any, observe: bool
) -> Imagined:
    """As ``TrainedAgent.imagine``, from the last frames of a context.

    Raises:
        UserError: the actions do not fit the environment, or the context.
    """
    values, leading = check_actions(spec.actions, actions)
    rows = len(context.mask)
    batch = leading[0] if len(leading) == 2 else rows
    if len(leading) not in (1, 2) or 0 in leading or rows not in (1, batch):
        raise UserError(
            f"the actions are {leading} and the context has {rows} rows; give (T,) actions, or (B, T) of them for a "
            "context of one row or of B."
        )
    shape = (batch, *values.shape[len(leading) - 1 :])
    taken = torch.from_numpy(np.broadcast_to(values, shape).copy()).to(world.generator.device)
    world.begin(context.map(lambda part: part.expand(batch, *part.shape[1:])))
    seen, steps = [world.observations()] if observe else [], []
    for t in range(leading[-1]):
        steps.append(world.step(taken[:, t]))
        if observe:
            seen.append(world.observations())

    def joined(parts: Sequence[Tensor], dtype: DTypeLike | None = None) -> NDArray[Any]:
        array = torch.stack(list(parts), dim=1).cpu().numpy()
        return (array if is_batch or len(leading) == 2 else array[0]).astype(dtype or array.dtype)

    return Imagined(
        {name: joined([one[name] for one in seen], part.dtype) for name, part in spec.observation.items() if seen},
        joined([step.rewards for step in steps], np.float32),
        joined([step.terminations for step in steps], np.bool_),
        joined([step.tokens for step in steps]),
    )
