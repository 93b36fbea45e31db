"""What is said of numbers of runs, and that it is said wherever such runs are shown."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.comparisons import IRIS, REM
from analysis.context import Context
from analysis.data.notes import TWO_RUNS, ragged, run_notes
from analysis.data.published import ATARI
from analysis.data.scores import References, Suite
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import BAR_HEIGHT, THIN_WIDTH, interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.tables import per_game_table
from analysis.options import Options
from analysis.stats.bootstrap import FastEngine
from analysis.studies.r03_differences import differences_figure
from analysis.studies.r08_ranks import ranks_figure


def suite(counts: dict[str, int]) -> Suite:
    most = max(counts.values())
    scores = np.where(np.arange(most)[:, None] < list(counts.values()), 0.5, np.nan)
    return Suite("some", tuple(counts), {}, {}).with_method("A", scores, scores)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"Alien": 5, "Pong": 3, "Qbert": 5}, "3 runs on Pong, 5 elsewhere"),
        ({"Alien": 5, "Pong": 1, "Qbert": 3, "Hero": 5}, "1 run on Pong, 3 runs on Qbert, 5 elsewhere"),
        ({"Alien": 4, "Pong": 5}, "4 runs on Alien, 5 elsewhere"),
        ({str(number): number for number in range(1, 12)}, "1 to 11 runs a task"),
    ],
)
def test_numbers_of_runs_in_words(counts: dict[str, int], said: str) -> None:
    assert ragged(counts) == said


def test_only_what_needs_a_note_gets_one() -> None:
    full, one = suite({"Alien": 5, "Pong": 5}), suite({"Alien": 1, "Pong": 1})
    assert not list(run_notes([full], {}, ["A", "B"], full.tasks)) and not list(run_notes([one], {}, ["A"], one.tasks))
    short = suite({"Alien": 5, "Pong": 3})
    (note,) = run_notes([short], {}, ["A"], short.tasks)
    assert str(note).startswith("A: 3 runs on Pong, 5 elsewhere; IQM and ") and note.mark == "‡"
    assert not list(run_notes([short], {}, ["A"], ["Pong"]))  # alone, it is not fewer than elsewhere
    assert not list(run_notes([short], {}, ["A"], ["Qbert"]))
    two = suite({"Alien": 2, "Pong": 2})
    (note,) = run_notes([two], {}, ["A"], two.tasks)
    assert str(note) == f"A: {TWO_RUNS}."
    lacking = suite({"Alien": 5, "Pong": 0, "Qbert": 5})
    (note,) = run_notes([lacking], {}, ["A"], lacking.tasks)
    assert str(note) == "A: no run of Pong, so in no aggregate over these 3 tasks."
    (note,) = run_notes([suite({"Alien": 5, "Pong": 0, "Qbert": 0})], {}, ["A"], ["Alien", "Pong", "Qbert"])
    assert str(note) == "A: Alien only, so in no aggregate over these 3 tasks."


@pytest.fixture
def context(suites: dict[str, Suite], references: References) -> Context:
    """The published scores, two runs of IRIS on Pong taken away."""
    atari = suites[ATARI]
    scores, raw = atari.scores["IRIS"].copy(), atari.raw["IRIS"].copy()
    scores[3:, atari.tasks.index("Pong")] = raw[3:, atari.tasks.index("Pong")] = np.nan
    short = replace(atari, scores={**atari.scores, "IRIS": scores}, raw={**atari.raw, "IRIS": raw})
    return Context(references, {**suites, ATARI: short}, [], FastEngine(), Options().capped(40))


def test_ragged_runs_are_noted_below_everything_that_shows_them(context: Context) -> None:
    said = "IRIS: 3 runs on Pong, 5 elsewhere"
    for comparison in (IRIS, REM):
        table = per_game_table(comparison, context)
        drawings = [
            interval_figure(comparison, ("iqm",), context),
            profile_figure(comparison, context),
            improvement_figure(comparison, context),
        ]
        for artefact in (table, *drawings):
            assert any(str(defect).startswith(said) for defect in artefact.defects)
        for drawing in drawings:
            value = "share" if "share" in drawing.numbers else "point"
            assert drawing.numbers[[value, "low", "high"]].notna().all(axis=None)
    assert f"‡ {said}" in table.markdown and "IRIS‡" in table.html
    assert r"\textsuperscript{\textdaggerdbl} IRIS: 3 runs" in table.latex.source("T")


def test_ragged_runs_change_only_their_own_numbers(
    context: Context, suites: dict[str, Suite], references: References
) -> None:
    before = Context(references, suites, [], FastEngine(), Options().capped(40)).aggregates
    after = context.aggregates
    for method, entry in before[ATARI].items():
        assert (after[ATARI][method] == entry) == (method != "IRIS")
    iris = after[ATARI]["IRIS"]["iqm"]
    assert iris["low"] < iris["point"] < iris["high"] and iris["runs"] == 5 and iris["fewest_runs"] == 3
    assert "fewest_runs" not in before[ATARI]["IRIS"]["iqm"]


@pytest.mark.parametrize(("runs", "hollow"), [(2, True), (3, False)])
def test_intervals_of_two_runs_are_hollow_or_thin(
    runs: int, hollow: bool, suites: dict[str, Suite], references: References
) -> None:
    atari = suites[ATARI]
    few = {part: {**getattr(atari, part), "IRIS": getattr(atari, part)["IRIS"][:runs]} for part in ("scores", "raw")}
    context = Context(references, {**suites, ATARI: replace(atari, **few)}, [], FastEngine(), Options().capped(40))
    bars = interval_figure(IRIS, ("iqm",), context), improvement_figure(IRIS, context)
    lines = differences_figure((IRIS,), context), ranks_figure(context)
    for drawing in (*bars, *lines):
        assert any(TWO_RUNS in str(defect) for defect in drawing.defects) == hollow
    own, versus = (drawing.figure.axes[0].patches for drawing in bars)
    assert [bar.get_height() < BAR_HEIGHT and bar.get_facecolor()[3] == 0 for bar in own] == [*[False] * 4, hollow]
    assert {bar.get_height() < BAR_HEIGHT for bar in versus} == {hollow}  # all of them compare IRIS
    for drawing, axes, shown in zip(lines, (0, 1), ({hollow}, {False, hollow})):
        widths = drawing.figure.axes[axes].collections[0].get_linewidths()
        assert {width == THIN_WIDTH for width in widths} == shown
