"""Tables in a Markdown page: made anew where they are marked, found stale, and clear words about broken markers."""

from pathlib import Path

import pytest

from analysis.draw.artefacts import Table
from analysis.items import select
from analysis.readme_tables import Request, main, markdown, published_context, read_request, restricted

PAGE = """# A page

<!-- table: IRIS-T1; columns: Game | IRIS | Human; rows: IQM (↑) | Pong -->
old
<!-- /table -->

Text between.

```
<!-- table: NO-SUCH -->
```

<!-- table: DIRIS-T-tok -->
<!-- /table -->
The end.
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def error_of(page: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    page.write_text(text, encoding="utf-8")
    assert main([str(page)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: page.md line ") and told.count("\n") == 1
    assert page.read_text(encoding="utf-8") == text
    return told


def test_marked_places_are_filled_and_the_rest_is_left(page: Path) -> None:
    assert main([str(page)]) == 0
    filled = page.read_text(encoding="utf-8")
    assert "old" not in filled.split() and filled.startswith("# A page\n\n<!-- table: IRIS-T1;")
    assert "\nText between.\n\n```\n<!-- table: NO-SUCH -->\n```\n" in filled and filled.endswith("-->\nThe end.\n")
    (item,) = select(["DIRIS-T-tok"])
    assert isinstance(made := item.make(published_context()), Table)
    assert f"<!-- table: DIRIS-T-tok -->\n\n{made.markdown}\n\n<!-- /table -->" in filled


def test_chosen_rows_and_columns_come_in_the_order_asked_for(page: Path) -> None:
    main([str(page)])
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")][:4]
    assert rows == [
        "| Game | IRIS | Human |",
        "| --- | ---: | ---: |",
        "| IQM (↑) | <u>**0.501**</u> | 1.000 |",
        "| Pong | **14.6** | 14.6 |",
    ]


def test_check_finds_stale_tables_and_changes_nothing(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(page), "--check"]) == 1
    assert "IRIS-T1 (line 3), DIRIS-T-tok (line 13)" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == PAGE
    assert main([str(page)]) == 0
    assert main([str(page), "--check"]) == 0
    filled = page.read_text(encoding="utf-8")
    assert main([str(page)]) == 0 and page.read_text(encoding="utf-8") == filled
    page.write_text(filled.replace("0.501", "0.502"), encoding="utf-8")
    capsys.readouterr()
    assert main([str(page), "--check"]) == 1
    assert "IRIS-T1" in (told := capsys.readouterr().err) and "DIRIS-T-tok" not in told


def test_a_page_without_tables_is_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("no tables\n")
    assert main([str(tmp_path / "page.md"), "--check"]) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<!-- table: IRIS-T2 -->\n<!-- /table -->\n", "line 1: unknown item 'IRIS-T2': did you mean IRIS-T1"),
        ("\n<!-- table: IRIS-T1 -->\nx\n", "line 2: the table IRIS-T1 has no end"),
        (
            "<!-- table: IRIS-T1 -->\n<!-- table: REM-T1 -->\n<!-- /table -->\n",
            "line 2: a table begins inside that of line 1",
        ),
        ("<!-- /table -->\n", "line 1: `<!-- /table -->` ends no table"),
        ("<!-- table: IRIS-F-agg -->\n<!-- /table -->\n", "line 1: IRIS-F-agg is a figure"),
        ("<!-- table: OURS-T -->\n<!-- /table -->\n", "line 1: OURS-T cannot stand in this page: no data yet"),
        ("<!-- table:  -->\n<!-- /table -->\n", "line 1: the marker names no table"),
        ("<!-- table: IRIS-T1; column: Game -->\n<!-- /table -->\n", "line 1: 'column: Game' is neither"),
        ("<!-- table: OURS-T; runs: docs/no.csv -->\n<!-- /table -->\n", "line 1: no such file of scores: "),
        ("<!-- table: IRIS-T1; columns: Gam -->\n<!-- /table -->\n", "no column 'Gam': did you mean Game?"),
        ("<!-- table: IRIS-T1; rows: Pongo -->\n<!-- /table -->\n", "no row 'Pongo': did you mean Pong, Boxing?"),
    ],
)
def test_broken_markers_are_one_sentence(text: str, told: str, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in error_of(page, text, capsys)


def test_an_unreadable_page_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere.md")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_marks_and_escaped_bars_are_no_part_of_a_name() -> None:
    table = "| Game | A† | B |\n| --- | ---: | ---: |\n| **x** | a\\|b | 1 |\n| y | 2 | 3 |"
    assert restricted(table, read_request("ID; columns: A; rows: x", 1)) == "| A† |\n| ---: |\n| a\\|b |"
    assert restricted(table, Request("ID", 1)) == table
    turned = "|  | **x** | y |\n| --- | ---: | ---: |\n| A† | a\\|b | 2 |\n| B | 1 | 3 |"
    assert restricted(table, read_request("ID; transposed", 1)) == turned


def test_notes_on_doubtful_numbers_stay_where_these_are_shown() -> None:
    context = published_context()
    copied = markdown(read_request("REM-T-abl; columns: Game | No action input; no caption", 1), context).split("\n\n")
    assert len(copied) == 2 and copied[1].startswith("† No latent controller and No action input on RoadRunner")
    sound = markdown(read_request("REM-T-abl; columns: Game | REM", 1), context).split("\n\n")
    assert len(sound) == 2 and sound[1].startswith("REM and its ablations, 8 games: mean score")


def test_runs_are_shown_where_the_marker_names_their_table() -> None:
    marker = read_request("OURS-T; columns: Run | Task | Seeds; runs: docs/screening/scores.csv; no caption", 1)
    shown = markdown(marker, published_context()).splitlines()
    assert shown[0] == "| Run | Task | Seeds |"
    assert "| IRIS (ours, small) | minigrid/Empty-5x5 | 3 |" in shown


def test_the_readme_and_the_docs_are_up_to_date() -> None:
    assert main(["--check"]) == 0
