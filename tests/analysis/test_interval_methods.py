"""Interval methods against explicit resamples, brute-force jackknives, textbook formulas and their own symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats import bootstrap, interval_methods, metrics, samples
from analysis.stats.interval_methods import METRICS


def drawn(seed: int, size: int, tasks: int, runs: int) -> np.ndarray:
    """Skewed samples (S, M, N) whose tasks differ in level and spread."""
    generator = np.random.default_rng(seed)
    return generator.gamma(2.0, 0.4, size=(size, tasks, runs)) * np.linspace(0.2, 2.0, tasks)[:, None]


@pytest.mark.parametrize("metric", METRICS)
def test_points_equal_the_metrics(metric: str) -> None:
    for sample, point in zip(x := drawn(0, 5, 7, 4), samples.points(metric, x)):
        assert point == pytest.approx(metrics.points(sample.T)[metric], abs=1e-12)


@given(st.integers(1, 8), st.integers(2, 5), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_replicates_equal_those_of_the_bootstrap(tasks: int, runs: int, seed: int) -> None:
    # Few distinct values, so that ties are common.
    x = np.random.default_rng(seed).integers(-2, 5, size=(2, tasks, runs)) / 2.0
    counts = interval_methods.draw_counts(np.random.default_rng(seed), 9, tasks, runs)
    for index, sample in enumerate(x):
        expected = bootstrap.aggregate_replicates(sample.T, np.random.default_rng(seed), 9)
        for metric in METRICS:
            found = interval_methods.replicates(metric, x, counts)[index]
            np.testing.assert_allclose(found, expected[metric], atol=1e-12, err_msg=metric)


@given(st.integers(1, 9), st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_leaving_one_run_out_equals_the_metric_of_the_other_runs(tasks: int, runs: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-3, 6, size=(1, tasks, runs)) / 2.0
    for metric in METRICS:
        found = interval_methods.leave_one_out(metric, x)[0]
        for m in range(tasks):
            for n in range(runs):
                assert found[m, n] == pytest.approx(without(metric, x[0], m, n), abs=1e-12), metric


def without(metric: str, sample: np.ndarray, task: int, run: int) -> float:
    """The metric of lists of runs of unequal length."""
    lists = [list(values) for values in sample]
    del lists[task][run]
    means, values = [np.mean(each) for each in lists], np.sort(np.concatenate(lists))
    drop = int(0.25 * len(values))
    return {
        "mean": np.mean(means),
        "median": np.median(means),
        "iqm": values[drop : len(values) - drop].mean(),
        "optimality_gap": 1 - np.minimum(values, 1).mean(),
    }[metric]


def test_acceleration_is_a_sixth_of_the_skewness_within_tasks() -> None:
    # One task: deviations of the mean's leave-one-out values are (x - mean) / (N - 1); BCa's textbook formula.
    expected = 6 / (6 * 6**1.5)  # of deviations -1, -1, 2
    assert interval_methods.acceleration("mean", np.array([[[0.0, 0.0, 3.0]]]))[0] == pytest.approx(expected)
    # Symmetric within each task; 0, 0.1 and 0.8 are skewed, which is nothing that drawing runs could change.
    x = np.array([[[-0.1, 0.0, 0.1], [0.0, 0.1, 0.2], [0.7, 0.8, 0.9]]])
    for metric in ("mean", "optimality_gap"):
        assert interval_methods.acceleration(metric, x)[0] == pytest.approx(0.0, abs=1e-12)
    assert interval_methods.acceleration("iqm", np.ones((1, 4, 3)))[0] == 0.0


def test_bca_follows_the_textbook() -> None:
    # scipy's own BCa of one sample; one task, so that the stratified bootstrap is the plain one
    x = np.random.default_rng(2).gamma(1.0, size=40)
    expected = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="BCa", random_state=1).confidence_interval
    found = interval_methods.intervals(x[None, None], np.random.default_rng(3), 20_000, ("mean",))["mean"]
    width = expected.high - expected.low
    np.testing.assert_allclose(found["bca"][0], expected, atol=0.02 * width)
    assert abs(found["percentile"][0, 1] - expected.high) > 0.04 * width  # and not what it would be without


def test_student_of_one_task_is_the_one_sample_t_interval() -> None:
    x = np.random.default_rng(1).normal(size=6)
    expected = stats.t.interval(0.95, 5, x.mean(), stats.sem(x))
    point = samples.points("mean", x[None, None])
    np.testing.assert_allclose(interval_methods.student("mean", x[None, None], point)[0], expected, rtol=1e-10)


def test_student_of_two_tasks_is_welchs_interval() -> None:
    # The mean over two tasks is half of x - (-y), of which Welch's test knows error and degrees of freedom.
    x, y = np.random.default_rng(5).normal(size=(2, 5)) * np.array([[1.0], [3.0]])
    point = samples.points("mean", np.stack([x, y])[None])
    low, high = stats.ttest_ind(x, -y, equal_var=False).confidence_interval(0.95)
    found = interval_methods.student("mean", np.stack([x, y])[None], point)[0]
    np.testing.assert_allclose(found, [low / 2, high / 2], rtol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
def test_influence_values_are_derivatives(metric: str) -> None:
    """Moving one run by little moves the metric by the change of u / (N M)."""
    x = drawn(7, 1, 6, 5)
    step, expected = 1e-6, interval_methods.influence(metric, x)
    for m, n in np.ndindex(6, 5):
        moved = x.copy()
        moved[0, m, n] += step
        gain = samples.points(metric, moved)[0] - samples.points(metric, x)[0]
        change = (interval_methods.influence(metric, moved)[0, m, n] - expected[0, m, n]) / x[0].size
        assert gain == pytest.approx(change, abs=1e-12)


def test_widened_percentiles_widen_a_normal_interval_by_the_lost_variance() -> None:
    x = np.random.default_rng(6).normal(size=(1, 60, 3))
    found = interval_methods.intervals(x, np.random.default_rng(0), 8000, ("mean",))["mean"]
    widths = {name: float(bounds[0, 1] - bounds[0, 0]) for name, bounds in found.items()}
    assert widths["widened"] / widths["percentile"] == pytest.approx(np.sqrt(3 / 2), rel=0.04)
    # With 60 tasks of three runs everything is nearly normal, so three quite different ways must meet.
    assert widths["student"] / widths["widened"] == pytest.approx(1.0, rel=0.04)
    assert widths["bootstrap_t"] / widths["widened"] == pytest.approx(1.0, rel=0.04)


@pytest.mark.parametrize("metric", ["mean", "iqm"])
def test_intervals_move_and_stretch_with_the_scores(metric: str) -> None:
    x = drawn(8, 2, 6, 4)
    first, second = (
        interval_methods.intervals(each, np.random.default_rng(9), 200, (metric,))[metric] for each in (x, 3 * x - 1)
    )
    for name, bounds in first.items():
        np.testing.assert_allclose(second[name], 3 * bounds - 1, atol=1e-9, err_msg=name)


def test_equal_runs_have_intervals_of_no_width() -> None:
    x = np.repeat(np.linspace(0.1, 1.5, 7)[None, :, None], 4, axis=2)
    for metric, found in interval_methods.intervals(x, np.random.default_rng(0), 50).items():
        for name, bounds in found.items():
            np.testing.assert_allclose(bounds[0], samples.points(metric, x)[0], atol=1e-12, err_msg=name)


def test_quantiles_are_at_r_plus_one_times_p_and_finite_beside_an_infinite_replicate() -> None:
    ordered = np.arange(1.0, 40.0)[None]  # 39 replicates: 2.5 % is the first, 97.5 % the last
    np.testing.assert_allclose(interval_methods.quantiles(ordered, np.array([0.025, 0.5, 0.975])), [[1, 20, 39]])
    np.testing.assert_allclose(interval_methods.quantiles(ordered, np.array([0.0, 0.0375, 1.0])), [[1, 1.5, 39]])
    infinite = np.array([[-np.inf, 0.0, 1.0, np.inf]])
    found = interval_methods.quantiles(infinite, np.array([0.4, 0.2, 0.8]))
    np.testing.assert_array_equal(found, [[0.0, -np.inf, np.inf]])


def test_the_iqms_replicates_read_percentiles_as_the_aggregates_do() -> None:
    """Equal draws: what the papers' interval is in every other table."""
    x = drawn(2, 1, 26, 5)
    found = interval_methods.intervals(x, np.random.default_rng(0), 2000, ("iqm",))["iqm"]["percentile"][0]
    usual = bootstrap.FastEngine().aggregates(x[0].T, np.random.default_rng(0), 2000)["iqm"]
    np.testing.assert_allclose(found, usual, atol=0.01 * (usual[1] - usual[0]))
