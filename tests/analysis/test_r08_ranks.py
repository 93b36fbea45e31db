"""Ranks with ties, shares that are probabilities, and who is ranked among whom."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.context import Context
from analysis.data.published import ATARI
from analysis.data.runs import read_runs
from analysis.data.scores import References, Suite
from analysis.stats import metrics, ranks
from analysis.studies import r08_ranks
from tests.analysis.test_tables import context_of


@pytest.fixture(scope="module")
def context(suites: dict[str, Suite], references: References) -> Context:
    return context_of(suites, references, [])


@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_ranks_add_up_and_shares_are_probabilities_whose_mean_is_the_rank(methods: int, size: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, size=(size, methods)).astype(np.float64)
    found, shares = ranks.ranks(values), ranks.rank_shares(values)
    assert found.sum(axis=1) == pytest.approx(np.full(size, methods * (methods + 1) / 2))
    assert shares.sum(axis=0) == pytest.approx(np.ones(methods))  # some method has every rank
    assert shares.sum(axis=1) == pytest.approx(np.ones(methods))  # and every method has some rank
    assert shares @ np.arange(1, methods + 1) == pytest.approx(found.mean(axis=0))


def test_shares_of_a_hand_made_example() -> None:
    # The first replicate has a clear order, in the second the last two tie.
    shares = ranks.rank_shares(np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 4.0]]))
    np.testing.assert_allclose(shares, [[1.0, 0.0, 0.0], [0.0, 0.25, 0.75], [0.0, 0.75, 0.25]])


def test_means_of_games_are_resampled_from_the_runs_there_are() -> None:
    scores = np.array([[1.0, 0.0, 5.0], [1.0, 3.0, np.nan], [1.0, np.nan, np.nan]])
    means = ranks.task_mean_replicates(scores, np.random.default_rng(0), 400)
    assert set(means[:, 0]) == {1.0} and set(means[:, 1]) == {0.0, 1.5, 3.0} and set(means[:, 2]) == {5.0}
    assert (means[:, 1] == 1.5).mean() == pytest.approx(0.5, abs=0.1)


def test_points_follow_the_published_scores(context: Context, suites: dict[str, Suite]) -> None:
    numbers = r08_ranks.rank_statistics(context).set_index("method")
    several = {name: scores for name, scores in suites[ATARI].scores.items() if len(scores) > 1}
    assert set(numbers.index) == set(several) and "MuZero" not in numbers.index
    iqms = np.array([metrics.interquartile_mean(several[name]) for name in numbers.index])
    np.testing.assert_array_equal(numbers.rank_iqm, stats.rankdata(-iqms))
    means = np.stack([metrics.task_means(several[name]) for name in numbers.index])
    np.testing.assert_allclose(numbers.rank_games, stats.rankdata(-means, axis=0).mean(axis=1))
    assert numbers.rank_games.sum() == pytest.approx(13 * 14 / 2) == pytest.approx(numbers.rank_iqm_mean.sum())


def test_figure_and_table_show_the_shares_and_say_who_is_left_out(context: Context) -> None:
    drawing, table = r08_ranks.ranks_figure(context), r08_ranks.ranks_table(context)
    assert drawing.numbers.equals(table.numbers)
    left = drawing.figure.axes[0]
    shares = drawing.numbers[[f"share_rank_{place}" for place in range(1, 14)]].to_numpy()
    np.testing.assert_allclose(np.asarray(left.collections[0].get_array()).reshape(13, 13), shares)
    assert left.texts[0].get_text() == "100" and len(left.texts) == (shares > 0).sum()
    for artefact in (drawing, table):
        assert "Left out, with one value per game: MuZero and EfficientZero." in artefact.caption
    assert "| M3 | 5 | 1 | 1.00 [1, 1] | 1.000 |" in table.markdown


def test_ours_are_ranked_in_the_place_of_the_published_method(
    context: Context, suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    with_ours = r08_ranks.rank_statistics(context_of(suites, references, read_runs(paper_runs, references)))
    label = "IRIS (ours, paper, 26 games x 5 seeds)"
    assert list(with_ours.method)[-1] == label and set(with_ours.field) == {13}
    published = with_ours.iloc[:-1].reset_index(drop=True)
    assert published.equals(r08_ranks.rank_statistics(context))  # nothing about the others changes
    mine, theirs = (with_ours.set_index("method").loc[name] for name in (label, "IRIS"))
    assert mine.rank_iqm >= theirs.rank_iqm and mine.rank_games > theirs.rank_games  # slightly worse on every game
