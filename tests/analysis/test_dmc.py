"""DeepMind Control: raw returns, aggregates of return / 1000, our runs on all tasks, on some and at other scales."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.context import Context, make_context
from analysis.data import runs
from analysis.data.published import DMC, DREAMER_DMC
from analysis.data.scores import DATA, Suite
from analysis.make_figures import main
from analysis.papers import dmc
from analysis.stats import metrics

Write = Callable[..., Path]


@pytest.fixture
def make(write_runs: Write) -> Callable[..., Context]:
    """A context with runs of M3."""

    def build(rows: list[tuple[str, int, object]], **columns: object) -> Context:
        return make_context(write_runs(rows, method="m3", **columns), repetitions=50)

    return build


@pytest.fixture
def complete(suites: dict[str, Suite]) -> list[tuple[str, int, object]]:
    """The published runs of M3, each ten points worse."""
    suite = suites[DMC]
    return [
        (f"dmc/{task}", run, score - 10.0)
        for column, task in enumerate(suite.tasks)
        for run, score in enumerate(suite.raw["M3"][:, column])
    ]


def test_numbers_of_the_command_equal_golden(tmp_path: Path, golden: dict[str, Any]) -> None:
    assert main(["--only", "M3-T-dmc", "M3-F-dmc", "--out", str(tmp_path), "--repetitions", "60"]) == 0
    table = pd.read_csv(tmp_path / "M3-T-dmc.csv", float_precision="round_trip").set_index(["method", "row"])
    figure = pd.read_csv(tmp_path / "M3-F-dmc.csv", float_precision="round_trip").set_index(["method", "metric"])
    for method, expected in golden["dmc"]["methods"].items():
        assert table.value[method, dmc.MEAN] == pytest.approx(expected["raw_mean_of_task_means"], abs=1e-9)
        assert table.value[method, dmc.MEDIAN] == pytest.approx(expected["raw_median_of_task_means"], abs=1e-9)
        for metric, point in expected["point"].items():
            assert figure.point[method, metric] == pytest.approx(point, abs=1e-9)
        for task, entry in expected.get("per_task", {}).items():
            assert table.value[method, task] == pytest.approx(entry["mean"], abs=1e-9)
            assert table.standard_error[method, task] == pytest.approx(entry["std_ddof1"] / np.sqrt(5), abs=1e-9)
    improvement = golden["dmc"]["probability_of_improvement_raw_returns"]["point"]
    assert table.value[DREAMER_DMC, dmc.IMPROVEMENT] == pytest.approx(improvement, abs=1e-9)


def test_the_last_points_are_at_the_frames_that_their_name_says() -> None:
    curves = pd.read_csv(DATA / "further_curves.csv")
    last = curves[curves.source == "DV3-D"].groupby(["task", "seed"]).x.max()
    assert set(last) == {490_000.0} and "490k frames" in DREAMER_DMC and "last point" in DREAMER_DMC
    table = dmc.tasks_table(make_context(repetitions=9))
    assert f"| {DREAMER_DMC}, 5 runs |" in table.markdown and "no final evaluation" in table.caption
    assert "| acrobot-swingup | 125.2 ± 10.6 |" in table.markdown


def test_standard_errors_leave_out_runs_that_do_not_exist() -> None:
    raw = np.array([[1.0, 5.0, 2.0], [3.0, np.nan, 2.0], [5.0, np.nan, np.nan]])
    errors = metrics.standard_errors(raw)
    assert errors[[0, 2]] == pytest.approx([2.0 / np.sqrt(3), 0.0]) and np.isnan(errors[1])


def test_complete_runs_of_ours_stand_in_the_table_and_the_figure(
    make: Callable[..., Context], complete: list[tuple[str, int, object]]
) -> None:
    context = make(complete, scale="paper")
    numbers = dmc.tasks_table(context).numbers.set_index(["method", "row"])
    assert numbers.value["M3 (ours, paper)", dmc.MEAN] == pytest.approx(785.6472307281572)
    assert numbers.standard_error["M3 (ours, paper)", dmc.MEAN] == pytest.approx(numbers.standard_error["M3", dmc.MEAN])
    drawing = dmc.aggregates_figure(context)
    assert len(drawing.figure.axes) == 4
    names = [tick.get_text() for tick in drawing.figure.axes[0].get_yticklabels()]
    assert names[-2:] == ["M3", "M3 (ours, paper)"] and names[0].startswith("DreamerV3")
    points = drawing.numbers.set_index(["method", "metric"]).point
    assert points["M3", "mean"] - points["M3 (ours, paper)", "mean"] == pytest.approx(0.01)
    assert "M3 (ours, paper) 5 runs" in drawing.caption


def test_runs_on_some_tasks_are_compared_on_these(make: Callable[..., Context], suites: dict[str, Suite]) -> None:
    rows = [("dmc/walker-run", 0, 500.0), ("dmc/walker-run", 1, 700.0), ("dmc/hopper-hop", 0, 200.0)]
    context = make(rows, scale="paper")
    table = dmc.tasks_table(context)
    assert "| M3 (ours, paper), 1 to 2 runs |" in table.markdown.splitlines()[0]
    assert "| 600.0 ± 100.0 (2) |" in table.markdown and "| 200.0 (1) |" in table.markdown
    for row in (dmc.MEAN, dmc.MEDIAN, dmc.IMPROVEMENT):
        (line,) = [line for line in table.markdown.splitlines() if line.startswith(f"| {row} ")]
        assert line.endswith("| – |")
    drawing = dmc.aggregates_figure(context)
    assert len(drawing.figure.axes) == 8 and "says nothing about all tasks" in drawing.caption
    part = drawing.numbers[drawing.numbers.names == "hopper-hop walker-run"].set_index(["method", "metric"]).point
    suite = suites[DMC]
    columns = [suite.tasks.index(task) for task in ("hopper-hop", "walker-run")]
    assert part["M3", "mean"] == pytest.approx(suite.scores["M3"][:, columns].mean())
    assert part["M3 (ours, paper)", "mean"] == pytest.approx((0.6 + 0.2) / 2)


def test_runs_below_paper_scale_enter_no_aggregate(
    make: Callable[..., Context], complete: list[tuple[str, int, object]]
) -> None:
    context = make(complete, scale="small")
    assert set(dmc.aggregates_figure(context).numbers.method) == {"M3", DREAMER_DMC}
    table = dmc.tasks_table(context)
    assert "M3 (ours, small)" in table.markdown and "nothing published" in table.caption


def test_tasks_that_are_not_published_are_left_out_and_named(
    make: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_check_identities", lambda frame, path: None)  # as if the environments had it
    context = make([("dmc/walker-run", 0, 500.0), ("dmc/fish-swim", 0, 500.0)], scale="paper")
    table = dmc.tasks_table(context)
    assert "fish-swim" not in set(table.numbers["row"]) and "fish-swim" in table.caption


def test_variants_are_columns_of_their_own(make: Callable[..., Context]) -> None:
    table = dmc.tasks_table(make([("dmc/walker-run", 0, 500.0)], variant="no-curiosity", scale="paper"))
    numbers = table.numbers.set_index(["method", "row"]).value
    assert numbers["M3+no-curiosity (ours, paper)", "walker-run"] == 500.0 != numbers["M3", "walker-run"]
