"""What a sequence model remembers of an imagined world."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from tokenworlds.backbones.base import Backbone


def tensors(state: Any) -> list[Tensor]:
    """The tensors of a state, however it is built."""
    if isinstance(state, Tensor):
        return [state]
    if dataclasses.is_dataclass(state):
        state = [getattr(state, field.name) for field in dataclasses.fields(state)]
    if isinstance(state, dict):
        state = list(state.values())
    return [tensor for part in state for tensor in tensors(part)] if isinstance(state, list | tuple) else []


@torch.no_grad()
def bytes_per_environment(backbone: Backbone[Any]) -> int:
    """Bytes that another trajectory adds to a state; what all trajectories share does not count."""
    one, two = (sum(tensor.nbytes for tensor in tensors(backbone.init_state(batch))) for batch in (1, 2))
    return two - one
