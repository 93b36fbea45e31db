"""Intervals by rliable itself: slow (minutes), and the reference that the fast bootstrap is tested against.

rliable is imported only when an engine is made: it takes seconds, and figures redraw without it.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats import metrics
from analysis.stats.bootstrap import Bounds
from analysis.stats.metrics import Matrix
from tokenworlds.errors import UserError


class RliableEngine:
    """Intervals by ``rliable.library``."""

    def __init__(self) -> None:
        try:
            from rliable import library
            from rliable import metrics as rliable_metrics
        except (ImportError, TypeError) as error:  # TypeError: arch 7 on pandas 3 fails inside a decorator
            raise UserError(
                f"--engine rliable needs rliable with pandas below 3, but importing it failed ({error}): "
                "install them with `pip install 'rliable>=1.2,<1.3' 'pandas<3'`, or use --engine fast."
            ) from error
        self._library: Any = library
        self._metrics: Any = rliable_metrics

    def aggregates(self, scores: Matrix, generator: np.random.Generator, repetitions: int) -> dict[str, Bounds]:
        """Bounds of every metric."""
        rl = self._metrics

        def all_metrics(x: Matrix) -> NDArray[np.float64]:
            four = [rl.aggregate_mean(x), rl.aggregate_median(x), rl.aggregate_iqm(x), rl.aggregate_optimality_gap(x)]
            return np.array([*four, metrics.superhuman(x)])

        refuse_ragged(scores)
        intervals = self._intervals({"x": scores}, all_metrics, generator, repetitions)
        return {name: (float(low), float(high)) for name, low, high in zip(metrics.METRICS, *intervals)}

    def improvement(
        self, scores_x: Matrix, scores_y: Matrix, generator: np.random.Generator, repetitions: int
    ) -> Bounds:
        """Bounds of P(X > Y)."""
        refuse_ragged(scores_x)
        refuse_ragged(scores_y)
        pair = {"x": (scores_x, scores_y)}  # under one key, so that no method's name meets rliable's separators
        intervals = self._intervals(pair, self._metrics.probability_of_improvement, generator, repetitions)
        return float(intervals[0][0]), float(intervals[1][0])

    def profile(self, scores: Matrix, generator: np.random.Generator, repetitions: int) -> NDArray[np.float64]:
        """Pointwise band of the performance profile, shape (2, 201)."""
        refuse_ragged(scores)
        _seed_global_state(generator)
        _, bands = self._library.create_performance_profile({"x": scores}, metrics.PROFILE_GRID, reps=repetitions)
        return np.asarray(bands["x"])

    def _intervals(self, scores: Any, function: Any, generator: np.random.Generator, repetitions: int) -> Any:
        _seed_global_state(generator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # arch's remark on random_state, which rliable passes
            _, intervals = self._library.get_interval_estimates(scores, function, reps=repetitions)
        return intervals["x"]


def refuse_ragged(scores: Matrix, whose: str = "") -> None:
    """Raise ``UserError`` for tasks with fewer runs than others: rliable would give NaN without a word."""
    if metrics.is_ragged(scores):
        counts = metrics.run_counts(scores)
        raise UserError(
            f"{whose}as few as {counts.min()} and as many as {counts.max()} runs a task, and rliable takes full "
            "matrices only; use --engine fast, or leave the surplus runs out."
        )


def _seed_global_state(generator: np.random.Generator) -> None:
    """rliable draws from numpy's global state and ignores ``random_state``: seeding that state is the only handle."""
    np.random.seed(generator.integers(2**32, dtype=np.uint64))  # noqa: NPY002
