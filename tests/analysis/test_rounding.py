"""Scores of which only rounding errors make different ones: read as equal, and equal wherever they are compared."""

import csv
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.context import make_context
from analysis.data.published import ABLATIONS, ATARI, atari_suite
from analysis.data.runs import read_runs, with_runs
from analysis.data.scores import DATA, References, Suite, snapped
from analysis.stats import bootstrap, metrics, ranks
from analysis.studies import r15_data_defects
from analysis.studies.r02_games import compare_games

GAME, STORED = "PrivateEye", 99.99999999999997  # as SPR's file has it, 76 times
AVERAGED = "DreamerV3-2025"  # its scores are means of points that are computed here
EXPECTED = {("IRIS", "SPR"): 0.596, ("M3", "CURL"): 0.870}
WITH_ERRORS = {("IRIS", "SPR"): 0.610, ("M3", "CURL"): 0.884}


def rows_of(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def hundredths() -> dict[tuple[str, str], list[int]]:
    """Scores by method and game in units of 1/100, in whole numbers, by nothing of the analysis."""
    found = defaultdict(list)
    for row in rows_of("atari100k.csv"):
        if row["method"] in ("IRIS", "M3", "SPR"):
            found[row["method"], row["task"]].append(round(100 * Fraction(row["score"])))
    span = {row["task"]: (Fraction(row["random"]), Fraction(row["human"])) for row in rows_of("reference_scores.csv")}
    for row in rows_of("atari100k_hns_only.csv"):
        low, high = span[row["task"]]
        found["CURL", row["task"]].append(round(100 * (Fraction(row["hns_final"]) * (high - low) + low)))
    return found


@pytest.mark.parametrize(("pair", "expected"), EXPECTED.items())
def test_ties_count_one_half(
    pair: tuple[str, str], expected: float, hundredths: dict[tuple[str, str], list[int]], suites: dict[str, Suite]
) -> None:
    suite = suites[ATARI]
    wins = {
        game: [
            Fraction((x > y) * 2 + (x == y), 2) for x in hundredths[pair[0], game] for y in hundredths[pair[1], game]
        ]
        for game in suite.tasks
    }
    shares = [float(sum(won) / len(won)) for won in wins.values()]
    np.testing.assert_allclose(metrics.win_shares(*(suite.scores[name] for name in pair)), shares, rtol=0, atol=1e-12)
    assert round(float(np.mean(shares)), 3) == expected


def test_the_tie_of_privateeye_is_no_difference(suites: dict[str, Suite]) -> None:
    frame = compare_games(suites[ATARI], "IRIS", "SPR").set_index("game").loc[GAME]
    assert frame.probability == pytest.approx(0.555) and frame.p == pytest.approx(0.689, abs=1e-3)
    assert frame.p_holm == 1.0


@pytest.mark.parametrize("name", [ATARI, ABLATIONS])
def test_no_two_scores_of_a_game_differ_by_a_rounding_error(
    name: str, suites: dict[str, Suite], references: References
) -> None:
    suite = suites[name]
    for column, position in enumerate(references.columns(suite.tasks)):
        values = np.unique(np.concatenate([scores[:, column] for scores in suite.scores.values()]))
        gaps = np.diff(values[np.isfinite(values)]) * abs(references.human[position] - references.random[position])
        assert gaps.min() > 1e-5, suite.tasks[column]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (STORED, 100.0), (866.5999999999999, 866.6), (526.6666666666667, 1580 / 3), (-20.700000000000003, -20.7),
        (1e-15, 0.0), (435.46875, 435.46875), (173.125, 173.125), (64562.301, 64562.301), (10146.154, 10146.154),
    ],
)  # fmt: skip
def test_only_rounding_errors_are_taken_away(stored: float, expected: float) -> None:
    found = snapped(np.array([[stored, np.nan]]))
    assert found[0, 0] == expected and np.isnan(found[0, 1]) and snapped(found)[0, 0] == expected


def test_as_stored_scores_give_what_rliable_gives(suites: dict[str, Suite]) -> None:
    scores = make_context(engine="rliable", repetitions=1).suites[ATARI].scores
    for (x, y), expected in WITH_ERRORS.items():
        assert metrics.probability_of_improvement(scores[x], scores[y]) == pytest.approx(expected, abs=5e-4)
    for method, matrix in scores.items():
        np.testing.assert_allclose(suites[ATARI].scores[method], matrix, rtol=0, atol=1e-10)
    assert suites[ATARI].scores.keys() - scores.keys() == {AVERAGED}  # which has fewer runs of some games


def test_ours_and_contributed_scores_tie_too(
    tmp_path: Path, write_runs: Any, suites: dict[str, Suite], references: References
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("method,task,seed,score\n" + "".join(f"New,{GAME},{seed},{STORED}\n" for seed in range(3)))
    column = references.tasks.index(GAME)
    iris = suites[ATARI].scores["IRIS"][:, column]
    assert set(make_context(scores=[path]).suites[ATARI].partial["New"][:, column]) == set(iris)
    groups = read_runs(write_runs([(f"atari/{GAME}", 0, STORED)], scale="small"), references)
    (suite,) = (suite for name, suite in with_runs(suites, groups, references).items() if name not in suites)
    assert set(suite.scores[groups[0].label].ravel()) == set(iris)


def test_means_that_rounding_keeps_from_being_equal_tie() -> None:
    three, hundred = np.full(3, 0.1), np.full(100, 0.1)
    assert three.mean() != hundred.mean()
    assert ranks.ranks(np.array([three.mean(), hundred.mean(), 0.2])).tolist() == [2.5, 2.5, 1.0]
    shares = ranks.rank_shares(np.array([[three.mean(), hundred.mean()]]))
    np.testing.assert_array_equal(shares, [[0.5, 0.5], [0.5, 0.5]])
    almost = np.full((3, 1), 1.0 - 1e-15)
    drawn = bootstrap.aggregate_replicates(almost, np.random.default_rng(0), 3)
    assert metrics.superhuman(almost) == 1.0 and (drawn["superhuman"] == 1.0).all()
    above = np.full((2, 1), np.nextafter(metrics.PROFILE_GRID[12], 9.0))  # a score at a threshold is not above it
    assert metrics.performance_profile(above)[11:13].tolist() == [1.0, 0.0]
    assert bootstrap.profile_replicates(above, np.random.default_rng(0), 1)[0, 11:13].tolist() == [1.0, 0.0]


def test_the_defect_shows_its_effect(references: References, suites: dict[str, Suite]) -> None:
    context = make_context(repetitions=1)
    (defect,) = (entry for entry in context.known_defects if entry.effect == "rounding")
    assert set(defect.methods) == {
        method
        for method, scores in atari_suite(replace(references, as_stored=True)).scores.items()
        if method != AVERAGED and not np.array_equal(scores, suites[ATARI].scores[method])
    }
    for pairs, shown in zip((WITH_ERRORS, EXPECTED), r15_data_defects.effect_of(defect, context).values()):
        assert all(round(shown[f"P({x} > {y})"], 3) == expected for (x, y), expected in pairs.items())
