"""Point metrics: identities, rliable's own values, properties over shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.stats import metrics

VALUES = st.floats(-5, 20, allow_nan=False, width=32)


def matrices(runs: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(runs or st.integers(1, 7), st.integers(1, 9))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=VALUES))


def test_metrics_equal_rliable() -> None:
    from rliable import metrics as rliable

    scores = np.random.default_rng(0).normal(0.7, 1.0, size=(5, 26))
    points = metrics.points(scores)
    assert points["mean"] == pytest.approx(rliable.aggregate_mean(scores), abs=1e-12)
    assert points["median"] == pytest.approx(rliable.aggregate_median(scores), abs=1e-12)
    assert points["iqm"] == pytest.approx(rliable.aggregate_iqm(scores), abs=1e-12)
    assert points["optimality_gap"] == pytest.approx(rliable.aggregate_optimality_gap(scores), abs=1e-12)


@pytest.mark.parametrize(("shape", "kept"), [((5, 26), 66), ((5, 8), 20), ((100, 26), 1300), ((1, 26), 14)])
def test_iqm_drops_whole_elements(shape: tuple[int, int], kept: int) -> None:
    size = shape[0] * shape[1]
    assert size - 2 * metrics.trimmed_count(size) == kept
    ordered = np.arange(size, dtype=float)
    drop = (size - kept) // 2
    shuffled = np.random.default_rng(1).permutation(ordered).reshape(shape)
    assert metrics.interquartile_mean(shuffled) == pytest.approx(ordered[drop : size - drop].mean())


@given(matrices(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_metrics_ignore_the_order_of_runs_within_a_task(scores: np.ndarray, random: object) -> None:
    shuffled = scores.copy()
    generator = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    for column in shuffled.T:
        generator.shuffle(column)
    for name, value in metrics.points(scores).items():
        assert metrics.points(shuffled)[name] == pytest.approx(value, abs=1e-9)


@given(matrices())
@settings(max_examples=50, deadline=None)
def test_improvement_of_a_method_over_itself_is_one_half(scores: np.ndarray) -> None:
    assert metrics.probability_of_improvement(scores, scores) == pytest.approx(0.5)


@given(matrices(), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_improvements_of_a_pair_sum_to_one(scores: np.ndarray, runs: int) -> None:
    other = np.random.default_rng(runs).choice(scores.ravel(), size=(runs, scores.shape[1]))
    forth = metrics.probability_of_improvement(scores, other)
    assert forth + metrics.probability_of_improvement(other, scores) == pytest.approx(1.0)


@given(matrices())
@settings(max_examples=50, deadline=None)
def test_profile_falls_and_counts_strictly_greater_values(scores: np.ndarray) -> None:
    profile = metrics.performance_profile(scores)
    assert (np.diff(profile) <= 0).all()
    assert profile[25] == (scores > metrics.PROFILE_GRID[25]).mean()


def test_a_value_on_the_threshold_is_not_above_it() -> None:
    assert metrics.performance_profile(np.array([[1.0]]), np.array([1.0])) == 0.0


def test_gap_ignores_what_exceeds_human_level() -> None:
    assert metrics.optimality_gap(np.array([[0.5, 9.0]])) == pytest.approx(0.25)


def test_constant_equal_task_counts_one_half() -> None:
    assert metrics.probability_of_improvement(np.zeros((3, 1)), np.zeros((4, 1))) == 0.5


# Three runs on the first task, one on the second, two on the third.
RAGGED = np.array([[0.0, 2.0, 0.5], [1.0, np.nan, 1.5], [2.0, np.nan, np.nan]])


def test_ragged_metrics_by_hand() -> None:
    assert metrics.run_counts(RAGGED).tolist() == [3, 1, 2]
    assert metrics.task_means(RAGGED).tolist() == [1.0, 2.0, 1.0]
    points = metrics.points(RAGGED)
    assert points["mean"] == pytest.approx(4 / 3) and points["median"] == 1.0 and points["superhuman"] == 3
    # Of 0, 0.5, 1, 1.5, 2, 2 one value is dropped at each end.
    assert points["iqm"] == pytest.approx((0.5 + 1.0 + 1.5 + 2.0) / 4)
    assert points["optimality_gap"] == pytest.approx(1 - (2 / 3 + 1.0 + 1.5 / 2) / 3)  # every task weighs the same
    assert metrics.performance_profile(RAGGED, np.array([0.5, 1.0])) == pytest.approx([4 / 6, 3 / 6])


def test_ragged_improvement_counts_the_pairs_that_exist() -> None:
    other = np.array([[1.0, 1.0, 0.5], [1.0, 3.0, np.nan]])
    shares = [(1 * 2 + 0.5 * 2) / 6, 1 / 2, (0.5 + 1) / 2]
    assert metrics.win_shares(RAGGED, other) == pytest.approx(shares)
    assert metrics.probability_of_improvement(RAGGED, other) == pytest.approx(np.mean(shares))
    forth = metrics.probability_of_improvement(RAGGED, other)
    assert forth + metrics.probability_of_improvement(other, RAGGED) == pytest.approx(1.0)
    assert np.isnan(metrics.win_matrix(RAGGED, other)).sum() == 3 * 3 * 2 - (6 + 2 + 2)


@given(matrices(), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_rows_of_nothing_change_nothing(scores: np.ndarray, rows: int) -> None:
    padded = np.vstack([scores, np.full((rows, scores.shape[1]), np.nan)])
    other = scores[::-1] + 0.5
    for name, value in metrics.points(scores).items():
        assert metrics.points(padded)[name] == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(metrics.performance_profile(padded), metrics.performance_profile(scores))
    improvement = metrics.probability_of_improvement(scores, other)
    assert metrics.probability_of_improvement(padded, other) == pytest.approx(improvement, abs=1e-12)


def test_a_task_without_runs_has_no_mean() -> None:
    assert np.isnan(metrics.task_means(np.array([[1.0, np.nan]]))).tolist() == [False, True]
