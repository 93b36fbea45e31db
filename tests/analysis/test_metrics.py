"""Point metrics: identities, rliable's own values, properties over shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis import metrics

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
