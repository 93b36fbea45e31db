"""R3: differences of aggregates and the intervals of the difference itself."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from analysis.comparisons import DELTA_IRIS, IRIS, M3, REM, REM_ABLATIONS
from analysis.context import Context
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT, ATARI
from analysis.data.runs import read_runs
from analysis.data.scores import References, Suite
from analysis.draw.intervals import AGGREGATES
from analysis.options import Options
from analysis.stats import metrics
from analysis.studies import r03_differences
from analysis.studies.r03_differences import ITEMS
from tests.analysis.test_methods_shown import a_contribution
from tests.analysis.test_tables import context_of


@pytest.fixture(scope="module")
def context(suites: dict[str, Suite], references: References) -> Context:
    return context_of(suites, references, [])


def test_points_are_differences_of_the_metrics(context: Context, suites: dict[str, Suite]) -> None:
    numbers = r03_differences.differences((IRIS, REM), context).set_index(["x", "y", "metric"])
    scores = suites[ATARI].scores
    for x, y in (("IRIS", "CURL"), ("REM", "STORM")):
        for metric in AGGREGATES:
            expected = metrics.points(scores[x])[metric] - metrics.points(scores[y])[metric]
            assert numbers.difference[x, y, metric] == pytest.approx(expected, abs=1e-12)
    assert numbers.difference["REM", "IRIS", "iqm"] == pytest.approx(0.673 - 0.501, abs=1e-3)  # as the papers print


def test_differences_are_antisymmetric(context: Context) -> None:
    there, back = (r03_differences.difference(context, ATARI, *pair) for pair in (("REM", "IRIS"), ("IRIS", "REM")))
    for metric in AGGREGATES:
        for name, mirrored in (("difference", "difference"), ("low", "high"), ("high", "low")):
            assert there[metric][name] == pytest.approx(-back[metric][mirrored], abs=1e-12)
        for share in ("share_above_zero", "share_better"):
            assert there[metric][share] + back[metric][share] == pytest.approx(1.0)


def test_bounds_and_shares_are_those_of_differences_of_independent_replicates(context: Context) -> None:
    entry = r03_differences.difference(context, ATARI, "REM", "TWM")["optimality_gap"]
    drawn = [r03_differences.replicates(context, ATARI, method)["optimality_gap"] for method in ("REM", "TWM")]
    deltas = drawn[0] - drawn[1]
    assert [entry["low"], entry["high"]] == pytest.approx(np.percentile(deltas, (2.5, 97.5)))
    assert entry["share_above_zero"] == (deltas > 0).mean() and entry["share_better"] == (deltas < 0).mean()


def test_methods_are_resampled_independently_and_equal_replicates_count_one_half(
    suites: dict[str, Suite], references: References
) -> None:
    suite, constant = suites[ATARI], np.ones_like(suites[ATARI].scores["IRIS"])
    suite = suite.with_method("Twin", suite.raw["IRIS"], suite.scores["IRIS"])
    suite = suite.with_method("A", constant, constant).with_method("B", constant, constant)
    context = context_of({ATARI: suite}, references, [])
    twins = r03_differences.difference(context, ATARI, "IRIS", "Twin")["iqm"]
    assert twins["difference"] == 0.0 and twins["low"] < 0.0 < twins["high"]
    for entry in r03_differences.difference(context, ATARI, "A", "B").values():
        assert (entry["share_better"], entry["low"], entry["high"]) == (0.5, 0.0, 0.0)


def test_replicates_are_drawn_once_and_depend_on_scores_and_options(context: Context) -> None:
    first = r03_differences.replicates(context, ATARI, "IRIS")
    assert r03_differences.replicates(context, ATARI, "IRIS") is first
    reseeded = replace(context, options=replace(context.options, seed=1))
    assert not np.array_equal(r03_differences.replicates(reseeded, ATARI, "IRIS")["iqm"], first["iqm"])
    suite = context.suites[ATARI]
    moved = replace(suite, scores={**suite.scores, "IRIS": suite.scores["IRIS"] + 1.0})
    other = r03_differences.replicates(replace(context, suites={ATARI: moved}), ATARI, "IRIS")
    assert other["iqm"] == pytest.approx(first["iqm"] + 1.0)


def test_methods_of_many_runs_have_fewer_replicates_and_the_caption_says_so(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r03_differences, "MOST_REPETITIONS_OF_MANY", 30)
    assert context.options == Options().capped(50)
    table = r03_differences.differences_table((IRIS,), context)
    assert dict(table.numbers.groupby("y").repetitions.first()) == {"SimPLe": 50, "CURL": 30, "DrQ(eps)": 30, "SPR": 30}
    assert "(50 repetitions, 30 where a method has more than 20 runs)" in table.caption


def test_every_agent_meets_the_methods_of_its_paper_and_other_agents_once(context: Context) -> None:
    found = r03_differences.pairs((IRIS, REM, DELTA_IRIS), context)
    assert len(found) == len(set(found)) == 4 + 5 + 4 + 1
    assert ("REM", "TWM") in found and ("IRIS", "REM") not in found
    found = r03_differences.pairs((IRIS, REM, DELTA_IRIS, M3), context)
    every = combinations(("IRIS", "REM", "Delta-IRIS", "M3"), 2)
    assert {frozenset(pair) for pair in found} >= {frozenset(pair) for pair in every}
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert {("M3", "STORM"), ("M3", "DIAMOND")} <= {*found}
    table = r03_differences.differences_table((M3,), context)
    assert {"STORM", "Delta-IRIS"} <= {name for defect in table.defects for name in defect.methods}


def test_ablations_are_held_against_rem_with_and_without_the_copied_scores(context: Context) -> None:
    (item,) = (item for item in ITEMS if item.id == "R3-T-abl")
    table = item.make(context)
    numbers = table.numbers.set_index(["games", "y", "metric"])
    assert set(table.numbers.x) == {"REM"} and len(numbers) == 2 * 5 * len(AGGREGATES)
    for games, suite in ((8, ABLATIONS), (7, ABLATIONS_WITHOUT_DEFECT)):
        for method in REM_ABLATIONS.methods[1:]:
            x, y = (context.suites[suite].scores[name] for name in ("REM", method))
            row = numbers.loc[(games, method, "iqm")]
            assert row.difference == pytest.approx(metrics.points(x)["iqm"] - metrics.points(y)["iqm"])
            assert row.low < row.difference < row.high
    assert table.caption.endswith("Lines with 7 games are without RoadRunner.")
    lines = table.markdown.splitlines()
    assert [line.split("|")[3].strip() for line in lines[2:12]] == ["8", "8", "8", "8†", "8†", *["7"] * 5]


def test_who_has_one_run_is_named(suites: dict[str, Suite], references: References) -> None:
    suite = suites[ATARI]
    one = suite.with_method("One", suite.raw["IRIS"][:1], suite.scores["IRIS"][:1])
    context = replace(context_of({ATARI: one}, references, []), contributed={"One": a_contribution("One")})
    for make in (r03_differences.differences_table, r03_differences.differences_figure):
        assert make((IRIS,), context).caption.endswith(" Left out: One (contributed, 1 run a game).")


def test_bold_and_filled_is_what_lies_off_zero(context: Context) -> None:
    table, drawing = (make((IRIS, REM), context) for make in (r03_differences.differences_table,
                                                              r03_differences.differences_figure))  # fmt: skip
    clear = (table.numbers.low > 0) | (table.numbers.high < 0)
    assert 0 < clear.sum() < len(clear) and table.markdown.count("**") == 2 * clear.sum()
    for axes, metric in zip(drawing.figure.axes, AGGREGATES):
        lines, dots = axes.collections[:2]
        filled = [tuple(face) == tuple(edge) for face, edge in zip(dots.get_facecolors(), dots.get_edgecolors())]
        assert filled == list(clear[table.numbers.metric == metric])
        ends = table.numbers[table.numbers.metric == metric][["low", "high"]].to_numpy()
        np.testing.assert_allclose([segment[:, 0] for segment in lines.get_segments()], ends)


def test_our_complete_runs_are_compared_with_the_published_ones_and_with_what_these_meet(
    suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    context = context_of(suites, references, read_runs(paper_runs, references))
    label = "IRIS (ours, paper, 26 games x 5 seeds)"
    found = r03_differences.pairs((IRIS,), context)
    assert ("IRIS", label) in found and (label, "SPR") in found and (label, label) not in found
    assert "IRIS (ours, paper) − SimPLe" in [
        text.get_text()
        for text in r03_differences.differences_figure((IRIS,), context).figure.axes[0].get_yticklabels()
    ]
