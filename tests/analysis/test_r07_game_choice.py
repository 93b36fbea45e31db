"""The choice of games: cases by hand, identities, and rliable's own bootstrap over tasks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.context import make_context
from analysis.data.scores import Suite
from analysis.stats import bootstrap, metrics
from analysis.stats.samples import task_replicates
from analysis.stats.task_influence import (
    effective_number,
    iqm_shares,
    leave_one_task_out,
    mean_shares,
    most_influential,
)
from analysis.studies import r04_partial_pooling, r05_coverage, r06_run_numbers, r07_game_choice


def test_leaving_out_one_of_identical_games_changes_nothing() -> None:
    # Of 4 x 8 values the IQM keeps 16, of 4 x 7 it keeps 14: of each of the four scores the same share.
    scores = np.tile(np.array([[0.2], [0.5], [0.7], [1.4]]), (1, 8))
    for name, change in leave_one_task_out(scores).items():
        np.testing.assert_allclose(change, 0.0, atol=1e-12, err_msg=name)


def test_leaving_one_game_out_and_shares_by_hand() -> None:
    change = leave_one_task_out(np.array([[0.0, 1.0, 5.0]]))
    np.testing.assert_allclose(change["mean"], [3 - 2, 2.5 - 2, 0.5 - 2])
    np.testing.assert_allclose(change["median"], [3 - 1, 2.5 - 1, 0.5 - 1])
    np.testing.assert_allclose(change["superhuman"], [0, -1, -1])
    np.testing.assert_allclose(iqm_shares(np.array([[1.0, 2.0], [3.0, 9.0]])), [3 / 5, 2 / 5])  # keeps 2 and 3
    assert effective_number(np.full(26, 1 / 26)) == pytest.approx(26)
    assert effective_number(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)


def test_changes_of_the_mean_follow_from_its_shares(suites: dict[str, Suite]) -> None:
    """Without game m the mean is (M mean - x_m) / (M - 1), and x_m = share_m M mean."""
    scores = suites["atari100k"].scores["REM"]
    games, mean = scores.shape[1], metrics.mean(scores)
    expected = mean * (1 - games * mean_shares(scores)) / (games - 1)
    np.testing.assert_allclose(leave_one_task_out(scores)["mean"], expected, atol=1e-12)
    assert iqm_shares(scores).sum() == pytest.approx(1.0)


def test_a_game_with_fewer_runs_is_left_out_like_any_other() -> None:
    scores = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, np.nan]])
    np.testing.assert_allclose(leave_one_task_out(scores)["mean"], [3.5 - 8 / 3, 3 - 8 / 3, 1.5 - 8 / 3])
    np.testing.assert_allclose(mean_shares(scores), [1 / 8, 2 / 8, 5 / 8])
    # 5 values, one dropped at each end: 0 and 5 go
    np.testing.assert_allclose(iqm_shares(scores), [2 / 6, 4 / 6, 0])


def test_deviations_of_resampled_games_and_runs() -> None:
    runs = np.random.default_rng(0).normal(size=5)
    alike = task_replicates(np.tile(runs[:, None], (1, 10)), np.random.default_rng(1), 4000)["mean"]
    assert alike.std() == pytest.approx(runs.std() / np.sqrt(50), rel=0.06)  # games add nothing
    games = np.array([[0.0, 1.0, 4.0, 7.0]])
    single = task_replicates(games, np.random.default_rng(3), 4000)["mean"]
    assert single.std() == pytest.approx(games.std() / 2, rel=0.06)  # only games vary


def test_task_bootstrap_agrees_with_rliable(suites: dict[str, Suite]) -> None:
    from rliable.library import get_interval_estimates

    scores = suites["atari100k"].scores["IRIS"]
    np.random.seed(0)  # noqa: NPY002 - the only seed that rliable heeds
    statistics = (metrics.mean, metrics.interquartile_mean)
    _, found = get_interval_estimates(
        {"IRIS": scores}, lambda x: np.array([each(x) for each in statistics]), task_bootstrap=True, reps=1500
    )
    replicates = task_replicates(scores, np.random.default_rng(0), 1500)
    for column, metric in enumerate(("mean", "iqm")):
        ours = bootstrap.bounds(replicates[metric])
        np.testing.assert_allclose(ours, found["IRIS"][:, column], atol=0.08 * (ours[1] - ours[0]), err_msg=metric)


def test_games_of_about_the_same_change_go_together() -> None:
    first, second = most_influential(np.array([0.1, -0.5, 0.3, 0.301, -0.05]), 0.02)
    assert list(first) == [1] and list(second) == [2, 3]
    assert [list(group) for group in most_influential(np.zeros(3), 0.02)] == [[0, 1, 2]]


def test_tables_and_figure_of_the_agents(paper_runs: Path) -> None:
    context = make_context(paper_runs, repetitions=60)
    ours = [name for name in context.suites["atari100k"].scores if " (ours" in name]
    agents = ["IRIS", "REM", "Delta-IRIS", "M3", *ours]
    assert len(ours) == 1
    tasks, shares, figure = (item.make(context) for item in r07_game_choice.ITEMS)
    assert list(dict.fromkeys(tasks.numbers.method)) == agents
    assert (tasks.numbers.wider > 2).all()  # games differ far more than runs
    assert shares.numbers.Game.iloc[0] == "Boxing" and len(shares.numbers) == 26 + 2
    np.testing.assert_allclose(shares.numbers.iloc[:26, 1:].sum(), 100.0)
    assert set(figure.numbers.method) == set(agents) and len(figure.numbers) == 3 * 26 * len(agents)


def test_an_interval_without_width_is_compared_with_nothing(paper_runs: Path) -> None:
    """Runs that differ on a single game have a mean with an interval, and a median without."""
    rows = pd.read_csv(paper_runs)
    rows["score"] = rows.groupby("task").score.transform("first").where(rows.task != "atari/Krull", rows.score)
    rows.to_csv(paper_runs, index=False)
    context = make_context(paper_runs, repetitions=60)
    (label,) = [group.label for group in context.groups]
    wider = r07_game_choice.tasks_table(context).numbers.set_index(["method", "metric"]).wider.sort_index()
    assert wider[label, "mean"] > 1 and np.isnan(wider[label, "median"])
    for table in (r04_partial_pooling.pooled_table, r05_coverage.agents_table, r06_run_numbers.runs_table):
        assert "nan" not in table(context).markdown and "inf" not in table(context).markdown
