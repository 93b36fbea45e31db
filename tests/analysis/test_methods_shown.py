"""Who is a population of runs, and that captions name who is not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.context import Context
from analysis.data.contributed import Contribution
from analysis.data.identity import RunGroupId
from analysis.data.published import ATARI
from analysis.data.scores import References, Suite
from analysis.draw.artefacts import Drawing, Table
from analysis.options import Options
from analysis.stats.bootstrap import FastEngine
from analysis.studies import (
    methods,
    r04_partial_pooling,
    r05_coverage,
    r06_run_numbers,
    r07_game_choice,
)

Make = Callable[[Context], Drawing | Table]
OURS = RunGroupId("iris", scale="paper").label("26 games x 3 to 5 seeds")
RAGGED = "IRIS (ours, paper) (3 to 5 runs a game)"
PRINTED = "MuZero and EfficientZero (1 run a game); DreamerV3 (2025) (1 to 5 runs a game)"


def a_contribution(label: str) -> Contribution:
    return Contribution(label, "dropped.csv", "dropped.csv", None, pd.DataFrame())


@pytest.fixture
def published(suites: dict[str, Suite], references: References) -> Context:
    return Context(references, suites, [], FastEngine(), Options().capped(40))


@pytest.fixture
def ragged(published: Context) -> Context:
    """With runs of ours, fewer on two games."""
    suite = published.suites[ATARI]
    raw, scores = suite.raw["IRIS"].copy(), suite.scores["IRIS"].copy()
    for matrix in (raw, scores):
        matrix[3:, 2] = matrix[4:, 5] = np.nan
    return replace(published, suites={ATARI: suite.with_method(OURS, raw, scores)})


@pytest.fixture
def contributed(published: Context) -> Context:
    """With contributed methods of five runs and of a hundred."""
    suite = published.suites[ATARI]
    for label, twin in (("Five", "IRIS"), ("Hundred", "CURL")):
        suite = suite.with_method(label, suite.raw[twin], suite.scores[twin] + 0.1)
    added = {label: a_contribution(label) for label in ("Five", "Hundred")}
    return replace(published, suites={ATARI: suite}, contributed=added)


def test_populations_are_full_matrices_of_several_runs(published: Context, ragged: Context) -> None:
    suite = published.suites[ATARI]
    assert {each.method for each in methods.large(published)} == {"CURL", "DrQ(eps)", "SPR"}
    assert methods.populations(suite, ["MuZero"]) == () == methods.populations(ragged.suites[ATARI], [OURS])
    (iris,) = methods.populations(suite, ["IRIS"])
    np.testing.assert_array_equal(iris.scores, suite.scores["IRIS"])
    assert len({iris, *methods.populations(suite, ["IRIS"])}) == 1


def test_labels() -> None:
    assert methods.two_line_label(OURS) == "IRIS\n(ours, paper, 26 games x 3 to 5 seeds)"
    assert methods.two_line_label("DrQ(eps)") == "DrQ(ε)"
    assert methods.brief_label(OURS) == "IRIS (ours, paper)"


@pytest.mark.parametrize(
    ("counts", "said"), [((5, 5), "5 runs a game"), ((3, 5), "3 to 5 runs a game"), ((1, 1), "1 run a game")]
)
def test_runs_a_game(counts: tuple[int, ...], said: str) -> None:
    scores = np.where(np.arange(max(counts))[:, None] < counts, 1.0, np.nan)
    assert methods.runs_a_game(scores) == said


def test_the_sentence_groups_those_alike(contributed: Context) -> None:
    assert methods.left_out(contributed, []) == ""
    found = methods.left_out(contributed, ["MuZero", "Five", "DrQ(eps)", "EfficientZero"])
    expected = " Left out: MuZero and EfficientZero (1 run a game); Five (contributed, 5 runs a game); DrQ(ε) "
    assert found == expected + "(100 runs a game)."


@pytest.mark.parametrize("make", [r05_coverage.agents_table, r07_game_choice.tasks_table])
def test_ragged_runs_of_ours_are_named_where_intervals_of_agents_are_shown(
    make: Make, published: Context, ragged: Context
) -> None:
    assert "Left out" not in make(published).caption
    artefact = make(ragged)
    assert OURS not in set(artefact.numbers.method)
    assert artefact.caption.endswith(f" Left out: {RAGGED}.")


def test_numbers_of_runs_are_of_published_methods_and_name_the_others(
    published: Context, ragged: Context, contributed: Context
) -> None:
    make = r06_run_numbers.runs_table
    assert make(published).caption.endswith(f" Left out: {PRINTED}.")
    assert make(ragged).caption.endswith(f" Left out: {PRINTED}; {RAGGED}.")
    artefact = make(contributed)
    assert not {"Five", "Hundred"} & set(artefact.numbers.method)
    named = "Five (contributed, 5 runs a game); Hundred (contributed, 100 runs a game)"
    assert artefact.caption.endswith(f" Left out: {PRINTED}; {named}.")
    assert r06_run_numbers.groups(contributed) == r06_run_numbers.groups(published)


def test_contributed_methods_are_not_taken_for_the_truth(published: Context, contributed: Context) -> None:
    assert "Left out" not in r05_coverage.coverage_table(published).caption
    artefact = r05_coverage.coverage_table(contributed)
    assert "Hundred" not in set(artefact.numbers.method)
    assert artefact.caption.endswith(" Left out: Hundred (contributed, 100 runs a game).")


def test_pooling_names_who_has_too_few_or_too_many_runs(ragged: Context) -> None:
    for item in r04_partial_pooling.ITEMS:
        artefact = item.make(ragged)
        assert OURS in set(artefact.numbers.method)  # two runs of every game suffice
        assert artefact.caption.endswith(f" Left out: DrQ(ε), SPR and CURL (100 runs a game); {PRINTED}.")
