"""Stratified percentile bootstrap, vectorised over repetitions, with a generator of its own.

rliable draws, for every task on its own, N runs with replacement, and recomputes the statistic in a Python loop. A
resample is fully described by *counts*: how often run n of task m was drawn. All statistics here are sums over those
counts, so thousands of resamples are one matrix product. It is done in blocks that fit the processor's caches, so
memory does not grow with the number of repetitions.

Of a task with fewer runs than others (NaN below them) as many runs are drawn as it has; counts of the others are 0.

Shapes: R repetitions, M tasks, N runs.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analysis.stats import metrics
from analysis.stats.metrics import Matrix

PERCENTILES = (2.5, 97.5)
TRUSTED_RUNS = 3  # of a task; of two there are three different resamples, of 0.7 times the spread of the means
BLOCK_VALUES = 2**17  # drawn values a block: 1 MiB of integers

Bounds = tuple[float, float]


def draw_counts(generator: np.random.Generator, repetitions: int, tasks: int, runs: int) -> NDArray[np.float64]:
    """Counts of shape (R, M, N); along N they sum to N. Every cell of every task is drawn independently."""
    drawn = generator.integers(0, runs, size=(repetitions, tasks, runs))
    drawn += np.arange(0, repetitions * tasks * runs, runs).reshape(repetitions, tasks, 1)
    counts = np.bincount(drawn.ravel(), minlength=repetitions * tasks * runs)
    return counts.reshape(repetitions, tasks, runs).astype(np.float64)


def draw_ragged_counts(
    generator: np.random.Generator, repetitions: int, counts: NDArray[np.int64], runs: int
) -> NDArray[np.float64]:
    """Counts (R, M, N) for tasks with ``counts`` (M,) runs each, at most ``runs``: along N they sum to that number."""
    tasks = len(counts)
    drawn = generator.integers(0, counts[:, None], size=(repetitions, tasks, runs))
    drawn += np.arange(0, repetitions * tasks * runs, runs).reshape(repetitions, tasks, 1)
    meant = np.broadcast_to(np.arange(runs) < counts[:, None], drawn.shape)  # of N draws, as many as there are runs
    filled = np.bincount(drawn[meant], minlength=repetitions * tasks * runs)
    return filled.reshape(repetitions, tasks, runs).astype(np.float64)


def draw(generator: np.random.Generator, repetitions: int, scores: Matrix) -> NDArray[np.float64]:
    """Counts (R, M, N) of resamples of this matrix (N, M), full or ragged."""
    runs, tasks = scores.shape
    if metrics.is_ragged(scores):
        counts = metrics.run_counts(scores)
        assert not np.isnan(scores[np.arange(runs)[:, None] < counts]).any(), "NaN above a run: padding goes below"
        return draw_ragged_counts(generator, repetitions, counts, runs)
    return draw_counts(generator, repetitions, tasks, runs)


def blocks(repetitions: int, values: int, block_values: int = BLOCK_VALUES) -> Iterator[int]:
    """Split ``repetitions`` of ``values`` draws each into block sizes of bounded memory."""
    size = max(1, block_values // values)
    while repetitions > 0:
        yield min(size, repetitions)
        repetitions -= size


def aggregate_replicates(
    scores: Matrix, generator: np.random.Generator, repetitions: int, block_values: int = BLOCK_VALUES
) -> dict[str, NDArray[np.float64]]:
    """Bootstrap replicates of every metric, each of shape (R,)."""
    parts: list[dict[str, NDArray[np.float64]]] = []
    for size in blocks(repetitions, scores.size, block_values):
        parts.append(_metrics_of_counts(scores, draw(generator, size, scores)))
    return {name: np.concatenate([part[name] for part in parts]) for name in metrics.METRICS}


def _metrics_of_counts(scores: Matrix, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Every metric of the resamples that ``counts`` (R, M, N) describes."""
    by_task = scores.T
    flat = counts.reshape(len(counts), -1)
    values, clipped = by_task.ravel(), np.minimum(by_task, 1.0).ravel()
    if metrics.is_ragged(scores):
        exists = ~np.isnan(values)
        clipped = (clipped * exists.sum() / np.repeat(metrics.run_counts(scores) * len(by_task), len(scores)))[exists]
        values, flat, by_task = values[exists], flat[:, exists], np.where(np.isnan(by_task), 0.0, by_task)
    task_means = np.einsum("rmn,mn->rm", counts, by_task) / metrics.run_counts(scores)
    return {
        "mean": task_means.mean(axis=1),
        "median": np.median(task_means, axis=1),
        "iqm": _interquartile_means(values, flat),
        "optimality_gap": 1.0 - flat @ clipped / values.size,
        "superhuman": (task_means >= 1.0 - metrics.TIE).sum(axis=1).astype(np.float64),
    }


def _interquartile_means(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """IQM of resamples without sorting any of them.

    With ``values`` sorted once and C_i the cumulative counts, element i fills the places C_(i-1) .. C_i of the sorted
    resample. Clipping C to [k, NM - k] trims k places at each end; what is left is ``sum_i v_i (C_i - C_(i-1))``, here
    summed by parts.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    drop = metrics.trimmed_count(len(values))
    cumulative = np.cumsum(counts[:, order], axis=1)
    np.clip(cumulative, drop, len(values) - drop, out=cumulative)
    steps = np.append(ordered[:-1] - ordered[1:], ordered[-1])
    return np.asarray((cumulative @ steps - drop * ordered[0]) / (len(values) - 2 * drop))


def profile_replicates(
    scores: Matrix, generator: np.random.Generator, repetitions: int, grid: NDArray[np.float64] = metrics.PROFILE_GRID
) -> NDArray[np.float64]:
    """Performance profiles of resamples, shape (R, len(grid))."""
    above = (scores.T.ravel()[:, None] > grid + metrics.TIE).astype(np.float64)
    sizes = blocks(repetitions, scores.size)
    parts = [draw(generator, size, scores).reshape(size, -1) @ above for size in sizes]
    return np.concatenate(parts) / metrics.existing(scores).size


def improvement_replicates(
    scores_x: Matrix, scores_y: Matrix, generator: np.random.Generator, repetitions: int
) -> NDArray[np.float64]:
    """P(X > Y) of resamples, shape (R,). Both methods are resampled, each on its own."""
    wins = metrics.win_matrix(scores_x, scores_y)
    total: int = wins.size
    if np.isnan(wins).any():  # tasks weigh the same, whatever the number of their pairs
        pairs = metrics.run_counts(scores_x) * metrics.run_counts(scores_y)
        wins, total = np.nan_to_num(wins) / pairs[:, None, None], len(wins)
    parts = []
    for size in blocks(repetitions, scores_x.size + scores_y.size):
        counts_x, counts_y = draw(generator, size, scores_x), draw(generator, size, scores_y)
        won = np.matmul(counts_x.transpose(1, 0, 2), wins)  # (M, R, N_Y): wins of the drawn X against each run of Y
        parts.append(np.einsum("mrn,rmn->r", won, counts_y) / total)
    return np.concatenate(parts)


def bounds(replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2.5 and 97.5 percentiles along the repetitions: shape (2, ...)."""
    return np.percentile(replicates, PERCENTILES, axis=0)


class FastEngine:
    """Intervals by this module's vectorised bootstrap."""

    def aggregates(self, scores: Matrix, generator: np.random.Generator, repetitions: int) -> dict[str, Bounds]:
        """Bounds of every metric."""
        replicates = aggregate_replicates(scores, generator, repetitions)
        return {name: _pair(bounds(values)) for name, values in replicates.items()}

    def improvement(
        self, scores_x: Matrix, scores_y: Matrix, generator: np.random.Generator, repetitions: int
    ) -> Bounds:
        """Bounds of P(X > Y)."""
        return _pair(bounds(improvement_replicates(scores_x, scores_y, generator, repetitions)))

    def profile(self, scores: Matrix, generator: np.random.Generator, repetitions: int) -> NDArray[np.float64]:
        """Pointwise band of the performance profile, shape (2, 201)."""
        return bounds(profile_replicates(scores, generator, repetitions))


def _pair(values: NDArray[np.float64]) -> Bounds:
    low, high = (float(value) for value in values)
    return low, high
