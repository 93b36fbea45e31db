"""Locks between processes, also on several machines, that say who holds them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tokenworlds.cli import STATUS_BUSY
from tokenworlds.errors import UserError, excerpt


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


def _this_process() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", Slurm's job {job}" if job else "")


def _read(path: Path) -> str:
    try:
        text = excerpt(path.read_text(), 200)
    except (OSError, ValueError):
        return ""
    return f"{text}; " if text else ""
