"""The vectorised bootstrap: equal to the plain resampling it replaces, and to rliable within noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.data.scores import Suite
from analysis.options import Options
from analysis.stats import bootstrap, metrics
from analysis.stats.bootstrap import FastEngine
from analysis.stats.rliable_engine import RliableEngine
from tokenworlds.errors import UserError


def ragged(seed: int, counts: list[int]) -> np.ndarray:
    """A matrix with that many runs on each task; few distinct values, so that there are ties."""
    scores = np.random.default_rng(seed).integers(-2, 5, size=(max(counts), len(counts))) / 2.0
    return np.where(np.arange(max(counts))[:, None] < counts, scores, np.nan)


def resample(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The matrix that one table of counts (M, N) stands for."""
    result = np.full(scores.shape, np.nan)
    for m, drawn in enumerate(counts.astype(int)):
        column = np.repeat(scores[:, m], drawn)
        result[: len(column), m] = column
    return result


EQUAL = st.tuples(st.integers(1, 5), st.integers(1, 7)).map(lambda shape: [shape[0]] * shape[1])
RUNS = st.one_of(EQUAL, st.lists(st.integers(1, 5), min_size=1, max_size=7))


@given(RUNS, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_replicates_equal_the_metrics_of_explicit_resamples(runs: list[int], seed: int) -> None:
    scores = ragged(seed, runs)
    replicates = bootstrap.aggregate_replicates(scores, np.random.default_rng(seed), 7)
    profiles = bootstrap.profile_replicates(scores, np.random.default_rng(seed), 7)
    counts = bootstrap.draw(np.random.default_rng(seed), 7, scores)
    for number in range(7):
        sample = resample(scores, counts[number])
        assert metrics.run_counts(sample).tolist() == runs
        for name, value in metrics.points(sample).items():
            assert replicates[name][number] == pytest.approx(value, abs=1e-12), name
        np.testing.assert_allclose(profiles[number], metrics.performance_profile(sample), atol=1e-12)


@given(RUNS, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_improvements_equal_explicit_resamples(runs: list[int], seed: int) -> None:
    x, y = ragged(seed, runs), ragged(seed + 1, runs[::-1])
    replicates = bootstrap.improvement_replicates(x, y, np.random.default_rng(seed), 6)
    stream = np.random.default_rng(seed)
    counts_x, counts_y = bootstrap.draw(stream, 6, x), bootstrap.draw(stream, 6, y)
    for number in range(6):
        samples = resample(x, counts_x[number]), resample(y, counts_y[number])
        assert replicates[number] == pytest.approx(metrics.probability_of_improvement(*samples), abs=1e-12)


def test_ragged_draws_are_even_over_the_runs_that_exist() -> None:
    scores = ragged(0, [4, 1, 3])
    counts = bootstrap.draw(np.random.default_rng(0), 20_000, scores)
    assert (counts.sum(axis=2) == [4, 1, 3]).all()
    np.testing.assert_allclose(counts.mean(axis=0), ~np.isnan(scores.T), atol=0.03)
    with pytest.raises(AssertionError, match="padding goes below"):
        bootstrap.draw(np.random.default_rng(0), 1, np.array([[np.nan, 1.0], [1.0, 1.0]]))


def test_rliable_refuses_ragged_scores_instead_of_giving_nan() -> None:
    scores, full = ragged(0, [3, 2]), ragged(0, [3, 3])
    engine, stream = RliableEngine(), np.random.default_rng(0)
    message = "as few as 2 and as many as 3 runs a task, and rliable takes full matrices only; use --engine fast"
    for call in (
        lambda: engine.aggregates(scores, stream, 5),
        lambda: engine.improvement(full, scores, stream, 5),
        lambda: engine.profile(scores, stream, 5),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_every_task_draws_as_many_runs_as_it_has() -> None:
    counts = bootstrap.draw_counts(np.random.default_rng(0), 50, 3, 7)
    assert counts.shape == (50, 3, 7)
    assert (counts.sum(axis=2) == 7).all()
    assert counts.mean() == pytest.approx(1.0)
    assert not np.array_equal(counts[:, 0], counts[:, 1])  # tasks are drawn independently


def test_blocks_do_not_change_the_draws() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 8))
    whole = bootstrap.aggregate_replicates(scores, np.random.default_rng(1), 300)
    pieces = bootstrap.aggregate_replicates(scores, np.random.default_rng(1), 300, block_values=64)
    for name in metrics.METRICS:
        np.testing.assert_allclose(whole[name], pieces[name], atol=1e-12)


def test_memory_of_a_block_is_bounded() -> None:
    sizes = list(bootstrap.blocks(50_000, 2600))
    assert sum(sizes) == 50_000
    assert max(sizes) * 2600 <= bootstrap.BLOCK_VALUES
    assert list(bootstrap.blocks(3, 10**9)) == [1, 1, 1]


def test_streams_are_independent_of_other_methods() -> None:
    options = Options()
    assert options.generator("a", "b").random() == options.generator("a", "b").random()
    assert options.generator("a", "b").random() != options.generator("a", "c").random()
    assert Options(seed=1).generator("a").random() != options.generator("a").random()


def test_fast_engine_agrees_with_rliable(suites: dict[str, Suite], golden: dict) -> None:
    """At 1500 repetitions each, bounds differ by Monte Carlo noise only (golden tolerance: 6 deviations at 50 000)."""
    scores, repetitions = suites["atari100k"].scores["IRIS"], 1500
    tolerance = golden["atari100k"]["IRIS"]["ci95_tol"]
    scale = np.sqrt(2 * 50_000 / repetitions)
    fast = FastEngine().aggregates(scores, Options().generator("fast"), repetitions)
    slow = RliableEngine().aggregates(scores, Options().generator("slow"), repetitions)
    for name, allowed in tolerance.items():
        np.testing.assert_allclose(fast[name], slow[name], atol=allowed * scale, err_msg=name)


def test_fast_profile_and_improvement_agree_with_rliable(suites: dict[str, Suite]) -> None:
    iris, simple = suites["atari100k"].scores["IRIS"], suites["atari100k"].scores["SimPLe"]
    fast, slow = FastEngine(), RliableEngine()
    options = Options()
    bands = [engine.profile(iris, options.generator("p"), 300) for engine in (fast, slow)]
    np.testing.assert_allclose(*bands, atol=0.03)
    bounds = [engine.improvement(iris, simple, options.generator("i"), 60) for engine in (fast, slow)]
    np.testing.assert_allclose(*bounds, atol=0.06)


def test_rliable_engine_is_deterministic_though_rliable_ignores_random_state(suites: dict[str, Suite]) -> None:
    scores = suites["atari100k"].scores["SimPLe"]
    first, second = (RliableEngine().aggregates(scores, Options().generator("x"), 50) for _ in range(2))
    assert first == second
