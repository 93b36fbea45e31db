"""Run a module as a program that ends with its parent: ``python -m tokenworlds.attached PARENT DESCRIPTOR MODULE ...``.

It ends whatever it is doing: importing its packages, waiting, or blocked in a call. Linux kills it together with the
thread that started it (hence PARENT 0, for none, where that was not the parent's main thread). On other systems a
thread waits until the other end of the socket DESCRIPTOR is closed.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import select
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # of prctl(2)
PATIENCE = 0.5  # seconds in which a program that waits for the socket leaves by itself


def end_with_parent(parent: int) -> None:
    """Have the system kill this process as soon as its parent is dead, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that call
        os._exit(1)


def end_with_socket(descriptor: int) -> None:
    """Wait until the other end is closed, and end this process soon after."""
    poller = select.poll()
    poller.register(descriptor, 0)  # hanging up is always reported
    poller.poll()
    time.sleep(PATIENCE)
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the parent decides what happens
    parent, descriptor = int(sys.argv[1]), int(sys.argv[2])
    if parent:
        end_with_parent(parent)
    threading.Thread(target=end_with_socket, args=(descriptor,), daemon=True).start()
    module, sys.argv = sys.argv[3], sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
