"""Exact tests of one task, and corrections for testing many tasks at once.

The test is Mann and Whitney's: under the null hypothesis every split of the pooled runs into two groups of these sizes
is equally likely. Tied runs share their ranks (midranks), and the distribution is still exact, as it is counted over
the observed ranks. With five runs a side there are only 252 splits, so p has a floor (``smallest_p``).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
MOST_COUNTED = 20  # runs in the smaller group up to which splits are counted; beyond, the normal approximation is good

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Test:
    """Result on one task: share of the pairs of runs that X wins (U over their number), two-sided p, exact or not."""

    probability: float
    p: float
    exact: bool
    __test__ = False  # not a test of pytest's


def mann_whitney(x: Vector, y: Vector) -> Test:
    """Test whether runs ``x`` (N_X,) and ``y`` (N_Y,) differ: exact up to 20 runs in the smaller group.

    p is the share of splits whose rank sum is at least as far from its expectation, on either side. scipy's exact
    method assumes that there are no ties.
    """
    doubled = np.rint(2.0 * stats.rankdata(np.concatenate([x, y]))).astype(np.int64)  # midranks are halves
    above = doubled[: len(x)].sum() / 2.0 - len(x) * (len(x) + 1) / 2.0  # U, ties one half
    probability = float(above / (len(x) * len(y)))
    if min(len(x), len(y)) > MOST_COUNTED:
        return Test(probability, float(stats.mannwhitneyu(x, y, method="asymptotic").pvalue), False)
    smaller = doubled[: len(x)] if len(x) <= len(y) else doubled[len(x) :]
    return Test(probability, _exact_p(doubled, int(smaller.sum()), len(smaller)), True)


def _exact_p(doubled: NDArray[np.int64], observed: int, size: int) -> float:
    """Share of all choices of ``size`` of the doubled ranks whose sum is as far from its mean as ``observed`` or more.

    ``ways[k, s]``: number of choices of k of the ranks so far that sum to s.
    """
    largest = int(np.sort(doubled)[len(doubled) - size :].sum())
    ways = np.zeros((size + 1, largest + 1))
    ways[0, 0] = 1.0
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, : largest + 1 - rank]
    sums = np.arange(largest + 1)
    distances = np.abs(sums * len(doubled) - size * doubled.sum())  # times the number of runs: whole numbers
    far = ways[size, distances >= distances[observed]].sum()
    return min(1.0, float(far) / math.comb(len(doubled), size))


def smallest_p(runs_x: int, runs_y: int) -> float:
    """The smallest two-sided p that these numbers of runs can give, ties or not: that of the most extreme splits."""
    return min(1.0, extreme_splits(runs_x, runs_y) / math.comb(runs_x + runs_y, runs_x))


def extreme_splits(runs_x: int, runs_y: int) -> int:
    """The fewest splits that can be the most extreme: with equal numbers of runs one on either side; otherwise ties may
    make one side less extreme."""
    return 2 if runs_x == runs_y else 1


def holm(p: Vector) -> Vector:
    """Holm's step-down: p times the number of hypotheses not rejected before, never decreasing, at most 1."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0.0, -1.0)), 1.0)
    return adjusted


def benjamini_hochberg(p: Vector) -> Vector:
    """q values: the smallest false-discovery rate at which each hypothesis is rejected."""
    return np.asarray(stats.false_discovery_control(p))


def games_needed(floor: float, games: int) -> int | None:
    """Number of games that must reach ``floor`` before Benjamini and Hochberg reject any at the level, if possible."""
    needed = math.ceil(games * floor / LEVEL - 1e-9)
    return max(1, needed) if needed <= games else None
