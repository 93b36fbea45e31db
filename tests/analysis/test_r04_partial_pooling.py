"""The hierarchical model of the spread over runs: its limits, and that it finds what a simulation put in."""

import numpy as np
import pytest
from scipy import stats

from analysis.context import make_context
from analysis.stats import partial_pooling
from analysis.stats.partial_pooling import LARGE, Posterior
from analysis.studies import r04_partial_pooling


def simulated(seed: int, freedom: float = 4.0, games: int = 26) -> tuple[np.ndarray, np.ndarray]:
    """Five runs with a standard deviation of about a fifth of the level, and the true means."""
    generator = np.random.default_rng(seed)
    means = generator.uniform(0.05, 8.0, games)
    variances = (0.2 * means) ** 2 * freedom / generator.chisquare(freedom, games)
    return generator.normal(means, np.sqrt(variances), (5, games)), means


def test_without_a_prior_intervals_are_those_of_the_t_test() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))
    sample = scores.var(axis=0, ddof=1)
    posterior = Posterior(scores.mean(axis=0), np.full(3, 5), sample, np.full(3, 4.0), 0.0, sample)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    np.testing.assert_allclose(posterior.task_intervals(), [expected.low, expected.high])


def test_equal_relative_spreads_are_pooled_completely() -> None:
    """Nothing but sampling noise between the games: the prior is certain and every game gets its value."""
    levels = np.array([0.1, 1.0, 2.0, 5.0, 7.0])
    posterior = partial_pooling.fit(levels * (1 + 0.1 * np.array([-1.0, 0.0, 1.0])[:, None]))
    assert posterior.prior_freedom == LARGE
    np.testing.assert_allclose(posterior.variances / levels**2, posterior.variances[0] / levels[0] ** 2, rtol=1e-6)


def test_a_pooled_variance_is_the_weighted_mean_of_the_games_own_and_the_prior() -> None:
    scores, _ = simulated(1, freedom=3.0)
    posterior, own = partial_pooling.fit(scores), scores.var(axis=0, ddof=1)
    weight = posterior.prior_freedom / (posterior.prior_freedom + 4)
    assert 0 < weight < 1
    np.testing.assert_allclose(posterior.variances, weight * posterior.prior_variances + (1 - weight) * own)


@pytest.mark.parametrize("freedom", [2.0, 8.0])
def test_the_prior_is_found_again(freedom: float) -> None:
    posterior = partial_pooling.fit(simulated(2, freedom, games=20_000)[0])
    assert posterior.prior_freedom == pytest.approx(freedom, rel=0.15)


def test_the_freedom_of_the_prior_inverts_the_trigamma_function() -> None:
    assert partial_pooling.prior_freedom(np.pi**2 / 6) == pytest.approx(2.0)  # psi'(1)
    assert partial_pooling.prior_freedom(-0.1) == LARGE


def test_credible_intervals_of_games_cover_the_truth() -> None:
    covered = []
    for seed in range(100):
        scores, means = simulated(seed)
        low, high = partial_pooling.fit(scores).task_intervals()
        covered.append(((low <= means) & (means <= high)).mean())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_games_of_equal_runs_take_their_spread_from_the_others_also_if_equal_but_for_rounding() -> None:
    scores, _ = simulated(4)
    scores[:, 7] = 1.3
    equal = partial_pooling.fit(scores)
    low, high = equal.task_intervals()
    assert np.isfinite(low).all() and low[7] < 1.3 < high[7]
    scores[0, 7] = np.nextafter(1.3, 2.0)
    assert scores[:, 7].var(ddof=1) > 0
    assert partial_pooling.fit(scores).prior_freedom == pytest.approx(equal.prior_freedom)


def test_one_game_of_almost_equal_runs_that_steers_the_prior_is_found() -> None:
    scores, _ = simulated(6)
    assert partial_pooling.steering_task(scores) is None
    scores[:, 7] = 1.3 + 1e-4 * scores[:, 7]
    assert partial_pooling.steering_task(scores) == (7, partial_pooling.fit(np.delete(scores, 7, axis=1)).prior_freedom)


def test_a_game_with_fewer_runs_has_less_freedom() -> None:
    scores, _ = simulated(5)
    scores[3:, 2] = np.nan
    posterior = partial_pooling.fit(scores)
    assert posterior.runs[2] == 3 and posterior.freedom[2] == posterior.freedom[0] - 2


def test_aggregates_of_a_certain_posterior_are_those_of_the_distributions() -> None:
    """No spread at all: every draw is the sample, of which the IQM keeps the middle half."""
    tiny = np.full(4, 1e-18)
    posterior = Posterior(np.array([0.0, 1.0, 2.0, 9.0]), np.full(4, 5), tiny, np.full(4, LARGE), LARGE, tiny)
    draws = partial_pooling.aggregates(posterior, np.random.default_rng(0), draws=3)
    np.testing.assert_allclose(draws["mean"], 3.0)
    np.testing.assert_allclose(draws["iqm"], 1.5)


def test_tables_are_of_the_methods_with_few_runs_and_name_their_defects() -> None:
    context = make_context(repetitions=60)
    table, games = r04_partial_pooling.pooled_table(context), r04_partial_pooling.games_table(context)
    methods = ["SimPLe", "IRIS", "TWM", "DreamerV3", "REM", "Delta-IRIS", "M3", "STORM", "DIAMOND"]
    assert list(table.numbers.method) == methods and len(games.numbers) == len(methods) * 26
    assert {defect.methods for defect in table.defects} == {("STORM",), ("Delta-IRIS",)}
    assert "steers the prior of IRIS (3.1 without Freeway) and REM (2.0 without PrivateEye)." in table.caption
    iris = table.numbers.set_index("method").loc["IRIS"]
    assert iris["mean"] == pytest.approx(1.046, abs=0.01) and iris.mean_low < 1.046 < iris.mean_high
