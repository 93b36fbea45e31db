"""Locks between processes, also on several machines, that say who holds them."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tokenworlds.cli import STATUS_BUSY
from tokenworlds.errors import UserError, excerpt

LOCKS = Path("/proc/locks")  # Linux's list of all locks on this machine


@contextmanager
def locked(path: Path, holder: str) -> Iterator[None]:
    """While the context lasts, no other process holds the lock ``path``, which the system releases when this one ends.

    Args:
        path: a file, whose folder is made.
        holder: subject of the message where there is another: ``another trainer is at work on ...``.

    Raises:
        UserError: another process holds it (status 4).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{holder} ({_read(path)}it holds {path}); wait for it or stop it.", STATUS_BUSY) from error
    try:
        path.write_text(_this_process())
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock ``path``; nobody who wants it on this machine is disturbed by the question."""
    try:
        with path.open("rb") as file:
            if f" on {socket.gethostname()}" in path.read_text() and LOCKS.exists():
                number = str(os.fstat(file.fileno()).st_ino)
                return any(
                    number in line.split()[5].split(":") for line in LOCKS.read_text().splitlines() if "->" not in line
                )
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none
        return False
    return False


def _this_process() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", Slurm's job {job}" if job else "")


def _read(path: Path) -> str:
    try:
        text = excerpt(path.read_text(), 200)
    except (OSError, ValueError):
        return ""
    return f"{text}; " if text else ""
