"""Influence of single tasks on the aggregates: leaving one out, and the share that each contributes.

Shapes: M tasks, N runs.
"""

import numpy as np
from numpy.typing import NDArray

from analysis.stats import metrics
from analysis.stats.metrics import Matrix

Values = NDArray[np.float64]


def leave_one_task_out(scores: Matrix) -> dict[str, Values]:
    """Change (M,) of every metric when one task is left out."""
    whole = metrics.points(scores)
    rest = [metrics.points(np.delete(scores, task, axis=1)) for task in range(scores.shape[1])]
    return {name: np.array([each[name] - whole[name] for each in rest]) for name in metrics.METRICS}


def mean_shares(scores: Matrix) -> Values:
    """Share (M,) of each task in the sum of the task means; negative where a random policy scores higher."""
    means = metrics.task_means(scores)
    return np.asarray(means / means.sum())


def iqm_shares(scores: Matrix) -> Values:
    """Share (M,) of each task in the sum of the values that the IQM keeps; ties are kept in the order of the tasks."""
    values, tasks = scores.T.ravel(), np.repeat(np.arange(scores.shape[1]), len(scores))
    exists = ~np.isnan(values)
    values, tasks = values[exists], tasks[exists]
    drop = metrics.trimmed_count(len(values))
    kept = np.argsort(values, kind="stable")[drop : len(values) - drop]
    sums = np.bincount(tasks[kept], weights=values[kept], minlength=scores.shape[1])
    return np.asarray(sums / sums.sum())


def effective_number(shares: Values) -> float:
    """Number of equal tasks that would be as concentrated: 1 / sum of squared shares."""
    return float(1.0 / (shares**2).sum())


def most_influential(change: Values, tolerance: float) -> list[NDArray[np.int64]]:
    """Tasks of the largest change and those of the next largest; tasks whose changes differ by at most ``tolerance``
    (a share of the range of all changes) form one group."""
    left = np.arange(len(change))
    groups: list[NDArray[np.int64]] = []
    while len(left) and len(groups) < 2:
        largest = change[left][np.argmax(np.abs(change[left]))]
        near = np.abs(change[left] - largest) <= tolerance * float(np.ptp(change))
        groups.append(left[near])
        left = left[~near]
    return groups
