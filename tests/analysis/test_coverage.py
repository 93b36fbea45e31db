"""The coverage study: right where the truth is known exactly, and scaled to the effort asked for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.context import Context
from analysis.data.identity import RunGroupId
from analysis.data.scores import References, Suite
from analysis.options import Options
from analysis.stats.bootstrap import FastEngine
from analysis.stats.interval_methods import NAMES
from analysis.studies import coverage, samples
from analysis.studies.coverage import ALL, RUNS, binomial_interval, coverage_study
from analysis.studies.interval_table import iqm_intervals_table
from analysis.studies.samples import Population

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


def share(study: pd.DataFrame, metric: str, interval: str, runs: int) -> pd.Series:
    rows = study[(study.metric == metric) & (study.interval == interval) & (study.runs == runs)]
    return rows[rows.method == "toy"].iloc[0]


@pytest.mark.parametrize("runs", RUNS)
def test_student_covers_a_normal_population_as_promised(normal_study: pd.DataFrame, runs: int) -> None:
    """Within the exact binomial limits that 19 of 20000 studies would break."""
    row = share(normal_study, "mean", "student", runs)
    low, high = stats.binom.ppf([0.0005, 0.9995], row.samples, 0.95)
    assert low <= row.held <= high


def test_percentiles_of_three_normal_runs_cover_what_theory_says(normal_study: pd.DataFrame) -> None:
    # The bootstrap's deviation is sqrt(2 / 3) of the standard error, which has 20 degrees of freedom or so: the
    # interval reaches 1.6 standard errors to each side.
    row = share(normal_study, "mean", "percentile", 3)
    expected = 1 - 2 * stats.t.sf(1.96 * np.sqrt(2 / 3), 20)
    low, high = stats.binom.ppf([0.0005, 0.9995], row.samples, expected)
    assert low <= row.held <= high and expected < 0.88


def test_every_truth_is_inside_below_or_above(normal_study: pd.DataFrame) -> None:
    parts = normal_study.held + normal_study.truth_below + normal_study.truth_above
    assert (parts == normal_study.samples).all()
    assert ((normal_study.low <= normal_study.coverage) & (normal_study.coverage <= normal_study.high)).all()


def test_a_population_without_spread_is_always_covered() -> None:
    # Steps of 1/8: sums are exact, so point, truth and both bounds are the same number.
    scores = np.tile(np.arange(8) / 8, (100, 1))
    study = coverage_study((Population.of("flat", scores),), FEW)
    assert (study.coverage == 1).all() and np.allclose(study.width, 0)


def test_methods_together_are_the_sum_of_the_methods() -> None:
    toys = [Population.of(name, np.random.default_rng(seed).normal(size=(100, 4))) for seed, name in enumerate("ab")]
    study = coverage_study(tuple(toys), FEW)
    assert set(study.method) == {ALL, "a", "b"}
    keys = ["metric", "runs", "interval"]
    together = study[study.method == ALL].set_index(keys)
    single = study[study.method != ALL].groupby(keys, sort=False)
    assert (together.held == single.held.sum()).all() and (together.samples == single.samples.sum()).all()
    np.testing.assert_allclose(together.width, single.width.mean())


def test_binomial_interval_equals_scipys() -> None:
    held, trials = np.array([0, 3, 19, 20]), np.array([20, 20, 20, 20])
    low, high = binomial_interval(held, trials)
    for index in range(4):
        expected = stats.binomtest(int(held[index]), 20).proportion_ci(0.95, method="exact")
        assert (low[index], high[index]) == pytest.approx((expected.low, expected.high))


def test_effort_follows_the_repetitions() -> None:
    assert coverage.effort(Options()) == (coverage.SAMPLES, coverage.RESAMPLES)
    assert coverage.effort(FEW) == (coverage.FEWEST_SAMPLES, 60)


def test_artefacts_say_what_was_drawn_and_are_the_same_twice(context: Context, tmp_path: Path) -> None:
    figure, table = coverage.coverage_figure(context), coverage.coverage_table(context)
    assert "20 draws" in table.caption and "with replacement" in table.caption and "60 resamples" in figure.caption
    assert set(table.numbers.method) == {ALL, "CURL", "DrQ(eps)", "SPR"}
    pd.testing.assert_frame_equal(figure.numbers, table.numbers)
    coverage_study.cache_clear()
    pd.testing.assert_frame_equal(coverage.coverage_table(context).numbers, table.numbers)
    assert figure.write(tmp_path / "figure")


def test_intervals_of_the_agents_stand_side_by_side(context: Context) -> None:
    table = iqm_intervals_table(context)
    assert list(dict.fromkeys(table.numbers.method)) == ["IRIS", "REM", "Delta-IRIS", "M3"]
    assert list(table.numbers.interval[: len(NAMES)]) == list(NAMES)
    assert ((table.numbers.low < table.numbers.point) & (table.numbers.point < table.numbers.high)).all()
    width = (table.numbers.high - table.numbers.low).groupby(table.numbers.interval).mean()
    assert min(width["student"], width["widened"], width["bootstrap_t"]) > width["percentile"]


def test_drawn_runs_belong_to_their_game() -> None:
    scores = np.arange(12.0).reshape(4, 3)  # column m holds m, m + 3, m + 6, m + 9
    generator = np.random.default_rng(0)
    for drawn in (samples.draw_independent(scores, generator, 50, 3), samples.draw_subsets(scores, generator, 50, 3)):
        assert drawn.shape == (50, 3, 3)
        assert (drawn % 3 == np.arange(3)[None, :, None]).all()
        assert (drawn[:, 0] // 3 != drawn[:, 1] // 3).any()  # rows are not runs across games
    assert len({tuple(run) for run in drawn[:, 0]}) > 10
    assert all(len(set(run)) == 3 for each in drawn for run in each)  # subsets hold no run twice


def test_a_subset_of_all_runs_is_the_population() -> None:
    scores = np.random.default_rng(0).gamma(1.0, size=(7, 5))
    drawn = samples.draw_subsets(scores, np.random.default_rng(1), 20, 7)
    for metric in coverage.METRICS:
        np.testing.assert_allclose(samples.points(metric, drawn), samples.points(metric, scores.T[None])[0], atol=1e-12)


def test_populations_are_full_matrices_of_several_runs(suites: dict[str, Suite], references: References) -> None:
    suite = suites["atari100k"]
    context = Context(references, suites, [], FastEngine(), Options())
    assert {each.method for each in samples.large(context)} == {"CURL", "DrQ(eps)", "SPR"}
    assert "MuZero" not in {each.method for each in samples.populations(suite)}
    ragged = suite.scores["IRIS"].copy()
    ragged[4, 3] = np.nan
    assert not samples.is_full(ragged)
    iris = samples.populations(suite, ["IRIS"])[0]
    np.testing.assert_array_equal(iris.scores, suite.scores["IRIS"])
    assert iris == samples.populations(suite, ["IRIS"])[0] and len({iris, iris}) == 1


def test_long_labels_of_ours_take_two_lines() -> None:
    assert samples.in_two_lines(RunGroupId("iris", scale="paper").label("26 games x 5 seeds")).startswith("IRIS\n(ours")
    assert samples.in_two_lines("DrQ(eps)") == "DrQ(ε)"
