"""What a piece of work costs, in a unit that drifts less than seconds by the clock: instructions, else CPU seconds."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time
from collections.abc import Callable

Counter = Callable[[], float]  # what has been counted so far

HARDWARE, INSTRUCTIONS = 0, 1  # of linux/perf_event.h, like the flags
SOFTWARE, TASK_CLOCK = 1, 1
INHERIT, EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}  # perf_event_open


def counter() -> tuple[str, Counter]:
    """Unit, and a counter for this process and the threads that it starts from now on."""
    found = events(HARDWARE, INSTRUCTIONS)
    return ("CPU s", time.process_time) if found is None else ("instructions", found)


def events(kind: int, event: int) -> Counter | None:
    """A counter of an event of the kernel, in user code alone; None where the system does not count it."""
    if (number := SYSTEM_CALLS.get(platform.machine())) is None or not hasattr(ctypes.CDLL(None), "syscall"):
        return None
    flags = INHERIT | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR
    # perf_event_attr, version 0: type, size, event, period, sample type, read format, flags, wakeup, breakpoint
    attributes = struct.pack("=IIQQQQQIIQ", kind, 64, event, 0, 0, 0, flags, 0, 0, 0)
    this_process, any_processor, no_group = 0, -1, -1
    file = ctypes.CDLL(None).syscall(number, attributes, this_process, any_processor, no_group, 0)
    return None if file < 0 else lambda: float(int.from_bytes(os.read(file, 8), "little"))
