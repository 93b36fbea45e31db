"""Exact tests against enumeration and scipy, corrections against hand-made examples and statsmodels."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.significance import LEVEL, benjamini_hochberg, games_needed, holm, mann_whitney, smallest_p

few_values = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=5)  # so that ties are common


def enumerated_p(x: np.ndarray, y: np.ndarray) -> float:
    """Share of all splits of the pooled runs with U as far from its mean as here or more, U counted pair by pair."""
    pooled = np.concatenate([x, y])

    def wins(chosen: tuple[int, ...]) -> float:
        left, right = pooled[list(chosen)], np.delete(pooled, chosen)
        return float(((left[:, None] > right) + 0.5 * (left[:, None] == right)).sum())

    everywhere = np.array([wins(chosen) for chosen in combinations(range(len(pooled)), len(x))])
    distances = np.abs(everywhere - len(x) * (len(pooled) - len(x)) / 2)
    return float((distances >= abs(wins(tuple(range(len(x)))) - len(x) * (len(pooled) - len(x)) / 2)).mean())


@given(few_values, few_values)
@settings(max_examples=100, deadline=None)
def test_exact_p_equals_enumeration_of_all_splits_with_ties_in_both_directions(x: list[float], y: list[float]) -> None:
    left, right = np.array(x), np.array(y)
    test, back = mann_whitney(left, right), mann_whitney(right, left)
    assert test.exact and test.p == pytest.approx(enumerated_p(left, right), abs=1e-12)
    assert test.p == pytest.approx(back.p, abs=1e-12) and test.p >= smallest_p(len(x), len(y)) - 1e-12
    pairs = (left[:, None] > right) + 0.5 * (left[:, None] == right)
    assert test.probability == pytest.approx(pairs.mean(), abs=1e-12) == pytest.approx(1.0 - back.probability)


@pytest.mark.parametrize(("runs_x", "runs_y"), [(5, 5), (3, 7), (5, 100), (100, 5)])
def test_exact_p_without_ties_is_scipys(runs_x: int, runs_y: int) -> None:
    generator = np.random.default_rng(runs_x)
    x, y = generator.normal(0.7, 1.0, runs_x), generator.normal(0.0, 1.0, runs_y)
    assert mann_whitney(x, y).p == pytest.approx(stats.mannwhitneyu(x, y, method="exact").pvalue, rel=1e-9)


def test_large_groups_are_tested_asymptotically() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.4, 1.0, 100).round(1), generator.normal(0.0, 1.0, 100).round(1)
    test = mann_whitney(x, y)
    assert not test.exact and test.p == pytest.approx(stats.mannwhitneyu(x, y, method="asymptotic").pvalue)


def test_five_against_five_runs_cannot_give_less_than_two_in_252() -> None:
    assert smallest_p(5, 5) == 2 / 252 and smallest_p(1, 1) == 1.0
    assert mann_whitney(np.arange(5.0), np.arange(10.0, 15.0)).p == pytest.approx(2 / 252)
    assert mann_whitney(np.zeros(5), np.ones(5)).p == pytest.approx(2 / 252)  # ties within a side change nothing
    assert mann_whitney(np.ones(5), np.ones(5)).p == 1.0
    assert mann_whitney(np.ones(1), np.zeros(2)).p == smallest_p(1, 2) == 1 / 3  # no split is as far on the other side


def test_corrections_of_a_hand_made_example() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    # Holm: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04 raised to the 0.06 before it.
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Benjamini-Hochberg: 4/1 x 0.005, 4/2 x 0.01, 4/3 x 0.03, 4/4 x 0.04.
    assert benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1.0, 1.0])


def test_corrections_are_those_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(0, 0.2, size=26).round(2)  # with ties
    for method, ours in (("holm", holm), ("fdr_bh", benjamini_hochberg)):
        assert ours(p) == pytest.approx(multitest.multipletests(p, method=method)[1], abs=1e-12)


def test_what_five_runs_a_side_can_show_over_26_games() -> None:
    floor = smallest_p(5, 5)
    assert (holm(np.full(26, floor)) > LEVEL).sum() == 26  # every game as clear as can be, and Holm rejects none
    needed = games_needed(floor, 26)
    assert needed == 5
    p = np.ones(26)
    p[: needed - 1] = floor
    assert (benjamini_hochberg(p) > LEVEL).all()
    p[:needed] = floor
    assert (benjamini_hochberg(p) <= LEVEL).sum() == needed
    assert games_needed(smallest_p(2, 3), 26) is None and games_needed(2 / math.comb(105, 5), 26) == 1
