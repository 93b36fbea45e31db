"""Tensors from foreign files: no code of a pickle ever runs, and an error names what cannot be read."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened

# Numbers of numpy, which are rebuilt from a number format and bytes without calling anything
_NUMBERS = [type(np.dtype(code)) for code in "?bhilqBHILQefdFDSUMm"]
_REBUILD = [
    (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
    for name in ("scalar", "_reconstruct")
    for core in ("core", "_core")
]
HARMLESS: list[Any] = [np.dtype, np.ndarray, *_NUMBERS, *_REBUILD]
_REFUSED = re.compile(
    r"GLOBAL ([\w.]+\.[\w.]+)|blocklisted module `?([\w.]+)|Unsupported class ([\w.]+)|but got <class '([\w.]+)'>"
)


def read(file: Path, subject: str = "") -> Any:
    """Content of a ``.safetensors`` file, or else of one of ``torch.save``.

    Args:
        subject: prefix of error messages that says what the file is for.

    Raises:
        UserError: no such file, a damaged one, or one that holds objects besides tensors and plain values.
    """
    if not os.path.exists(file):  # false for a name that is too long
        raise UserError(f"{subject}there is no file {shortened(file)}.")
    if file.is_dir():
        raise UserError(f"{subject}{shortened(file)} is a folder; give the checkpoint inside it.")
    try:
        if file.suffix == ".safetensors":
            return safetensors.load_file(file)
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{subject}{shortened(file)} cannot be read: {error.strerror}.") from error
    except Exception as error:  # a damaged pickle fails in any way
        match = _REFUSED.search(str(error))
        what = f"an object of {brief(next(filter(None, match.groups())), 60)}" if match else ""
        what = "a TorchScript program" if "TorchScript" in str(error) else what
        if what:
            raise UserError(
                f"{subject}{shortened(file)} holds {what}, and reading it would run code of the file; "
                "where you trust it, save its tensors alone with torch.save(agent.state_dict(), FILE)."
            ) from error
        kind = "safetensors" if isinstance(error, SafetensorError) else type(error).__name__
        raise UserError(f"{subject}{shortened(file)} is damaged or no checkpoint ({kind}); fetch it again.") from error


METADATA = "tokenworlds"  # one key, whose value is JSON: safetensors writes several in random order
FORMAT, VERSION = "tokenworlds-agent", 1  # of the names and meanings of an agent's tensors


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file, whose bytes depend on nothing else.

    Args:
        tensors: contiguous, each with memory of its own.
        metadata: of an agent's weights, plain values: method, variant, task, config_hash, git_revision; the format is
            added.
    """
    about = None if metadata is None else {METADATA: json.dumps({"format": f"{FORMAT}/{VERSION}", **metadata})}
    return safetensors.save(dict(tensors), about)


def metadata_of(file: Path) -> dict[str, Any]:
    """What ``save`` was told about the tensors; nothing of a file that has no metadata.

    Raises:
        UserError: it is no safetensors file, or the metadata are damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            about = (opened.metadata() or {}).get(METADATA, "{}")
        return dict(json.loads(about))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{shortened(file)} is damaged ({brief(error, 60)}); fetch it again.") from error


def refuse_other_format(file: Path) -> None:
    """Raise a ``UserError`` where the tensors of an agent were written by a later version of this program."""
    name = metadata_of(file).get("format", f"{FORMAT}/{VERSION}")
    known = [f"{FORMAT}/{number}" for number in range(1, VERSION + 1)]
    if name not in known:
        raise UserError(
            f"{shortened(file)} has the format {brief(name, 40)}, not {' or '.join(known)}; update tokenworlds."
        )


Shape = tuple[int, ...]


def misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, tuple[Shape | None, Shape | None]]:
    """Names of tensors that are missing, left over or of another shape, in order, each with the found shape and the
    wanted one; None where there is no such tensor."""
    shapes = [{name: tuple(value.shape) for name, value in some.items()} for some in (found, wanted)]
    pairs = {name: (shapes[0].get(name), shapes[1].get(name)) for name in sorted(shapes[0].keys() | shapes[1].keys())}
    return {name: (one, other) for name, (one, other) in pairs.items() if one != other}


def unusable(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds no plain numbers, and why; None where all do."""
    for name, value in tensors.items():
        if value.is_meta:
            return f"{name} has a shape but no values (device meta)"
        if value.layout is not torch.strided or value.is_quantized or value.is_complex():
            kind = "complex" if value.is_complex() else "quantised" if value.is_quantized else "sparse"
            return f"{name} is {kind}"
    return None


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values."""
    return [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not math.isfinite(float(value.sum())) and not bool(value.isfinite().all())
    ]


def refuse_not_finite(file: Path, names: list[str], remedy: str) -> None:
    """Raise a ``UserError`` that names the tensors, if there are any."""
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UserError(f"{shortened(file)} has NaN or infinite values in {brief(names[0], 80)}{more}; {remedy}.")
