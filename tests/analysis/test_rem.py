"""REM's figures: published run times, rows and panels, and the ablations with and without the doubtful game."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.comparisons import IRIS, REM, REM_ABLATIONS, Comparison
from analysis.context import Context
from analysis.data.identity import RunGroupId
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT
from analysis.data.runs import read_runs
from analysis.data.scores import References, Suite
from analysis.draw.artefacts import Drawing
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.summary import summary_figure
from analysis.papers import times
from analysis.papers.times import ABLATION_TIMES, REM_TIMES, Series, read_times, times_figure
from tests.analysis.test_tables import context_of

# Seconds of world model, imagination, both, as published.
TIMES = {
    ("IRIS", "own"): (55, 309, 364), ("IRIS", "of REM"): (45, 213, 258), ("REM", "own"): (39, 20, 59),
    ("no-pop", "own"): (25.8, 92, 117.8), ("no-latent-actor-critic", "own"): (39, 32.7, 71.7),
}  # fmt: skip


@pytest.fixture(scope="module")
def context(suites: dict[str, Suite], references: References) -> Context:
    return context_of(suites, references, [])


def test_published_times() -> None:
    times = read_times()
    assert {key: tuple(row) for key, row in times[["world_model", "imagination", "both"]].iterrows()} == TIMES
    assert dict(times.tokenizer.dropna()) == {("IRIS", "own"): 34, ("IRIS", "of REM"): 34, ("REM", "own"): 12}


@pytest.mark.parametrize(
    ("series", "labels"),
    [
        (REM_TIMES, ["1.4×", "15.4×", "6.2×", "1.2×", "10.7×", "4.4×"]),
        (ABLATION_TIMES, ["0.7×", "4.6×", "2.0×", "1.0×", "1.6×", "1.2×"]),
    ],
)
def test_bars_are_the_times_and_the_numbers_over_them_the_speed_ups(
    series: tuple[Series, ...], labels: list[str], context: Context
) -> None:
    drawing = times_figure(series, context)
    (axes,) = drawing.figure.axes
    assert [bar.get_height() for bar in axes.patches] == [value for key in series for value in TIMES[key]]
    assert [text.get_text() for text in axes.texts] == labels
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["World model", "Imagination", "Both"]
    assert drawing.defects == ()  # run times have nothing to do with the copied scores


def test_runs_of_ours_are_compared_among_themselves_even_if_no_hardware_is_stated(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [RunGroupId(method, "", "paper").label() for method in ("rem", "iris")]
    ours = pd.DataFrame(
        {"world_model": [10.0, 20.0], "imagination": [5.0, 20.0], "both": [15.0, 40.0]},
        pd.MultiIndex.from_tuples([(label, "") for label in labels], names=["method", "settings"]),
    )
    monkeypatch.setattr(times, "our_times", lambda *_: ours)
    found = (
        times_figure(REM_TIMES, context).numbers.set_index(["method", "settings", "component"]).times_REM.sort_index()
    )
    assert found["REM", "own", "both"] == 1 and found["IRIS", "own", "imagination"] == pytest.approx(309 / 20)
    assert dict(found[labels[1], ""]) == {"world_model": 2, "imagination": 4, "both": pytest.approx(8 / 3)}


def test_a_line_sets_the_token_based_methods_apart(context: Context) -> None:
    drawing = interval_figure(REM, ("mean", "median", "iqm", "optimality_gap"), context)
    assert [panel.get_title() for panel in drawing.figure.axes] == ["Mean", "Median", "IQM", "Optimality gap"]
    for panel in drawing.figure.axes:
        assert [list(line.get_ydata()) for line in panel.get_lines()] == [[3.5, 3.5]]
    names = [tick.get_text() for tick in drawing.figure.axes[0].get_yticklabels()]
    assert names == ["SimPLe", "DreamerV3 (2023)", "TWM", "STORM", "IRIS", "REM"]


def test_summary_has_one_row_per_agent_and_the_papers_ticks(context: Context) -> None:
    drawing = summary_figure(REM_ABLATIONS, context)
    left, right = drawing.figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()][-1] == "REM"
    assert list(left.get_xticks()) == [0.5, 0.7, 0.9] and left.get_xlim() == (0.35, 0.95)
    assert len(left.patches) == 5 and len(right.patches) == 6  # no bar of REM against itself
    low, high = left.get_xlim()
    shown = drawing.numbers[drawing.numbers.metric == "P(REM > method)"]
    assert shown.low.min() > low and shown.high.max() < high


@pytest.mark.parametrize("figure", [summary_figure, improvement_figure, profile_figure])
def test_ablation_figures_hold_both_results_and_name_the_defect(
    figure: Callable[[Comparison, Context], Drawing], context: Context
) -> None:
    check_both(figure(REM_ABLATIONS, context))


def test_ablation_aggregates_hold_both_results_and_name_the_defect(context: Context) -> None:
    drawing = interval_figure(REM_ABLATIONS, ("iqm",), context)
    check_both(drawing)
    points = drawing.numbers.set_index(["method", "tasks"]).point
    for suite, tasks in ((ABLATIONS, 8), (ABLATIONS_WITHOUT_DEFECT, 7)):
        assert points["REM", tasks] == context.aggregates[suite]["REM"]["iqm"]["point"]


def check_both(drawing: Drawing) -> None:
    assert set(drawing.numbers.tasks) == {7, 8}
    assert "without RoadRunner (7 games)" in drawing.caption
    (defect,) = drawing.defects
    assert defect.methods == ("no-latent-actor-critic", "no-action-input") and defect.tasks == ("RoadRunner",)


def test_main_figures_do_not_carry_the_ablations_defect(context: Context) -> None:
    (defect,) = improvement_figure(REM, context).defects
    assert defect.methods == ("STORM",) and "RoadRunner" not in str(defect)


def test_complete_runs_of_ours_stand_in_the_figures_of_their_method_only(
    suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    paper_runs.write_text(paper_runs.read_text().replace(",iris,", ",rem,"))
    context = context_of(suites, references, read_runs(paper_runs, references))
    label = "REM (ours, paper, 26 games x 5 seeds)"
    assert REM.rows(context)[-1] == label and label not in IRIS.rows(context)
    drawing = improvement_figure(REM, context)
    assert set(drawing.numbers.x) == {"REM", label}
    names = [tick.get_text() for tick in drawing.figure.axes[0].get_yticklabels()]
    assert names[0] == "REM > SimPLe" and names[5:7] == ["REM > REM (ours, paper)", "REM (ours, paper) > SimPLe"]
