"""Progress bars on terminals, and the estimate of the remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """Seconds of work of this run, earlier sessions included."""

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._before = seconds_before
        self._start = time.monotonic()

    @property
    def session(self) -> float:
        return time.monotonic() - self._start

    @property
    def seconds(self) -> float:
        return self._before + self.session


@dataclass(frozen=True)
class Work:
    """One kind of work of a run: how many units of it (updates, steps, evaluations) an epoch holds.

    ``units`` is asked for the epochs 1 to the last, and for the one after the last, which represents the final
    evaluation and publication.
    """

    units: Callable[[int], float]
    is_awaited: bool = True  # whether there is no estimate before it has been measured


class Forecast:
    """What is left of a run, from the schedule of every kind of work and the seconds that a unit of it has taken.

    Older measurements fade, so that the estimate follows a machine that becomes slower, and the seconds of the first
    epoch, in which things are compiled, do not count for ever.
    """

    FADING = 0.8  # of the weight of a measurement with each later one

    def __init__(
        self, work: Mapping[str, Work], epochs: int, measured: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        self._work, self._epochs = dict(work), epochs
        self.measured = {name: (float(seconds), float(units)) for name, (seconds, units) in (measured or {}).items()}
        """Faded seconds and units of every kind; for a checkpoint."""

    def record(self, name: str, seconds: float, units: float) -> None:
        """Units of a kind of work have taken so long."""
        if units > 0:
            before = self.measured.get(name, (0.0, 0.0))
            self.measured[name] = (self.FADING * before[0] + seconds, self.FADING * before[1] + units)

    def left(self, epoch: int) -> float | None:
        """Seconds after ``epoch``, publication included; None while work of a later epoch has never been measured."""
        return None if self.unknown_until(epoch) else sum(self._seconds(name, epoch) for name in self._work)

    def unknown_until(self, epoch: int) -> int | None:
        """The epoch after which all kinds of work that are still to come will have been measured; None: they are."""
        begins = [
            next((later for later in range(epoch + 1, self._epochs + 1) if work.units(later) > 0), None)
            for name, work in self._work.items()
            if work.is_awaited and name not in self.measured
        ]
        return max((begin for begin in begins if begin is not None), default=None)

    def describe(self, epoch: int) -> str:
        """``left 3h41m``, or ``left unknown until epoch 50``."""
        left = self.left(epoch)
        return f"left unknown until epoch {self.unknown_until(epoch)}" if left is None else f"left {duration(left)}"

    def _seconds(self, name: str, epoch: int) -> float:
        if name not in self.measured:
            return 0.0
        seconds, units = self.measured[name]
        return seconds / units * sum(self._work[name].units(later) for later in range(epoch + 1, self._epochs + 2))


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
