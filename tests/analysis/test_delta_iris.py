"""Delta-IRIS's tables: the released scores with their defect, and numbers that others quote from the paper."""

import pytest

from analysis.comparisons import DELTA_IRIS
from analysis.context import Context
from analysis.data.published import ATARI
from analysis.data.scores import References, Suite
from analysis.draw.artefacts import Table
from analysis.draw.tables import per_game_table
from analysis.items import ITEMS
from analysis.papers import delta_iris as secondary
from tests.analysis.test_tables import cells, context_of


@pytest.fixture
def context(suites: dict[str, Suite], references: References) -> Context:
    return context_of(suites, references, [])


@pytest.fixture
def table(context: Context) -> Table:
    return per_game_table(DELTA_IRIS, context)


def test_atari_table_has_the_papers_columns_and_the_released_scores(table: Table) -> None:
    methods = ["SimPLe", "DreamerV3 (2023)", "STORM", "IRIS", "Delta-IRIS"]
    assert list(table.numbers.columns) == ["Game", "Random", "Human", *methods]
    printed = {"#Superhuman (↑)": "12", "Mean (↑)": "1.383", "Median (↑)": "0.594", "IQM (↑)": "0.682"}
    assert {row: cells(table, row)[-1].strip("*</u>") for row in printed} == printed


def test_atari_table_says_that_its_scores_are_not_the_papers(table: Table) -> None:
    (note,) = [defect for defect in table.defects if defect.methods == ("Delta-IRIS",)]
    assert "not those of the paper's table" in note.note and "sorted" in note.note
    head = table.markdown.splitlines()[0]
    assert "Delta-IRIS†" in head and head.count("†") == 1  # of all games, so the mark is the column's
    assert r"Delta-IRIS\textsuperscript{\textdagger}" in table.latex.source("T")


def test_quoted_table_differs_from_the_released_scores_in_all_games_but_one(context: Context) -> None:
    numbers = secondary.paper_table(context).numbers.set_index("game")
    games = numbers.loc[list(context.suites[ATARI].tasks)]
    assert games.quoted.notna().sum() == 22
    assert list(games.index[games.quoted.isna()]) == ["CrazyClimber", "Qbert", "RoadRunner", "Seaquest"]
    assert list(games.index[games.difference.abs() < 0.5]) == ["Freeway"]
    assert numbers.loc["Assault"].difference == pytest.approx(1435.4 - 1123)
    assert numbers.loc["Mean (↑)"].quoted == 1.39


def test_quoted_numbers_are_in_no_suite(suites: dict[str, Suite]) -> None:
    raw = suites[ATARI].raw["Delta-IRIS"]
    assert raw[:, suites[ATARI].tasks.index("Alien")].mean() == pytest.approx(599.2)


@pytest.mark.parametrize("name", [item.id for item in ITEMS if item.paper == "delta_iris" and item.kind == "table"])
def test_every_table_with_quoted_numbers_says_so(name: str, context: Context) -> None:
    (item,) = [item for item in ITEMS if item.id == name]
    if item.missing(context) is not None or name in ("DIRIS-T-atari", "DIRIS-T-hp"):
        return
    made = item.make(context)
    assert isinstance(made, Table) and "Secondary: quoted" in made.caption and "no raw scores" in made.caption


def test_numbers_of_the_tokenizers_and_of_frame_tokens_are_those_quoted(context: Context) -> None:
    tokenizers = secondary.tokenizer_table(context)
    for row in (
        "| Delta-IRIS | 0.000185 | 0.018 |",
        "| IRIS, 16 tokens | 0.007496 | – |",
        "| Delta-IRIS without worst pixel | 0.000178 | 0.031 |",
    ):
        assert row in tokenizers.markdown
    ablation = secondary.frame_tokens_table(context).markdown
    assert "| Delta-IRIS | 1.57 | 0.108 |" in ablation and "without frame tokens | 1.73 | 0.135 |" in ablation


def test_every_quoted_number_has_its_source() -> None:
    for table in ("crafter", "crafter_independent", "tokenizer", "frame_tokens", "atari100k"):
        rows = secondary.read_secondary(table)
        assert len(rows) and rows.value.notna().all() and rows.source.str.startswith("secondary: ").all()
        assert not rows.duplicated(["method", "quantity", "env_steps"]).any()
