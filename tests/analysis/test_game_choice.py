"""The choice of games: cases by hand, identities, and rliable's own bootstrap over tasks."""

from pathlib import Path

import numpy as np
import pytest

from analysis.context import make_context
from analysis.data.scores import Suite
from analysis.stats import bootstrap, metrics
from analysis.studies import game_choice
from analysis.studies.game_choice import iqm_shares, leave_one_game_out, mean_shares, most_influential


def test_leaving_out_one_of_identical_games_changes_nothing() -> None:
    # Of 4 x 8 values the IQM keeps 16, of 4 x 7 it keeps 14: of each of the four scores the same share.
    scores = np.tile(np.array([[0.2], [0.5], [0.7], [1.4]]), (1, 8))
    for name, change in leave_one_game_out(scores).items():
        np.testing.assert_allclose(change, 0.0, atol=1e-12, err_msg=name)


def test_leaving_one_game_out_by_hand() -> None:
    scores = np.array([[0.0, 1.0, 5.0]])
    change = leave_one_game_out(scores)
    np.testing.assert_allclose(change["mean"], [3 - 2, 2.5 - 2, 0.5 - 2])
    np.testing.assert_allclose(change["median"], [3 - 1, 2.5 - 1, 0.5 - 1])
    np.testing.assert_allclose(change["superhuman"], [0, -1, -1])


def test_changes_of_the_mean_are_its_shares_in_disguise(suites: dict[str, Suite]) -> None:
    """Without game m the mean is (M mean - x_m) / (M - 1), and x_m = share_m M mean."""
    scores = suites["atari100k"].scores["REM"]
    games, mean = scores.shape[1], metrics.mean(scores)
    expected = mean * (1 - games * mean_shares(scores)) / (games - 1)
    np.testing.assert_allclose(leave_one_game_out(scores)["mean"], expected, atol=1e-12)


def test_a_game_with_fewer_runs_is_left_out_like_any_other() -> None:
    scores = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, np.nan]])
    np.testing.assert_allclose(leave_one_game_out(scores)["mean"], [3.5 - 8 / 3, 3 - 8 / 3, 1.5 - 8 / 3])
    np.testing.assert_allclose(mean_shares(scores), [1 / 8, 2 / 8, 5 / 8])
    # 5 values, one dropped at each end: 0 and 5 go
    np.testing.assert_allclose(iqm_shares(scores), [2 / 6, 4 / 6, 0])


def test_shares_of_the_iqm_by_hand() -> None:
    scores = np.array([[1.0, 2.0], [3.0, 9.0]])  # keeps 2 and 3 of the four
    np.testing.assert_allclose(iqm_shares(scores), [3 / 5, 2 / 5])


@pytest.mark.parametrize("method", ["IRIS", "SPR", "M3"])
def test_shares_sum_to_one_and_follow_the_metric(suites: dict[str, Suite], method: str) -> None:
    scores = suites["atari100k"].scores[method]
    for shares in (mean_shares(scores), iqm_shares(scores)):
        assert shares.sum() == pytest.approx(1.0)
    kept = scores.size - 2 * metrics.trimmed_count(scores.size)
    values = np.sort(scores, axis=None)[(scores.size - kept) // 2 :][:kept]
    assert values.sum() == pytest.approx(metrics.interquartile_mean(scores) * kept)


def test_effective_games() -> None:
    assert game_choice.effective_games(np.full(26, 1 / 26)) == pytest.approx(26)
    assert game_choice.effective_games(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)


def test_drawing_identical_games_adds_nothing() -> None:
    """Games that are all alike: the bootstrap over games too has the usual bootstrap's deviation."""
    runs = np.random.default_rng(0).normal(size=5)
    scores = np.tile(runs[:, None], (1, 10))
    with_games = game_choice.task_replicates(scores, np.random.default_rng(1), 4000)["mean"]
    without = bootstrap.aggregate_replicates(scores, np.random.default_rng(2), 4000)["mean"]
    assert with_games.std() == pytest.approx(without.std(), rel=0.06)
    assert with_games.std() == pytest.approx(runs.std() / np.sqrt(50), rel=0.06)


def test_one_run_leaves_the_games_alone_to_vary() -> None:
    games = np.array([[0.0, 1.0, 4.0, 7.0]])
    means = game_choice.task_replicates(games, np.random.default_rng(3), 4000)["mean"]
    assert means.std() == pytest.approx(games.std() / 2, rel=0.06)


def test_task_bootstrap_agrees_with_rliable(suites: dict[str, Suite]) -> None:
    from rliable.library import get_interval_estimates

    scores = suites["atari100k"].scores["IRIS"]
    np.random.seed(0)  # noqa: NPY002 - the only seed that rliable heeds
    _, found = get_interval_estimates(
        {"IRIS": scores},
        lambda x: np.array([metrics.mean(x), metrics.interquartile_mean(x)]),
        task_bootstrap=True,
        reps=1500,
    )
    replicates = game_choice.task_replicates(scores, np.random.default_rng(0), 1500)
    for column, metric in enumerate(("mean", "iqm")):
        ours = bootstrap.bounds(replicates[metric])
        np.testing.assert_allclose(ours, found["IRIS"][:, column], atol=0.08 * (ours[1] - ours[0]), err_msg=metric)


def test_games_that_change_it_alike_go_together() -> None:
    first, second = most_influential(np.array([0.1, -0.5, 0.3, 0.301, -0.05]))
    assert list(first) == [1] and list(second) == [2, 3]
    assert [list(group) for group in most_influential(np.zeros(3))] == [[0, 1, 2]]


def test_tables_and_figure_of_the_agents(paper_runs: Path, tmp_path: Path) -> None:
    context = make_context(paper_runs, repetitions=60)
    ours = [name for name in context.suites["atari100k"].scores if " (ours" in name]
    agents = ["IRIS", "REM", "Delta-IRIS", "M3", *ours]
    assert len(ours) == 1
    tasks, shares, figure = (
        make(context) for make in (game_choice.tasks_table, game_choice.shares_table, game_choice.games_figure)
    )
    assert list(dict.fromkeys(tasks.numbers.method)) == agents
    assert (tasks.numbers.wider > 2).all()  # games differ far more than runs
    assert shares.numbers.Game.iloc[0] == "Boxing" and len(shares.numbers) == 26 + 2
    np.testing.assert_allclose(shares.numbers.iloc[:26, 1:].sum(), 100.0)
    assert set(figure.numbers.method) == set(agents) and len(figure.numbers) == 3 * 26 * len(agents)
    assert figure.write(tmp_path / "figure")
