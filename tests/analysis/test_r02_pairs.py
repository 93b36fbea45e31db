"""All pairs of methods: the matrix, its order, and the table that is its twin."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis.context import Context
from analysis.data.published import ATARI, DREAMER_JOURNAL
from analysis.data.scores import References, Suite
from analysis.draw import dark, heatmap, style
from analysis.studies import r02_pairs
from analysis.studies.r02_games import compare_games
from tests.analysis.test_tables import context_of


@pytest.fixture(scope="module")
def context(suites: dict[str, Suite], references: References) -> Context:
    return context_of(suites, references, [])


def test_both_directions_add_up_to_one_and_published_numbers_come_out(context: Context) -> None:
    table = r02_pairs.pair_numbers(context).pivot(index="x", columns="y", values="point")
    both = table.to_numpy() + table.to_numpy().T
    assert both[~np.eye(len(table), dtype=bool)] == pytest.approx(np.ones(13 * 12))
    for x, y, expected in (("REM", "SimPLe", 0.7931), ("REM", "STORM", 0.4154), ("M3", "DIAMOND", 0.5215)):
        assert table.loc[x, y] == pytest.approx(expected, abs=5e-5)


def test_rows_go_from_the_best_interquartile_mean_down(context: Context) -> None:
    names = ["M3", "Delta-IRIS", "REM", "DIAMOND", "STORM", "IRIS", "DreamerV3", DREAMER_JOURNAL, "TWM"]
    assert r02_pairs.ordered(context) == [*names, "SPR", "DrQ(eps)", "SimPLe", "CURL"]


def test_every_cell_of_the_figure_holds_its_number(context: Context) -> None:
    drawing = r02_pairs.matrix_figure(context)
    (axes,) = drawing.figure.axes
    assert len(axes.texts) == len(drawing.numbers) == 13 * 12
    assert [text.get_text() for text in axes.texts] == [f"{point:.2f}" for point in drawing.numbers.point]
    assert "MuZero and EfficientZero" in drawing.caption


def test_table_holds_one_triangle_with_intervals(context: Context) -> None:
    table = r02_pairs.matrix_table(context)
    rows = [line.strip("|").split("|") for line in table.markdown.splitlines()[2:14]]
    assert [sum(bool(cell.strip()) for cell in row[1:]) for row in rows] == list(range(12, 0, -1))
    entry = table.numbers.set_index(["x", "y"]).loc[("M3", "DIAMOND")]
    assert f"52 [{100 * entry.low:.0f}, {100 * entry.high:.0f}]" in rows[0][3]


def test_text_stands_out_from_its_cell() -> None:
    assert heatmap.contrasting(np.asarray(heatmap.even_or_not()(1.0))) == dark.DARK_TEXT
    assert heatmap.contrasting(np.array([0.05, 0.1, 0.2, 1.0])) == dark.LIGHT_TEXT
    even = np.array([1.0, 1.0, 1.0, 1.0])  # the colour of the page
    assert heatmap.contrasting(even) == dark.TURNING_TEXT and dark.counterpart(dark.TURNING_TEXT) == dark.LIGHT_TEXT
    with style.chosen("dark"):
        assert heatmap.contrasting(np.asarray(heatmap.even_or_not()(0.5))) == dark.LIGHT_TEXT


def test_every_pair_is_compared_on_every_game_once(context: Context) -> None:
    table = r02_pairs.pairs_table(context)
    methods = r02_pairs.ordered(context)
    found = table.numbers.groupby(["x", "y"], sort=False).size()
    assert list(found.index) == list(combinations(methods, 2)) and (found == 26).all()
    expected = compare_games(context.suites[ATARI], "M3", "REM")
    chosen = table.numbers[(table.numbers.x == "M3") & (table.numbers.y == "REM")].reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen, expected)
    (line,) = [line for line in table.markdown.splitlines() if line.startswith("| M3 | REM |")]
    better, worse = ((expected.p <= 0.05) & side for side in (expected.probability > 0.5, expected.probability < 0.5))
    assert f"| 0.70 | {better.sum()} / {worse.sum()} |" in line and line.endswith("| 0 / 0 |")
    assert "MuZero and EfficientZero" in table.caption
