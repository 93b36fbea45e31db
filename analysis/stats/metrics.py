"""Aggregate metrics over a score matrix, as rliable defines them.

Every function takes normalised scores of shape (runs N, tasks M), one column a task. Rows are not runs across tasks:
the position of a run in its column means nothing, so nothing here may pair values by row.

A task may have fewer runs than others: NaN at the bottom of its column is "no such run". Means over runs are then over
the runs that exist, and every task weighs the same in the optimality gap, too. IQM and performance profile, which
rliable defines over all N*M values together, are over all values that exist, so that a task with fewer runs weighs less
in them; every table and figure that shows such a method says so (``analysis/data/notes.py``). Of a full matrix nothing
is computed in another way.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

TRIMMED_SHARE = 0.25  # share of all values the interquartile mean drops at each end
METRICS = ("mean", "median", "iqm", "optimality_gap", "superhuman")
# Human-normalised scores, and means of them, that are nearer than this are equal: two different means of a hundred runs
# of 128 episodes differ by 1e-9 at least, and arithmetic errs by 1e-13.
TIE = 1e-10
PROFILE_GRID = np.linspace(0.0, 8.0, 201)  # tau of the papers' performance profiles


def run_counts(scores: Matrix) -> NDArray[np.int64]:
    """Shape (M,): how many runs each task has."""
    return np.asarray((~np.isnan(scores)).sum(axis=0))


def is_ragged(scores: Matrix) -> bool:
    """Whether some task has fewer runs than another."""
    return bool(np.isnan(scores).any())


def existing(scores: Matrix) -> Matrix:
    """All values of runs that exist: the matrix itself where it is full, else one axis."""
    return scores[~np.isnan(scores)] if is_ragged(scores) else scores


def task_means(scores: Matrix) -> NDArray[np.float64]:
    """Shape (M,): mean over the runs of each task."""
    if not is_ragged(scores):
        return np.asarray(scores.mean(axis=0))
    with np.errstate(invalid="ignore"):  # a task without any run has no mean
        return np.asarray(np.where(np.isnan(scores), 0.0, scores).sum(axis=0) / run_counts(scores))


def standard_errors(scores: Matrix) -> NDArray[np.float64]:
    """Standard error of the mean over the existing runs, shape (M,): sample deviation / sqrt(number of runs); NaN
    for fewer than two."""
    counts = run_counts(scores)
    squares = np.nansum((scores - task_means(scores)) ** 2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 1, np.sqrt(squares / (counts - 1) / counts), np.nan))


def mean(scores: Matrix) -> float:
    """Mean over tasks of the mean over runs."""
    return float(task_means(scores).mean())


def median(scores: Matrix) -> float:
    """Median over tasks of the mean over runs."""
    return float(np.median(task_means(scores)))


def trimmed_count(values: int) -> int:
    """How many of ``values`` sorted elements the interquartile mean drops at each end: whole elements, no fractions."""
    return int(TRIMMED_SHARE * values)


def interquartile_mean(scores: Matrix) -> float:
    """Mean of the middle half of all N*M values together."""
    values = np.sort(existing(scores), axis=None)
    drop = trimmed_count(values.size)
    return float(values[drop : values.size - drop].mean())


def optimality_gap(scores: Matrix) -> float:
    """``1 - mean(min(x, 1))`` over tasks and runs: what is missing to human level, gains above it not counted."""
    clipped = np.minimum(scores, 1.0)
    return float(1.0 - (task_means(clipped) if is_ragged(scores) else clipped).mean())


def superhuman(scores: Matrix) -> float:
    """Number of tasks whose mean over runs reaches 1."""
    return float((task_means(scores) >= 1.0 - TIE).sum())


def points(scores: Matrix) -> dict[str, float]:
    """All metrics of one method, in the order of ``METRICS``."""
    functions = (mean, median, interquartile_mean, optimality_gap, superhuman)
    return {name: function(scores) for name, function in zip(METRICS, functions)}


def levels(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of every value among the different ones along the last axis, 0 for the smallest; neighbours nearer than
    ``TIE`` are not different. For means of scores, which rounding keeps from being equal."""
    order = np.argsort(values, axis=-1)
    steps = np.diff(np.take_along_axis(values, order, axis=-1), axis=-1) > TIE
    places = np.zeros(values.shape, dtype=np.int64)
    places[..., 1:] = np.cumsum(steps, axis=-1)
    result = np.empty_like(places)
    np.put_along_axis(result, order, places, axis=-1)
    return result


def win_matrix(scores_x: Matrix, scores_y: Matrix) -> NDArray[np.float64]:
    """Shape (tasks, N_X, N_Y): 1 where a run of X beats a run of Y, one half where they tie, else 0; NaN where one of
    the two does not exist (``win_shares`` averages the others). Ties are exact, as rliable's: scores that are equal are
    made so when they are read (``analysis.data.scores.snapped``)."""
    x, y = scores_x.T[:, :, None], scores_y.T[:, None, :]
    wins = np.asarray((x > y) + 0.5 * (x == y))
    if is_ragged(scores_x) or is_ragged(scores_y):
        wins[np.isnan(x) | np.isnan(y)] = np.nan
    return wins


def win_shares(scores_x: Matrix, scores_y: Matrix) -> NDArray[np.float64]:
    """Shape (tasks,): P(X > Y) of each task, the share of the pairs of runs that X wins (Mann-Whitney U over pairs)."""
    wins = win_matrix(scores_x, scores_y)
    if not np.isnan(wins).any():
        return np.asarray(wins.mean(axis=(1, 2)))
    return np.asarray(np.nansum(wins, axis=(1, 2)) / (run_counts(scores_x) * run_counts(scores_y)))


def probability_of_improvement(scores_x: Matrix, scores_y: Matrix) -> float:
    """P(X > Y): mean over tasks of the share of pairs of runs that X wins."""
    return float(win_shares(scores_x, scores_y).mean())


def performance_profile(scores: Matrix, grid: NDArray[np.float64] = PROFILE_GRID) -> NDArray[np.float64]:
    """Share of all N*M values strictly greater than each tau of ``grid``."""
    return np.asarray((existing(scores).ravel()[:, None] > grid + TIE).mean(axis=0))


def tell_spread(scores: Matrix) -> bool:
    """Whether runs (N, M) tell how much runs differ: there are several of some task, and these are not all equal."""
    return bool((np.nanmax(scores, axis=0) - np.nanmin(scores, axis=0) > TIE).any())


def wider(bounds: tuple[float, float], usual: tuple[float, float]) -> float:
    """How many times as wide an interval is as another one; NaN where that is no wider than ``TIE``."""
    width = usual[1] - usual[0]
    return float((bounds[1] - bounds[0]) / width) if width > TIE else np.nan


def error_of_runs(scores: NDArray[np.float64]) -> float:
    """Standard error of the mean over runs (N,); NaN of one run, and of equal ones, which do not tell how runs
    spread."""
    return float(scores.std(ddof=1) / np.sqrt(len(scores))) if len({*scores}) > 1 else np.nan
