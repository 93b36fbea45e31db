"""Kill the processes of an attempt whose worker is gone: ``python -m pipeline.launch.orphans MARK``.

It waits until its stdin is closed, which the system does when the worker dies in whatever way, and kills every process
that has the worker's mark in its environment: the command, its environment workers, and whatever these have started.
It is in a session of its own, so that what kills the worker's process group leaves it.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

import psutil

MARK = "TOKENWORLDS_ATTEMPT"
"""Environment variable of all processes of an attempt."""
ROUNDS = 20  # a process may start others while it is killed; one that waits for a dead disk cannot be killed


def marked(mark: str) -> Iterator[psutil.Process]:
    """Living processes of an attempt on this machine, as far as this user can see them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                yield process


def kill(mark: str) -> None:
    """Kill all processes of an attempt."""
    for _ in range(ROUNDS):
        if not (found := list(marked(mark))):
            return
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=0.5)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    kill(sys.argv[1])


if __name__ == "__main__":
    main()
