"""Table 1 of the IRIS paper: printed values, N/A, and who is bold or underlined."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.artefacts import Table
from analysis.bootstrap import FastEngine
from analysis.context import Context
from analysis.options import Options
from analysis.runs import RunGroup, read_runs, with_runs
from analysis.scores import References, Suite
from analysis.tables import Cell, iris_table1


def context_of(suites: dict[str, Suite], references: References, groups: list[RunGroup]) -> Context:
    return Context(references, with_runs(suites, groups, references), groups, FastEngine(), Options().capped(50))


@pytest.fixture
def table(suites: dict[str, Suite], references: References) -> Table:
    return iris_table1(context_of(suites, references, []))


def cells(table: Table, row: str) -> list[str]:
    (line,) = [line for line in table.markdown.splitlines() if line.startswith(f"| {row} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_columns_and_rows_are_the_papers(table: Table) -> None:
    methods = ["MuZero", "EfficientZero", "SimPLe", "CURL", "DrQ(ε)", "SPR", "IRIS"]
    assert list(table.numbers.columns) == ["Game", "Random", "Human", *methods]
    assert len(table.numbers) == 26 + 5


def test_printed_values_of_the_paper_are_met(table: Table) -> None:
    assert cells(table, "Pong") == ["-20.7", "14.6", "-6.7", "<u>20.1</u>", "12.8", "-18.5", "-9.1", "-5.4", "**14.6**"]
    assert cells(table, "#Superhuman (↑)") == ["0", "N/A", "5", "<u>14</u>", "1", "2", "3", "6", "**10**"]
    assert cells(table, "Mean (↑)")[-1] == "**1.046**"


def test_one_run_methods_have_no_iqm_and_no_gap(table: Table) -> None:
    assert cells(table, "IQM (↑)")[2:4] == ["N/A", "N/A"]
    assert cells(table, "Optimality gap (↓)")[2:4] == ["N/A", "N/A"]


def test_bold_is_best_without_lookahead_and_underlined_best_of_all(table: Table) -> None:
    assert cells(table, "Asterix")[3:5] == ["<u>25557.8</u>", "**1128.3**"]
    assert cells(table, "Krull")[-1] == "<u>**6616.4**</u>"
    # The gap is better the smaller it is; random and human are never highlighted.
    assert cells(table, "Optimality gap (↓)")[-1] == "<u>**0.512**</u>"
    for line in table.markdown.splitlines()[2:33]:
        assert all("**" not in cell and "<u>" not in cell for cell in line.split("|")[2:4])


def test_latex_is_balanced_and_escaped(table: Table) -> None:
    body = [line for line in table.latex.splitlines() if not line.startswith("%")]
    assert all(line.count("{") == line.count("}") for line in body)
    rows = [line for line in body if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {9}
    assert any(line.startswith(r"\#Superhuman ($\uparrow$)") for line in rows)
    assert all(character.isascii() for line in body for character in line)


def test_cells_escape_what_each_language_reserves() -> None:
    assert Cell("a_b & 5%").latex() == r"a\_b \& 5\%"
    assert Cell("<b>").html() == "&lt;b&gt;"
    assert Cell("a|b", bold=True).markdown() == r"**a\|b**"


def test_complete_runs_of_ours_get_an_unranked_column(
    suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    table = iris_table1(context_of(suites, references, read_runs(paper_runs, references)))
    assert table.numbers.columns[-1] == "IRIS (ours, paper, 26 games x 5 seeds)"
    assert cells(table, "Krull")[-2:] == ["<u>**6616.4**</u>", "6615.4"]
    assert "not ranked" in table.caption


def test_runs_on_few_games_never_enter_the_table(
    suites: dict[str, Suite], references: References, smoke_runs: Path
) -> None:
    table = iris_table1(context_of(suites, references, read_runs(smoke_runs, references)))
    assert table.numbers.columns[-1] == "IRIS"


def test_complete_runs_below_paper_scale_never_enter_the_table(
    suites: dict[str, Suite], references: References, paper_runs: Path, write_runs: Callable[..., Path]
) -> None:
    paper_runs.write_text(paper_runs.read_text().replace(",paper", ",small"))
    table = iris_table1(context_of(suites, references, read_runs(paper_runs, references)))
    assert table.numbers.columns[-1] == "IRIS"
