"""The papers' per-game tables: printed values, N/A, who is bold or underlined, and what is known to be wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.comparisons import IRIS, REM, REM_ABLATIONS
from analysis.context import Context
from analysis.data.runs import RunGroup, read_runs, with_runs
from analysis.data.scores import References, Suite
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, per_game_table
from analysis.options import Options
from analysis.stats.bootstrap import FastEngine


def context_of(suites: dict[str, Suite], references: References, groups: list[RunGroup]) -> Context:
    return Context(references, with_runs(suites, groups, references), groups, FastEngine(), Options().capped(50))


@pytest.fixture
def table(suites: dict[str, Suite], references: References) -> Table:
    return per_game_table(IRIS, context_of(suites, references, []))


def cells(table: Table, row: str) -> list[str]:
    (line,) = [line for line in table.markdown.splitlines() if line.startswith(f"| {row} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_columns_rows_and_printed_values_are_the_papers(table: Table) -> None:
    methods = ["MuZero", "EfficientZero", "SimPLe", "CURL", "DrQ(ε)", "SPR", "IRIS"]
    assert list(table.numbers.columns) == ["Game", "Random", "Human", *methods]
    assert len(table.numbers) == 26 + 5
    assert cells(table, "Pong") == ["-20.7", "14.6", "-6.7", "<u>20.1</u>", "12.8", "-18.5", "-9.1", "-5.4", "**14.6**"]
    assert cells(table, "#Superhuman (↑)") == ["0", "N/A", "5", "<u>14</u>", "1", "2", "3", "6", "**10**"]
    assert cells(table, "Mean (↑)")[-1] == "**1.046**"  # one run: no IQM, no gap
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
    body = [line for line in table.latex.source("T").splitlines() if not line.startswith("%")]
    assert all(line.count("{") == line.count("}") for line in body)
    assert any(line.startswith(r"\#Superhuman ($\uparrow$)") for line in body)
    assert all(character.isascii() for line in body for character in line)


def test_cells_escape_what_each_language_reserves() -> None:
    assert Cell("a_b & 5%").latex() == r"a\_b \& 5\%"
    assert Cell("<b>").html() == "&lt;b&gt;"
    assert Cell("a|b", bold=True).markdown() == r"**a\|b**"
    assert Cell("<b>*x*</b>, p < 0.05, a_b").markdown() == r"\<b>\*x\*\</b>, p < 0.05, a_b"


def test_complete_runs_of_ours_get_an_unranked_column(
    suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    table = per_game_table(IRIS, context_of(suites, references, read_runs(paper_runs, references)))
    assert table.numbers.columns[-1] == "IRIS (ours, paper, 26 games x 5 seeds)"
    assert cells(table, "Krull")[-2:] == ["<u>**6616.4**</u>", "6615.4"]
    assert "not ranked" in table.caption


def test_runs_on_few_games_or_below_paper_scale_never_enter_the_table(
    suites: dict[str, Suite], references: References, smoke_runs: Path, write_runs: Callable[..., Path]
) -> None:
    games = [(f"atari/{game}", 0, 1.0) for game in references.tasks]
    few = read_runs(smoke_runs, references)
    for groups in (few, read_runs(write_runs(games, scale="small"), references)):
        assert per_game_table(IRIS, context_of(suites, references, groups)).numbers.columns[-1] == "IRIS"


@pytest.fixture
def rem_table(suites: dict[str, Suite], references: References) -> Table:
    return per_game_table(REM, context_of(suites, references, []))


@pytest.fixture
def ablation_table(suites: dict[str, Suite], references: References) -> Table:
    return per_game_table(REM_ABLATIONS, context_of(suites, references, []))


def test_rems_table_has_the_papers_columns_and_printed_aggregates(rem_table: Table) -> None:
    methods = ["SimPLe", "DreamerV3 (2023)", "TWM", "STORM", "IRIS", "REM"]
    assert list(rem_table.numbers.columns) == ["Game", "Random", "Human", *methods]
    printed = {"#Superhuman (↑)": "12", "Mean (↑)": "1.222", "Median (↑)": "0.280", "IQM (↑)": "0.673"}
    assert {row: cells(rem_table, row)[-1].strip("*</u>") for row in printed} == printed


def test_rems_table_ranks_token_based_methods_apart(rem_table: Table) -> None:
    assert cells(rem_table, "Alien")[5:] == ["<u>983.6</u>", "420.0", "**607.2**"]
    assert cells(rem_table, "BattleZone")[5:] == ["<u>13540.0</u>", "**13074.0**", "11826.0"]
    assert cells(rem_table, "Assault")[-1] == "<u>**1764.2**</u>"
    assert cells(rem_table, "Freeway")[5] == "0.0†" and "† STORM on Freeway" in rem_table.markdown


def test_ablation_table_has_the_published_means(ablation_table: Table) -> None:
    means = ablation_table.numbers.set_index("Game")
    assert list(means.columns) == [
        "Random", "Human", "REM", "No POP", "Separate embeddings", "4×4 tokenizer", "No latent controller",
        "No action input",
    ]  # fmt: skip
    assert list(means.loc["Krull"].round(1))[2:] == [4017.7, 5138.6, 5779.9, 4612.8, 3866.2, 3659.6]
    assert cells(ablation_table, "Krull")[4] == "**5779.9**" and "<u>" not in ablation_table.markdown


def test_the_copied_scores_are_marked_in_every_language(ablation_table: Table) -> None:
    assert cells(ablation_table, "RoadRunner")[-2:] == ["11692.9†", "11692.9†"]
    assert ablation_table.markdown.count("†") == 3 and ablation_table.html.count("11692.9†") == 2
    latex = ablation_table.latex.source("T")
    assert latex.count(r"11692.9\rlap{\textsuperscript{\textdagger}}") == 2  # numbers stay aligned
    (caption,) = re.findall(r"^\\caption{(.*)}$", latex, re.MULTILINE)
    assert "one of the two columns is a copy" in caption


def test_ablation_table_repeats_the_aggregates_without_the_doubtful_game(ablation_table: Table) -> None:
    assert cells(ablation_table, "IQM (↑)")[2:] == ["**2.201**", "2.068", "1.794", "1.026", "1.234", "1.535"]
    assert cells(ablation_table, "IQM without RoadRunner (↑)")[2] == "**2.182**"
    rules = [len(re.findall(r"\\midrule", part)) for part in ablation_table.latex.source("T").split("tabular}")[1::2]]
    assert rules == [3] * len(rules) and ablation_table.html.count('class="rule"') == 2
