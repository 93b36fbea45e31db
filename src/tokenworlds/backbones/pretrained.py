"""Weights of another model as those of a trunk: every tensor of the trunk, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenworlds import tensor_files
from tokenworlds.config.trunk import STAND_INS, TrunkConfig, digest_of_weights, weights_file
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened

SUBJECT = "model.world_model.trunk.weights: "
LAYER = re.compile(r"blocks\.(\d+)\.")


def load(backbone: nn.Module, config: TrunkConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Copy tensors, by the names that the trunk has for them, into a trunk.

    Returns:
        What ``scores.json`` tells of the weights.

    Raises:
        UserError: a tensor is missing, left over, of another shape, or holds NaN or infinite values; the file was
            replaced since its digest was found out.
    """
    place, wanted = str(config.weights), trunk_of(backbone.state_dict())
    digest = digest_of_weights(place)
    if config.digest not in (None, digest):
        raise UserError(f"{SUBJECT}the digest is {config.digest}, but this file has {digest}; give the command again.")
    layers = 1 + max(int(match[1]) for name in wanted if (match := LAYER.match(name)))
    found = {name: value for name, value in tensors.items() if not (config.first_layers and _layer(name) >= layers)}
    if misfits := tensor_files.misfits(found, wanted):
        name, (shape, expected) = next(iter(misfits.items()))
        more = f", and {len(misfits) - 1} more" if len(misfits) > 1 else ""
        raise UserError(
            f"{SUBJECT}{shortened(weights_file(place), 60)} does not fit: {brief(name, 60)} has {_shape(shape)}, here "
            f"{_shape(expected)}{more}; give the trunk the sizes of the file, or another file."
        )
    tensor_files.refuse_not_finite(weights_file(place), tensor_files.not_finite(found), "fetch it again")
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)
    is_stand_in = place.startswith(STAND_INS)
    print(f"trunk from {'a stand-in of random weights in the format of ' * is_stand_in}{config.init.name}, {digest}")
    return {"init": config.init.name, "weights": digest, "stand_in": is_stand_in}


def trunk_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a trunk among those of a sequence model: without positions, projections, low-rank additions."""
    return {
        name: value for name, value in state.items() if name.startswith(("blocks.", "norm.")) and ".lora_" not in name
    }


def read(file: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file, or of a state dict that ``torch.save`` wrote.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    loaded = tensor_files.read(file, SUBJECT)
    named = loaded.items() if isinstance(loaded, Mapping) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, Tensor)}
    reason = tensor_files.unusable(tensors) or ("" if tensors else "it holds no tensors by name")
    if reason:
        raise UserError(f"{SUBJECT}{shortened(file, 80)}: {reason}; give another file.")
    return tensors


def renamed(tensors: Mapping[str, Tensor], prefix: str, parts: Mapping[str, str], ignored: str) -> dict[str, Tensor]:
    """The tensors under the names of a trunk; unknown ones keep theirs.

    Args:
        prefix: regular expression of what may stand before a name, and of a layer's number, the group ``layer``.
        parts: of a layer: their name -> ours, each followed by ``.weight`` or ``.bias``.
        ignored: regular expression of names that do not belong to a trunk.
    """
    found = {}
    for name, value in tensors.items():
        match = re.fullmatch(rf"{prefix}(?P<part>.+)\.(?P<kind>weight|bias)", name)
        part = parts.get(match["part"]) if match else None
        if match and part:
            found[f"blocks.{match['layer']}.{part}.{match['kind']}"] = value
        elif not re.fullmatch(ignored, name):
            found[name] = value
    return found


def joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Separate projections to queries, keys and values as one."""
    found = dict(tensors)
    for name in tensors:
        if ".attention.query." in name:
            names = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
            if all(other in found for other in names):
                found[name.replace(".query.", ".query_key_value.")] = torch.cat([found.pop(other) for other in names])
    return found


def _layer(name: str) -> int:
    match = LAYER.match(name)
    return int(match[1]) if match else -1


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "a number"
