"""The manifest of a run's folder: size and digest of every file in it, written when the run is published.

A file can lose its end when a folder is copied or a disk fails. ``verify`` detects this from the sizes and reads only
the files that it is asked to; no tensor is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenworlds.errors import UserError
from tokenworlds.files import sha256, write_atomic

MANIFEST = "manifest.json"
SCHEMA = 1
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format
REMEDY = "restore it with `dvc checkout`, or train that run again with replace=true"


def manifest(folder: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of every file below ``folder`` but the manifest itself, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        "schema": SCHEMA,
        "files": {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in paths
        },
    }


def is_manifest(file: Path) -> bool:
    """Whether a file is one of ``manifest``."""
    try:
        return set(json.loads(file.read_bytes())) == {"schema", "files"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_manifest(folder: Path) -> None:
    """Write ``manifest.json`` into ``folder``; to be called when everything else is in it."""
    write_atomic(folder / MANIFEST, (json.dumps(manifest(folder), indent=1) + "\n").encode())


def is_result(name: str) -> bool:
    """Whether a file of a run is a result, not a picture, film or episode, which may be deleted to free space."""
    return not name.startswith(("media/", "replay/"))


def verify(
    folder: Path,
    contents: Iterable[str] = (),
    is_needed: Callable[[str], bool] = lambda name: True,
    remedy: str = REMEDY,
) -> None:
    """Compare the files of ``folder`` with its manifest; a folder without one (of an older version) passes.

    Args:
        contents: names of files whose content is read and compared too; those that the manifest does not list pass.
        is_needed: which of the listed files have to be there.
        remedy: what to do about a damaged folder, in the error.

    Raises:
        UserError: the manifest cannot be read, a file is missing or has another size, or its content differs.
    """
    if not (folder / MANIFEST).is_file():
        return
    files = read_manifest(folder / MANIFEST, remedy)
    for name, (size, _) in files.items():
        if not is_needed(name):
            continue
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; {remedy}.")
        if (found := path.stat().st_size) != size:
            raise UserError(f"{path} is damaged ({found} of {size} bytes); {remedy}.")
    for name in contents:
        if name in files and sha256(folder / name) != files[name][1]:
            raise UserError(f"{folder / name} is damaged (its content is not what the run wrote); {remedy}.")


def read_manifest(path: Path, remedy: str = REMEDY) -> dict[str, tuple[int, str]]:
    """Size and digest of each file, by name.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        record = json.loads(path.read_bytes())
        if record["schema"] != SCHEMA:
            raise ValueError("another schema")
        return {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in record["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a list of a run's files; {remedy}.") from error


def read_weights_header(path: Path) -> dict[str, list[int]]:
    """Shape of every tensor of a safetensors file whose size agrees with its header.

    The file begins with eight bytes of length, then that much JSON with the offsets of every tensor.

    Raises:
        UserError: the header cannot be read, or the file is shorter or longer than it says.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            content = file.read(length) if length <= min(size, LARGEST_HEADER) else b""
        if len(content) < length:
            raise ValueError("cut off")
        tensors = {name: entry for name, entry in json.loads(content).items() if name != "__metadata__"}
        shapes = {name: [int(length) for length in entry["shape"]] for name, entry in tensors.items()}
        end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged (no safetensors header in its {size} bytes); {REMEDY}.") from error
    if size != 8 + length + end:
        raise UserError(f"{path} is damaged ({size} of {8 + length + end} bytes); {REMEDY}.")
    return shapes
