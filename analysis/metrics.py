"""Aggregate metrics over a score matrix, as rliable defines them.

Every function takes normalised scores of shape (runs N, tasks M), one column a task. Rows are not runs across tasks:
the position of a run in its column means nothing, so nothing here may pair values by row.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

TRIMMED_SHARE = 0.25  # share of all values the interquartile mean drops at each end
METRICS = ("mean", "median", "iqm", "optimality_gap", "superhuman")
PROFILE_GRID = np.linspace(0.0, 8.0, 201)  # tau of the papers' performance profiles


def mean(scores: Matrix) -> float:
    """Mean over tasks of the mean over runs."""
    return float(scores.mean(axis=0).mean())


def median(scores: Matrix) -> float:
    """Median over tasks of the mean over runs."""
    return float(np.median(scores.mean(axis=0)))


def trimmed_count(values: int) -> int:
    """How many of ``values`` sorted elements the interquartile mean drops at each end: whole elements, no fractions."""
    return int(TRIMMED_SHARE * values)


def interquartile_mean(scores: Matrix) -> float:
    """Mean of the middle half of all N*M values together."""
    drop = trimmed_count(scores.size)
    return float(np.sort(scores, axis=None)[drop : scores.size - drop].mean())


def optimality_gap(scores: Matrix) -> float:
    """``1 - mean(min(x, 1))`` over all values: what is missing to human level, gains above it not counted."""
    return float(1.0 - np.minimum(scores, 1.0).mean())


def superhuman(scores: Matrix) -> float:
    """Number of tasks whose mean over runs reaches 1."""
    return float((scores.mean(axis=0) >= 1.0).sum())


def points(scores: Matrix) -> dict[str, float]:
    """All metrics of one method, in the order of ``METRICS``."""
    functions = (mean, median, interquartile_mean, optimality_gap, superhuman)
    return {name: function(scores) for name, function in zip(METRICS, functions)}


def win_matrix(scores_x: Matrix, scores_y: Matrix) -> NDArray[np.float64]:
    """Shape (tasks, N_X, N_Y): 1 where a run of X beats a run of Y, one half where they tie, else 0."""
    x, y = scores_x.T[:, :, None], scores_y.T[:, None, :]
    return np.asarray((x > y) + 0.5 * (x == y))


def probability_of_improvement(scores_x: Matrix, scores_y: Matrix) -> float:
    """P(X > Y): mean over tasks of the share of pairs of runs that X wins (Mann-Whitney U over the number of pairs)."""
    return float(win_matrix(scores_x, scores_y).mean(axis=(1, 2)).mean())


def performance_profile(scores: Matrix, grid: NDArray[np.float64] = PROFILE_GRID) -> NDArray[np.float64]:
    """Share of all N*M values strictly greater than each tau of ``grid``."""
    return np.asarray((scores.ravel()[:, None] > grid).mean(axis=0))
