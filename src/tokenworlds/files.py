"""Write and remove files without touching those of other programs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

from tokenworlds.errors import UserError


def write_atomic(path: Path, content: bytes) -> None:
    """Write under a unique name beside the target, flush to the disk and rename: the file is complete or absent, and of
    concurrent writers (threads, processes, machines on a shared disk) one wins.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which is called ``path`` when the block ends, and gone when it fails: complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _temporary(path)
    staging.mkdir()
    try:
        yield staging
        os.rename(staging, path)  # fails where another has filled the place meanwhile
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def foreign(folder: Path, own: Iterable[str]) -> Iterator[str]:
    """Relative paths in ``folder`` that match none of the patterns ``own`` (``epoch_*.json``, ``media/*.png``); none if
    the folder is absent. A folder counts if it is empty and no pattern reaches into it."""
    patterns = tuple(own)
    parents = {str(Path(pattern).parent) for pattern in patterns}
    for place, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(place, name).relative_to(folder).as_posix()
            if not any(fnmatchcase(path, pattern) and path.count("/") == pattern.count("/") for pattern in patterns):
                yield path
        here = Path(place).relative_to(folder).as_posix()
        if not folders and not files and here != "." and here not in parents:
            yield f"{here}/"


def refuse_foreign(folder: Path, own: Iterable[str], remedy: str) -> None:
    """Refuse to write into, replace or remove a folder with files that this program did not make.

    Args:
        own: patterns of the relative paths that this program gives to what it writes there.
        remedy: what to do instead, for example ``name another folder with --media``.

    Raises:
        UserError: ``folder`` is a file or a link, or holds other files, of which up to three are named.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "a link" if folder.is_symlink() else "a file"
        raise UserError(f"{shortened(folder)} is {kind}, not a folder; {remedy}.")
    if found := list(islice(foreign(folder, own), 4)):
        named = ", ".join(name[:40] for name in found[:3]) + (" and more" if len(found) > 3 else "")
        raise UserError(f"{shortened(folder)} holds {named}, not made by this program; {remedy}.")


def remove_own(folder: Path, own: Iterable[str]) -> list[str]:
    """Remove the files in ``folder`` that match the patterns ``own``, then all empty folders, itself included.

    Returns:
        Relative paths of the files that are left.
    """
    patterns = tuple(own)
    if folder.is_symlink() or not folder.is_dir():
        return []
    left = list(foreign(folder, patterns))
    kept = {folder / name for name in left}
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            if Path(place, name) not in kept:
                Path(place, name).unlink(missing_ok=True)
        for path in (Path(place, name) for name in folders):
            if path not in kept and not path.is_symlink():
                _remove_if_empty(path)
    _remove_if_empty(folder)
    return left


def require_place(path: Path, remedy: str) -> None:
    """Refuse a path at which no file or folder can be made, before the work whose results go there.

    Raises:
        UserError: the name is empty or too long, a folder above is a file, or the nearest existing one cannot be
            written.
    """
    try:
        os.lstat(_temporary(path))  # a longer name than its own
    except ValueError as error:
        raise UserError(f"'{path}' names no file or folder of its own; {remedy}.") from error
    except (FileNotFoundError, NotADirectoryError):
        pass  # the folder says which
    except OSError as error:
        raise UserError(f"{shortened(path)} cannot be written ({error.strerror}); {remedy}.") from error
    _require_writable(next(folder for folder in path.absolute().parents if os.path.lexists(folder)), path, remedy)


def _require_writable(folder: Path, path: Path, remedy: str) -> None:
    """Refuse ``path`` if no file can be made in ``folder``. Only making one finds every reason; it has no name (or a
    unique one, where the file system needs names), so that several processes can try at the same time."""
    where, what = "" if folder == path else f"{shortened(folder)} ", f"{shortened(path)} cannot be written"
    try:
        with TemporaryFile(dir=folder):
            pass
    except NotADirectoryError as error:
        raise UserError(f"{what}: {where}is no folder; {remedy}.") from error
    except OSError as error:
        raise UserError(f"{what}: {where or 'it '}allows no writing here ({error.strerror}); {remedy}.") from error


def require_room(folder: Path, remedy: str) -> None:
    """Refuse a folder in which no file can be made; it may be absent, or hold files of others."""
    if os.path.isdir(folder):
        _require_writable(folder, folder, remedy)
    elif os.path.lexists(folder):
        raise UserError(f"{shortened(folder)} is no folder; {remedy}.")
    else:
        require_place(folder, remedy)


def require_folder(folder: Path, own: Iterable[str], remedy: str) -> None:
    """Refuse a folder that holds files of others, or in which no file can be made."""
    if not os.path.isdir(folder) or folder.is_symlink():
        require_place(folder, remedy)
    refuse_foreign(folder, own, remedy)
    if folder.is_dir():
        _require_writable(folder, folder, remedy)


def require_file(path: Path, is_own: Callable[[Path], bool], remedy: str) -> None:
    """Refuse a file that cannot be written, or that another program wrote.

    Args:
        is_own: whether an existing file is an earlier result of the same command, which may be replaced.
    """
    require_place(path, remedy)
    if path.is_symlink():
        raise UserError(f"{shortened(path)} is a link; {remedy}.")
    if path.is_dir():
        raise UserError(f"{shortened(path)} is a folder, not a file; {remedy}.")
    if path.exists() and not (path.is_file() and is_own(path)):
        raise UserError(f"{shortened(path)} exists and is not of this command; {remedy}.")


def shortened(path: Path, length: int = 120) -> str:
    """A path for a message; only the end of a long one."""
    text = str(path)
    return text if len(text) <= length else f"...{text[-length:]}"


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
