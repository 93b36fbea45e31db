"""Defects of the published scores, and the aggregates with them and without."""

import dataclasses

import pytest

from analysis.context import Context, make_context
from analysis.data.defects import EFFECTS
from analysis.studies import r15_data_defects as data_defects


@pytest.fixture(scope="module")
def context() -> Context:
    return make_context(repetitions=9)


def effect(context: Context, method: str, word: str) -> data_defects.Effect:
    (defect,) = (entry for entry in context.known_defects if method in entry.methods and word in entry.note)
    return data_defects.effect_of(defect, context)


def test_every_entry_is_a_line_and_shows_its_effect(context: Context) -> None:
    table = data_defects.defects_table(context)
    lines = table.markdown.split("\n\n")[0].splitlines()[2:]
    assert [line.endswith("| – |") for line in lines] == [not defect.effect for defect in context.known_defects]


def test_every_effect_can_be_computed_and_is_of_one_entry(context: Context) -> None:
    assert sorted(defect.effect for defect in context.known_defects if defect.effect) == sorted(EFFECTS)
    reworded = dataclasses.replace(context.known_defects[0], methods=("REM",), note="Crafter.")
    assert data_defects.effect_of(reworded, context) == data_defects.effect_of(context.known_defects[0], context) != {}


def test_storm_with_the_printed_freeway_has_the_printed_aggregates(context: Context) -> None:
    effects = effect(context, "STORM", "33.5")
    assert effects["with 0"] == pytest.approx(
        {"superhuman": 9, "mean": 1.2221, "median": 0.4246, "iqm": 0.5611}, abs=1e-4
    )
    printed = {"superhuman": 10, "mean": 1.2657, "median": 0.5804, "iqm": 0.6358}
    assert effects["with 33.5"] == pytest.approx(printed, abs=1e-4)


def test_the_copied_game_is_left_out(context: Context) -> None:
    effects = effect(context, "no-action-input", "copy")
    assert effects["No latent controller with RoadRunner"]["iqm"] == pytest.approx(1.2345, abs=1e-4)
    assert effects["No latent controller without"]["iqm"] == pytest.approx(1.1728, abs=1e-4)


def test_imputed_means_shrink_the_spread(context: Context) -> None:
    published, without = effect(context, "SimPLe", "put in").values()
    spread = next(name for name in published if "deviation" in name)
    assert without[spread] > published[spread]
    # Six of 130 values are printed means: they equal the mean of the others to the digits of the table.
    suite = context.suites["atari100k"]
    for task, rows in data_defects.IMPUTED.items():
        column = suite.raw["SimPLe"][:, suite.tasks.index(task)]
        real = [value for row, value in enumerate(column) if row not in rows]
        assert len({column[row] for row in rows}) == 1
        assert column[rows[0]] == pytest.approx(sum(real) / len(real), abs=0.06)


def test_the_means_that_are_printed_for_dreamer_do_not_give_its_printed_mean(context: Context) -> None:
    assert effect(context, "DreamerV3", "first arXiv")["from the means per game that the DIAMOND paper prints"][
        "mean"
    ] == pytest.approx(1.130, abs=5e-4)
