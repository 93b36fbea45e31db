"""The coverage study: right where the truth is known exactly, and scaled to the effort asked for."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.context import Context
from analysis.data.scores import References, Suite
from analysis.options import Options
from analysis.stats import samples
from analysis.stats.bootstrap import FastEngine
from analysis.stats.interval_methods import NAMES, binomial_interval
from analysis.studies import r05_coverage
from analysis.studies.methods import Population
from analysis.studies.r05_coverage import ALL, RUNS, coverage_study

FEW = Options().capped(60)


@pytest.fixture
def context(suites: dict[str, Suite], references: References) -> Context:
    """Published scores alone."""
    return Context(references, suites, [], FastEngine(), FEW)


@pytest.fixture(scope="module")
def normal_study() -> pd.DataFrame:
    """100 normal runs of each of ten tasks, with as many samples as the real study."""
    scores = np.random.default_rng(0).normal(0.3, 0.1, size=(100, 10))
    return coverage_study((Population.of("toy", scores),), Options().capped(2000))


def share(study: pd.DataFrame, interval: str, runs: int) -> pd.Series:
    rows = study[(study.metric == "mean") & (study.interval == interval) & (study.runs == runs)]
    return rows[rows.method == "toy"].iloc[0]


def test_student_covers_a_normal_population_as_promised(normal_study: pd.DataFrame) -> None:
    """Within the exact binomial limits that 19 of 20000 studies would break."""
    for row in (share(normal_study, "student", runs) for runs in RUNS):
        low, high = stats.binom.ppf([0.0005, 0.9995], row.samples, 0.95)
        assert low <= row.held <= high
    parts = normal_study.held + normal_study.truth_below + normal_study.truth_above
    assert (parts == normal_study.samples).all()
    assert ((normal_study.low <= normal_study.coverage) & (normal_study.coverage <= normal_study.high)).all()


def test_percentiles_of_three_normal_runs_cover_what_theory_says(normal_study: pd.DataFrame) -> None:
    # The bootstrap's deviation is sqrt(2 / 3) of the standard error, which has 20 degrees of freedom or so: the
    # interval reaches 1.6 standard errors to each side.
    row = share(normal_study, "percentile", 3)
    expected = 1 - 2 * stats.t.sf(1.96 * np.sqrt(2 / 3), 20)
    low, high = stats.binom.ppf([0.0005, 0.9995], row.samples, expected)
    assert low <= row.held <= high and expected < 0.88


def test_methods_together_are_the_sum_of_the_methods_and_no_spread_is_always_covered() -> None:
    # Steps of 1/8: sums are exact, so point, truth and both bounds are the same number.
    flat = Population.of("flat", np.tile(np.arange(8) / 8, (100, 1)))
    study = coverage_study((Population.of("a", np.random.default_rng(0).normal(size=(100, 8))), flat), FEW)
    assert set(study.method) == {ALL, "a", "flat"}
    assert (study.coverage[study.method == "flat"] == 1).all() and np.allclose(study.width[study.method == "flat"], 0)
    keys = ["metric", "runs", "interval"]
    together, single = study[study.method == ALL].set_index(keys), study[study.method != ALL].groupby(keys, sort=False)
    assert (together.held == single.held.sum()).all() and (together.samples == single.samples.sum()).all()
    np.testing.assert_allclose(together.width, single.width.mean())


def test_binomial_interval_equals_scipys() -> None:
    held = np.array([0, 3, 19, 20])
    for number, low, high in zip(held, *binomial_interval(held, np.full(4, 20))):
        expected = stats.binomtest(int(number), 20).proportion_ci(0.95, method="exact")
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_artefacts_say_what_was_drawn_and_are_the_same_twice(context: Context) -> None:
    assert r05_coverage.effort(Options()) == (r05_coverage.SAMPLES, r05_coverage.RESAMPLES)
    figure, table = r05_coverage.coverage_figure(context), r05_coverage.coverage_table(context)
    assert "20 draws" in table.caption and "with replacement" in table.caption and "60 resamples" in figure.caption
    assert set(table.numbers.method) == {ALL, "CURL", "DrQ(eps)", "SPR"}
    pd.testing.assert_frame_equal(figure.numbers, table.numbers)
    coverage_study.cache_clear()
    pd.testing.assert_frame_equal(r05_coverage.coverage_table(context).numbers, table.numbers)


def test_intervals_of_the_agents_are_in_one_table(context: Context) -> None:
    numbers = r05_coverage.agents_table(context).numbers
    assert list(dict.fromkeys(numbers.method)) == ["IRIS", "REM", "Delta-IRIS", "M3"]
    assert list(numbers.interval[: len(NAMES)]) == list(NAMES)
    assert ((numbers.low < numbers.point) & (numbers.point < numbers.high)).all()
    width = (numbers.high - numbers.low).groupby(numbers.interval).mean()
    assert min(width["student"], width["widened"], width["bootstrap_t"]) > width["percentile"]


def test_drawn_runs_belong_to_their_game() -> None:
    scores = np.arange(12.0).reshape(4, 3)  # run n of game m is 3 n + m
    for draw in (samples.draw_with_replacement, samples.draw_subsets):
        drawn = draw(scores, np.random.default_rng(0), 50, 3)
        assert drawn.shape == (50, 3, 3) and (drawn % 3 == np.arange(3)[:, None]).all()
    assert all(len(set(game)) == 3 for sample in drawn for game in sample)  # subsets: no run twice
    whole = samples.draw_subsets(scores, np.random.default_rng(1), 20, 4)
    for metric in samples.METRICS:
        np.testing.assert_allclose(samples.points(metric, whole), samples.points(metric, scores.T[None])[0])
