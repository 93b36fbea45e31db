"""The two implementations of resampling: the vectorised bootstrap, and rliable's own loop."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.stats.bootstrap import Bounds, FastEngine
from analysis.stats.metrics import Matrix
from analysis.stats.rliable_engine import RliableEngine
from tokenworlds.errors import UserError, near_matches


class Engine(Protocol):
    """Intervals of normalised scores (N, M) from bootstrap resamples."""

    def aggregates(self, scores: Matrix, generator: np.random.Generator, repetitions: int) -> dict[str, Bounds]: ...

    def improvement(
        self, scores_x: Matrix, scores_y: Matrix, generator: np.random.Generator, repetitions: int
    ) -> Bounds: ...

    def profile(self, scores: Matrix, generator: np.random.Generator, repetitions: int) -> NDArray[np.float64]: ...


ENGINES: dict[str, Callable[[], Engine]] = {"fast": FastEngine, "rliable": RliableEngine}


def make_engine(name: str) -> Engine:
    """The engine of that name."""
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}: {near_matches(name, ENGINES)}")
    return ENGINES[name]()
