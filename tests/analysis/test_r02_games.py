"""R2: every game on its own, the corrections over the games there are, and what the caption admits."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh

from analysis.comparisons import IRIS, REM, REM_ABLATIONS
from analysis.context import Context
from analysis.data.published import ATARI
from analysis.data.runs import read_runs
from analysis.data.scores import References, Suite
from analysis.stats import metrics
from analysis.stats.significance import LEVEL
from analysis.studies import r02_games
from tests.analysis.test_tables import context_of


@pytest.fixture(scope="module")
def context(suites: dict[str, Suite], references: References) -> Context:
    return context_of(suites, references, [])


def test_mean_over_games_is_the_probability_of_improvement(suites: dict[str, Suite]) -> None:
    suite = suites[ATARI]
    there, back = (r02_games.compare_games(suite, *pair) for pair in (("REM", "CURL"), ("CURL", "REM")))
    np.testing.assert_allclose(there.probability + back.probability, 1.0)
    np.testing.assert_allclose(there[["p", "p_holm", "q"]], back[["p", "p_holm", "q"]])
    assert r02_games.compare_games(suite, "REM", "SimPLe").probability.mean() == pytest.approx(0.7931, abs=5e-5)
    for method in ("CURL", "STORM"):
        expected = metrics.probability_of_improvement(suite.scores["IRIS"], suite.scores[method])
        assert r02_games.compare_games(suite, "IRIS", method).probability.mean() == pytest.approx(expected, abs=1e-12)


def test_holm_rejects_none_of_26_games_with_five_runs_a_side_and_the_table_says_why(context: Context) -> None:
    table = r02_games.games_table(REM, context)
    assert (table.numbers.p_holm > LEVEL).all() and (table.numbers.q <= LEVEL).any()
    assert "5 runs against 5: p is at least 2/252 = 0.0079, times 26 games 0.21: Holm can never reject" in table.caption
    assert "once 5 games are that clear" in table.caption and "<u>" not in table.html
    assert "| Holm | 0 / 0 | 0 / 0 | 0 / 0 | 0 / 0 | 0 / 0 |" in table.markdown


def test_a_hundred_runs_can_survive_holm_and_are_underlined(context: Context) -> None:
    table = r02_games.games_table(IRIS, context)
    (row,) = [line for line in table.markdown.splitlines() if line.startswith("| Assault ")]
    assert row.split(" | ")[1:3] == ["**1.00 (0.008)**", "<u>**1.00 (2e-08)**</u>"]
    assert "5 runs against 100: p is at least 1/96560646" in table.caption
    assert set(table.numbers.test) == {"exact"}


def test_doubtful_games_are_marked(context: Context) -> None:
    rows = r02_games.games_table(REM_ABLATIONS, context).markdown.splitlines()
    assert [row.count("†") for row in rows if row.startswith("| RoadRunner ")] == [2]
    assert sum(row.count("†") for row in rows if row.startswith("| Krull ")) == 0


def test_games_without_a_run_do_not_count_in_the_corrections(suites: dict[str, Suite]) -> None:
    suite = suites[ATARI]
    lacking = suite.raw["SPR"][:5].copy()
    lacking[:, 3:], lacking[2:, 1] = np.nan, np.nan
    normalised = np.where(np.isnan(lacking), np.nan, suite.scores["SPR"][:5])
    frame = r02_games.compare_games(suite.with_method("Partial", lacking, normalised), "REM", "Partial")
    assert list(frame.runs_y[:4]) == [5, 2, 5, 0] and frame.p.notna().sum() == 3
    assert frame.p_holm.min() == pytest.approx(3 * frame.p.min())
    assert "times 3 games" in r02_games.floors([frame]) or "over 3 games" in r02_games.floors([frame])


def test_figure_shows_the_numbers_and_marks_what_survives(context: Context) -> None:
    drawing = r02_games.games_figure((IRIS, REM), context)
    for axes, comparison in zip(drawing.figure.axes, (IRIS, REM)):
        (mesh,) = [part for part in axes.collections if isinstance(part, QuadMesh)]
        numbers = drawing.numbers[drawing.numbers.x == comparison.subject]
        shown = numbers.pivot(index="game", columns="y", values="probability")[comparison.opponents(context)]
        np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(shown.shape), shown)
        stars, dots = (part for part in axes.collections if isinstance(part, PathCollection))
        assert len(stars.get_offsets()) == (numbers.p_holm <= LEVEL).sum()
        assert len(dots.get_offsets()) == ((numbers.q <= LEVEL) & (numbers.p_holm > LEVEL)).sum()
    assert drawing.figure.axes[0].get_yticklabels()[0].get_text() == "Alien"


def test_our_complete_runs_are_opponents_and_named_as_ours(
    suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    context = context_of(suites, references, read_runs(paper_runs, references))
    assert REM.opponents(context)[-1] == "IRIS (ours, paper, 26 games x 5 seeds)"
    table = r02_games.games_table(REM, context)
    assert table.markdown.splitlines()[0].endswith("| IRIS | IRIS (ours, paper) |")
