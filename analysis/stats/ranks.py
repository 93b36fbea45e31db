"""Ranks of methods, 1 for the best, and the replicates of task means that ranks over tasks are made of.

Shapes: R replicates, n methods, M tasks.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.stats.metrics import Matrix, levels

Values = NDArray[np.float64]


def ranks(values: Values) -> Values:
    """Ranks along the last axis, 1 for the largest, averaged over ties."""
    return np.asarray(rankdata(-levels(values), axis=-1))


def rank_shares(values: Values) -> Values:
    """Share of the replicates (R, n) in which each method has each rank, shape (n, n); ties share their ranks."""
    places = -levels(values)
    first, last = (rankdata(places, method, axis=-1) for method in ("min", "max"))
    numbers = np.arange(1, values.shape[-1] + 1)[:, None, None]
    return np.asarray((((first <= numbers) & (numbers <= last)) / (last - first + 1)).mean(axis=1).T)


def runs_by_task(scores: Matrix) -> list[Values]:
    """The runs of each task of scores (N, M) that exist: as many as the task has, the others are NaN."""
    return [column[np.isfinite(column)] for column in scores.T]


def task_mean_replicates(scores: Matrix, generator: np.random.Generator, repetitions: int) -> Values:
    """Bootstrap means of every task over its runs, shape (R, M)."""
    means = [
        runs[generator.integers(0, len(runs), size=(repetitions, len(runs)))].mean(axis=1)
        for runs in runs_by_task(scores)
    ]
    return np.stack(means, axis=1)
