"""Craftax: published curves and last points, intervals over runs, and our runs beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.context import Context, make_context
from analysis.make_figures import main
from analysis.papers import craftax

Write = Callable[..., Path]
Run = tuple[str, int, list[tuple[int, str, float, float]]]  # scale, seed, (epoch, split, steps, return)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Published data and a run of another method."""
    path = tmp_path_factory.mktemp("runs") / "scores.csv"
    path.write_text("method,task,seed,score,scale\niris,atari/Pong,0,1.0,smoke\n")
    return make_context(path, repetitions=500)


@pytest.fixture
def make(write_runs: Write) -> Callable[[list[Run]], Context]:
    """A context with these runs of M3 on Craftax."""

    def build(runs: list[Run]) -> Context:
        rows = [("craftax/Symbolic", seed, points[-1][3]) for _, seed, points in runs]
        path = write_runs(rows, method="m3", env_steps=100.0)
        frame = pd.read_csv(path).assign(scale=[scale for scale, _, _ in runs])
        frame.to_csv(path, index=False)
        who = {"method": "m3", "variant": "", "task": "craftax/Symbolic", "hours": 1.0}
        evaluations = [
            who
            | {"scale": scale, "seed": seed, "epoch": epoch, "split": split, "env_steps": steps, "return_mean": value}
            for scale, seed, points in runs
            for epoch, split, steps, value in points
        ]
        pd.DataFrame(evaluations).to_csv(path.with_name("evaluations.csv"), index=False)
        return make_context(path, repetitions=50)

    return build


def test_last_points_of_the_command_equal_golden(tmp_path: Path, golden: dict[str, Any]) -> None:
    assert main(["--only", "M3-T-craftax", "--out", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "M3-T-craftax.csv", float_precision="round_trip").set_index("method")
    for method in ("M3", "PPO-RNN", "RND", "E3B"):
        expected, row = golden["craftax"][method], found.loc[method]
        assert row["return"] == pytest.approx(expected["final_mean"], abs=1e-9)
        assert row.percent == pytest.approx(expected["final_percent_of_226"], abs=1e-9)
        bounds = (row.return_low, row.return_high)
        assert bounds == pytest.approx(expected["final_mean_ci95"], abs=expected["final_mean_ci95_tol"])
        assert row.runs == expected["n_seeds"]
    assert "| M3 | 5 | 1,000,000 | 14.90 | 14.0" in (tmp_path / "M3-T-craftax.md").read_text()
    assert "| 6.59 | " in (tmp_path / "M3-T-craftax.md").read_text()


def test_curves_equal_golden(context: Context, golden: dict[str, Any]) -> None:
    numbers = craftax.curves_figure(context).numbers
    for method, rows in numbers.groupby("method"):
        means = rows.set_index("env_steps")["mean"]
        expected = golden["craftax"][method]
        known = {step: mean for step, mean in zip(expected["env_steps"], expected["mean_curve"]) if mean is not None}
        assert len(known) >= 20
        assert [means[step] for step in known] == pytest.approx(list(known.values()), abs=1e-9), method
        assert list(rows.percent) == pytest.approx(list(rows["mean"] / 2.26))
        assert (rows.low <= rows["mean"]).all() and (rows["mean"] <= rows.high).all()


def test_runs_on_different_steps_are_joined_by_straight_lines_where_all_of_them_are() -> None:
    first = np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 3.0])
    second = np.array([5.0, 15.0, 25.0]), np.array([2.0, 4.0, 4.0])
    runs = craftax.Runs("M3", "paper", (first, second))
    assert list(runs.grid()) == [5.0, 10.0, 15.0, 20.0]
    assert runs.on_grid().tolist() == [[0.5, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 4.0]]
    assert not runs.shares_steps and list(runs.last_points) == [3.0, 4.0]


def test_runs_that_share_their_steps_keep_their_points() -> None:
    steps = np.array([1.0, 2.0, 3.0])
    runs = craftax.Runs("M3", "paper", ((steps, np.array([1.0, 0.0, 7.0])), (steps[1:], np.array([4.0, 2.0]))))
    assert runs.shares_steps and runs.on_grid().tolist() == [[0.0, 7.0], [4.0, 2.0]]


def test_the_interval_of_two_runs_is_their_range_and_one_run_has_none() -> None:
    generator = np.random.default_rng(0)
    mean, low, high = craftax.mean_interval(np.array([[1.0, 5.0], [3.0, 5.0]]), generator, 200)
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([2.0, 5.0], [1.0, 5.0], [3.0, 5.0])
    mean, low, high = craftax.mean_interval(np.array([[1.0]]), generator, 200)
    assert mean.tolist() == [1.0] and np.isnan([*low, *high]).all()


def test_both_scales_of_the_figure_are_the_same(context: Context) -> None:
    drawing = craftax.curves_figure(context)
    drawing.figure.canvas.draw()
    (axes,) = drawing.figure.axes
    (percent,) = axes.child_axes
    assert np.array(percent.get_ylim()) == pytest.approx(np.array(axes.get_ylim()) / 2.26)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["M3, 5 runs", "PPO-RNN, 10 runs", "RND, 10 runs", "E3B, 10 runs"]
    assert "(RND)" in drawing.caption  # one run lacks one point


def test_our_runs_stand_beside_the_published_ones_of_their_scale_only(make: Callable[[list[Run]], Context]) -> None:
    runs: list[Run] = [
        ("paper", seed, [(1, "test", 5e5, 6.0 + seed), (2, "test", 1e6, 99.0), (2, "final", 1e6, 14.0 + seed)])
        for seed in (0, 1)
    ]
    drawing = craftax.curves_figure(make([*runs, ("smoke", 0, [(1, "test", 100.0, 0.1), (2, "final", 200.0, 0.3)])]))
    paper, smoke = drawing.figure.axes
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (paper, smoke)]
    assert names[0][-1] == "M3 (ours, paper), 2 runs" and names[1] == ["M3 (ours, smoke), 1 run"]
    ours = drawing.numbers[drawing.numbers.method == "M3 (ours, paper)"]
    assert list(ours["mean"]) == [6.5, 14.5]  # the final protocol replaces the test of its epoch
    assert "stand apart" in drawing.caption


def test_the_table_takes_our_scores_without_run_folders(write_runs: Write) -> None:
    path = write_runs([("craftax/Symbolic", seed, 10.0 + seed) for seed in range(3)], method="m3", scale="paper")
    table = craftax.last_points_table(make_context(path, repetitions=50))
    assert table.numbers.method.iloc[-1] == "M3 (ours, paper)" and table.numbers["return"].iloc[-1] == 11.0
    assert "| M3 (ours, paper) | 3 | – | 11.00 |" in table.markdown
    assert json.loads(table.numbers.to_json())["runs"]["4"] == 3


def test_variants_are_methods_of_their_own(write_runs: Write) -> None:
    path = write_runs([("craftax/Symbolic", 0, 10.0)], method="m3", variant="no-curiosity", scale="paper")
    table = craftax.last_points_table(make_context(path, repetitions=50))
    assert list(table.numbers.method) == ["M3", "PPO-RNN", "RND", "E3B", "M3+no-curiosity (ours, paper)"]


def test_runs_that_learned_in_the_environment_itself_are_no_method(write_runs: Write) -> None:
    path = write_runs([("craftax/Symbolic", 0, 10.0)], method="m3", variant="oracle", scale="paper", oracle_steps=1e9)
    table = craftax.last_points_table(make_context(path, repetitions=50))
    assert list(table.numbers.method) == ["M3", "PPO-RNN", "RND", "E3B"]
