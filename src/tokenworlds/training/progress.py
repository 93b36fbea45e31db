"""Progress bars that vanish when nobody watches, and the one line an epoch leaves behind."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class progress:
    """A bar on stderr while the context lasts; nothing at all when stderr is no terminal."""

    def __init__(self, title: str, total: int) -> None:
        self._bar = tqdm(total=total, desc=title, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def __enter__(self) -> progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self) -> None:
        self._bar.update(1)

    def to(self, count: int) -> None:
        self._bar.update(count - self._bar.n)


class Clock:
    """Seconds of work of this run, earlier sessions included, and an estimate of what is left."""

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._before = seconds_before
        self._start = time.monotonic()

    @property
    def session(self) -> float:
        return time.monotonic() - self._start

    @property
    def seconds(self) -> float:
        return self._before + self.session

    def remaining(self, done: int, left: int) -> float:
        """Seconds for ``left`` more epochs at this session's pace over ``done``."""
        return self.session / max(done, 1) * left


def duration(seconds: float) -> str:
    """12s, 3m05s, 2h07m, 4d03h."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minutes}m{second:02d}s" if minutes else f"{second}s"
