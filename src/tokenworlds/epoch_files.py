"""Checkpoints of a training as files: found, read and checked. ``training.checkpoint`` writes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenworlds.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def heads(folder: Path) -> list[Path]:
    """Heads of the checkpoints in a folder, the newest one last: by the number of the epoch, for names have five digits
    at least."""
    return sorted(folder.glob("epoch_*.json"), key=epoch_of)


def epoch_of(head: Path) -> int:
    """Epoch of a checkpoint."""
    return int(head.stem.removeprefix("epoch_"))


def last_epoch(folder: Path) -> int | None:
    """Epoch of the newest checkpoint; None when there is none."""
    return max(map(epoch_of, folder.glob("epoch_*.json")), default=None)


def read_last(
    folder: Path, config_hash: str, remedy: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and head of the newest checkpoint; None when there is none.

    Args:
        folder: of the training.
        config_hash: of its configuration.
        remedy: what who only reads should do about an error; by default what who trains should.

    Raises:
        UserError: it is damaged, or belongs to another configuration.
    """
    from safetensors.torch import load  # imports torch

    if (epoch := last_epoch(folder)) is None:
        return None
    path = folder / f"epoch_{epoch:05d}.json"
    remedy = remedy or f"delete {path} to resume from the checkpoint before it, or {folder} to start again"
    try:
        head: dict[str, Any] = json.loads(path.read_text())
        is_intact = head.pop("checksum") == checksum(head)
        content = path.with_suffix(".safetensors").read_bytes()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"checkpoint {path} cannot be read ({type(error).__name__}): {remedy}.") from error
    if not is_intact:
        raise UserError(f"checkpoint {path} is damaged (its checksum differs from the recorded one): {remedy}.")
    if head["config_hash"] != config_hash:
        found = f"{head['config_hash']}, not {config_hash}"
        raise UserError(f"checkpoint {path} belongs to another configuration ({found}): {remedy}.")
    if digest(content) != head["sha256"]:
        weights = path.with_suffix(".safetensors")
        raise UserError(f"checkpoint {weights} is damaged (its digest differs from the recorded one): {remedy}.")
    return load(content), head


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def checksum(head: dict[str, Any]) -> str:
    """Digest of a head's values, however they are spelled."""
    return digest(json.dumps(head, sort_keys=True).encode())
