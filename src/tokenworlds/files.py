"""Writing and removing files so that nothing of anybody else is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from tokenworlds.errors import UserError


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside the target under a name of our own, flush to the disk, rename: the file is there whole or not at
    all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; "
            "free space or choose another folder, then run again to resume."
        ) from error


def foreign(folder: Path, own: Iterable[str]) -> list[str]:
    """Entries of ``folder`` that match none of the patterns ``own`` (``epoch_*.json``), sorted; none if absent."""
    patterns = tuple(own)
    if not folder.is_dir():
        return []
    return sorted(name for name in os.listdir(folder) if not any(fnmatch(name, pattern) for pattern in patterns))


def refuse_foreign(folder: Path, own: Iterable[str], remedy: str) -> None:
    """Refuse to write into, replace or remove a folder that holds something which this program did not make.

    Args:
        own: patterns of the names that this program gives to what it writes there.
        remedy: what to do instead, for example ``name another folder with --media``.

    Raises:
        UserError: ``folder`` is a file or a link, or holds other entries; up to three of them are named.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "a link" if folder.is_symlink() else "a file"
        raise UserError(f"{folder} is {kind}, not a folder; {remedy}.")
    if found := foreign(folder, own):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(f"{folder} holds {', '.join(found[:3])}{more}, which is not of this program; {remedy}.")


def remove_own(folder: Path, own: Iterable[str]) -> list[str]:
    """Remove from ``folder`` what matches the patterns ``own``, and the folder itself when nothing else is in it.

    Returns:
        The names that were left, which this program did not make.
    """
    patterns = tuple(own)
    if folder.is_symlink() or not folder.is_dir():
        return []
    left = foreign(folder, patterns)
    for name in set(os.listdir(folder)) - set(left):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not left:
        try:
            folder.rmdir()
        except OSError:  # somebody wrote into it meanwhile
            return foreign(folder, patterns)
    return left
