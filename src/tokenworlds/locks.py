"""Locks between processes, also on several machines, that say who holds them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tokenworlds.cli import STATUS_BUSY
from tokenworlds.errors import UserError, excerpt

LOCKS = Path("/proc/locks")  # Linux's list of all locks on this machine
HOLDER = re.compile(r"process \d+ on (?P<host>\S+?)(, Slurm's job (?P<job>\S+))?$")


@contextmanager
def locked(path: Path, subject: str) -> Iterator[None]:
    """While the context lasts, no other process holds the lock ``path``, which the system releases when this one ends.

    Args:
        path: a file, whose folder is made.
        subject: of the message where there is another: ``another trainer is at work on ...``.

    Raises:
        UserError: another process holds it (status 4).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        text = f"{text}; " if (text := _read(path)) else ""
        raise UserError(f"{subject} ({text}it holds {path}); wait for it or stop it.", STATUS_BUSY) from error
    try:
        path.write_text(_this_process())
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock ``path``; nobody who wants it on this machine is disturbed by the question."""
    try:
        import fcntl

        with path.open("rb") as file:
            if holder(path).get("host") == socket.gethostname() and LOCKS.exists():
                number = str(os.fstat(file.fileno()).st_ino)  # the device has another number for some file systems
                held = [line.split()[5] for line in LOCKS.read_text().splitlines() if "->" not in line]
                return any(file_id.rpartition(":")[2] == number for file_id in held)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ImportError):  # there is none; a system without such locks
        pass
    return False


def holder(path: Path) -> dict[str, Any]:
    """``host`` and Slurm's ``job`` of the process that holds the lock ``path``, or was the last to do so; empty where
    nobody says."""
    found = HOLDER.search(_read(path))
    return found.groupdict() if found else {}


def _this_process() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", Slurm's job {job}" if job else "")


def _read(path: Path) -> str:
    try:
        return excerpt(path.read_text(), 200)
    except (OSError, ValueError):
        return ""
