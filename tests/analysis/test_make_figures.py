"""The command: listing, choosing, errors in one sentence, equal bytes for equal input, the cache of aggregates."""

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import make_figures
from analysis.context import make_context
from analysis.draw import article, style
from analysis.items import ITEMS, select
from analysis.make_figures import list_items, main
from analysis.stats.bootstrap import Bounds, FastEngine
from analysis.stats.metrics import Matrix
from pipeline import aggregate

FEW = ["--repetitions", "60"]


def contents(folder: Path) -> dict[str, bytes]:
    """What the items are; the article and what belongs to it are in ``test_latex.py``."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in article.FILES}


def test_equal_input_gives_equal_bytes(tmp_path: Path, small_runs: Path) -> None:
    arguments = ["--runs", str(small_runs), *FEW, "--format", "svg"]  # the others: test_style.py
    assert main([*arguments, "--out", str(tmp_path / "first")]) == 0
    assert main([*arguments, "--paper", "rem", "m3", "ours", "--out", str(tmp_path / "second")]) == 0
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert [name for name in second if first[name] != second[name]] == []
    made = {name.split(".")[0] for name in first if not name.endswith(".missing.txt")} - {"aggregates"}
    without = {name.removesuffix(".missing.txt") for name in first if name.endswith(".missing.txt")}
    context = make_context(small_runs, repetitions=60)
    assert without == {item.id for item in ITEMS if item.missing(context) is not None}
    assert made == {item.id for item in ITEMS} - without
    assert all(b"<dc:date>" not in first[name] for name in first if name.endswith(".svg"))


def test_only_makes_what_is_asked_for_whatever_its_case(tmp_path: Path) -> None:
    assert select(["iris-t1", "IRIS-T1"]) == select(["IRIS-T1"]) and select(papers=["REM"]) == select(papers=["rem"])
    assert main(["--only", "Iris-T1", "--out", str(tmp_path / "out"), *FEW]) == 0
    made = {f"IRIS-T1{suffix}" for suffix in (".md", ".tex", ".html", ".csv", ".txt")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == made | set(article.FILES)


def test_figures_from_cached_aggregates_equal_those_computed_now(
    tmp_path: Path, small_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(small_runs)]
    assert aggregate.main([*runs, *FEW, "--out", str(tmp_path / "cache")]) == 0
    cache = str(tmp_path / "cache" / "aggregates.json")
    only = ["--only", "IRIS-F-agg", "OURS-F-agg", "IRIS-F-poi"]
    assert main([*runs, *FEW, *only, "--out", str(tmp_path / "now")]) == 0
    assert main([*runs, *FEW, *only, "--aggregates", cache, "--out", str(tmp_path / "cached")]) == 0
    now, cached = contents(tmp_path / "now"), contents(tmp_path / "cached")
    assert now == cached
    others = (["--repetitions", "7"], "repetitions of aggregates 60"), ([], "repetitions of aggregates 60")
    for options, finding in others:  # captions would say what was not done
        assert main([*runs, *options, *only, "--aggregates", cache, "--out", str(tmp_path / "other")]) == 2
        assert finding in capsys.readouterr().err


def test_only_what_an_item_shows_is_resampled() -> None:
    resampled: list[object] = []

    class Counting(FastEngine):
        """Remembers what it resampled."""

        def aggregates(self, scores: Matrix, *more: Any) -> dict[str, Bounds]:
            resampled.append(scores.shape)
            return super().aggregates(scores, *more)

        def improvement(self, x: Matrix, y: Matrix, *more: Any) -> Bounds:
            resampled.append((x.shape, y.shape))
            return super().improvement(x, y, *more)

    few, many = (5, 26), (100, 26)
    before = make_context(repetitions=9)
    asked = replace(before, engine=Counting())
    for entries in before.aggregates.values():
        dict(entries)
    for name, expected in (
        ("IRIS-F-agg", [few, many, many, many, few]),
        ("IRIS-F-og", []),  # of the same methods
        ("IRIS-F-poi", [(few, few), *3 * [(few, many)]]),
        ("IRIS-T1", []),
    ):
        (item,) = select([name])
        drawn = item.make(asked).numbers
        assert sorted(map(str, resampled)) == sorted(map(str, expected)), name
        assert drawn.equals(item.make(before).numbers)  # where everything was computed before
        resampled.clear()


def test_aggregates_of_other_scores_are_refused(
    tmp_path: Path, small_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(small_runs)]
    aggregate.main([*runs, *FEW, "--out", str(tmp_path)])
    small_runs.write_text(small_runs.read_text().replace("1.5", "2.5"))
    arguments = [*runs, "--only", "OURS-F-agg", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--aggregates", str(tmp_path / "aggregates.json")]) == 2
    assert "does not belong to these scores" in capsys.readouterr().err
    (tmp_path / "aggregates.json").write_text("{")
    assert main([*arguments, "--aggregates", str(tmp_path / "aggregates.json")]) == 2
    assert main([*arguments, "--aggregates", str(tmp_path / "nowhere.json")]) == 2


def test_list_names_every_item_and_makes_nothing(
    tmp_path: Path, smoke_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list", "--runs", str(smoke_runs), "--out", str(tmp_path / "out")]) == 0
    listed = capsys.readouterr().out
    assert all(item.id in listed for item in ITEMS)
    states = {line.split()[0]: line.split()[3] for line in listed.splitlines()[1:]}
    context = make_context(smoke_runs)
    assert states == {item.id: "none" if item.missing(context) else "ready" for item in ITEMS}
    assert {"ready", "none"} == set(states.values())
    starts = {line.index(item.title) for line, item in zip(listed.splitlines()[1:], ITEMS)}
    assert starts == {listed.index("title")}  # columns as wide as their widest entry
    assert not (tmp_path / "out").exists()


def test_lists_go_on_below_their_column_in_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    items = [item for item in ITEMS if item.id.startswith(("DIRIS-F", "IRIS-T1"))]
    narrow = list_items(items, make_context(), width=80).splitlines()
    wide = list_items(items, make_context()).splitlines()
    start = wide[0].index("title")
    assert len(wide) == len(items) + 1 < len(narrow) and max(map(len, narrow)) <= 80
    assert all(line[:start].strip() == "" for line in narrow if not line.startswith(("id", "DIRIS", "IRIS")))
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(wide).split())


def listed_by(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[tuple[str, ...]]:
    assert main(["--list", *arguments]) == 0
    return [tuple(line.split()[:3]) for line in capsys.readouterr().out.splitlines()[1:]]


def test_items_are_chosen_by_paper_and_kind(capsys: pytest.CaptureFixture[str]) -> None:
    two = listed_by(["--paper", "iris", "rem"], capsys)
    assert {paper for _, paper, _ in two} == {"iris", "rem"}
    assert len(two) == len([item for item in ITEMS if item.paper in ("iris", "rem")])
    tables = listed_by(["--paper", "rem", "--kind", "table"], capsys)
    assert set(tables) <= set(two) and {kind for *_, kind in tables} == {"table"}
    assert listed_by(["--paper", "rem", "--kind", "table", "--only", "IRIS-F-og"], capsys) == [
        ("IRIS-F-og", "iris", "figure")
    ]


def test_figures_are_written_in_the_formats_asked_for(tmp_path: Path) -> None:
    for given, suffixes in (("pdf", {".pdf", ".tex"}), ("png, svg", {".png", ".svg"})):
        out = tmp_path / given
        assert main(["--only", "REM-F-time", "DIRIS-T-tok", "--format", given, "--out", str(out), *FEW]) == 0
        assert {path.suffix for path in out.glob("REM-F-time.*")} == suffixes | {".csv", ".txt"}
        assert {path.suffix for path in out.glob("DIRIS-T-tok.*")} == {".md", ".tex", ".html", ".csv", ".txt"}


def test_a_style_changes_pictures_and_no_numbers(tmp_path: Path) -> None:
    for look in style.LOOKS:
        assert main(["--only", "REM-F-time", "--style", look, "--out", str(tmp_path / look), *FEW]) == 0
    made = {look: contents(tmp_path / look) for look in style.LOOKS}
    for name in made["paper"]:
        versions = {made[look][name] for look in style.LOOKS}
        assert len(versions) == (3 if name.endswith((".svg", ".png")) else 1), name
    assert style.page() == "white"  # afterwards, figures are drawn for paper again


def test_a_bar_is_shown_to_people_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--only", "DIRIS-T-tok", "DIRIS-T-abl", "--out", str(tmp_path)]
    assert main(arguments) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.out == quiet.out and "DIRIS-T-abl:  50%" in shown.err
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not installed
    assert main(arguments) == 0
    assert capsys.readouterr() == quiet


def test_an_item_that_is_never_made_from_scores_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "DIRIS-F-rec", "--out", str(tmp_path)]) == 0
    assert "not made from scores" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["DIRIS-F-rec.missing.txt"]


def test_an_item_says_that_it_has_no_data_until_it_has(
    tmp_path: Path, smoke_runs: Path, paper_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = {name: (smoke_runs.parent / name).read_bytes() for name in ("evaluations.csv", "achievements.csv")}
    only = ["--only", "DIRIS-F-crafter", "--runs", str(paper_runs), "--out", str(tmp_path / "out")]
    for name in beside:
        (paper_runs.parent / name).unlink()
    assert main(only) == 0
    assert "no data yet: `make suite SUITE=crafter`" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["DIRIS-F-crafter.missing.txt"]
    for name, content in beside.items():
        (paper_runs.parent / name).write_bytes(content)
    assert main(only) == 0
    assert not list((tmp_path / "out").glob("*.missing.txt")) and (tmp_path / "out" / "DIRIS-F-crafter.svg").is_file()


def test_help_names_every_item(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert {item.id for item in ITEMS} <= set(capsys.readouterr().out.split())


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "IRIS-F-ag"], "did you mean"),
        (["--only", "REM-F-abl-po"], "did you mean REM-F-abl-poi"),
        (["--paper", "irsi"], "unknown paper 'irsi': did you mean"),
        (["--style", "drak"], "unknown style 'drak': did you mean dark"),
        *((["--format", given], "give one or more of svg, pdf, png.") for given in ("svg,pgn", "jpeg", ",")),
        (["--repetitions", "0"], "at least 1"),
        (["--folders", "nowhere"], "nowhere is no published run"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_make_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of([*arguments, "--out", str(tmp_path / "no")], capsys)
    (tmp_path / "file").touch()
    assert "give another folder" in error_of(["--out", str(tmp_path / "file" / "out")], capsys)
    assert not (tmp_path / "no").exists()


def test_rliable_refuses_ragged_runs_in_one_sentence(
    tmp_path: Path, write_runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_runs([("atari/Pong", 0, 1.0), ("atari/Pong", 1, 1.0), ("atari/Alien", 0, 2.0)], scale="small")
    arguments = ["--runs", str(path), "--engine", "rliable", "--out", str(tmp_path / "out")]
    assert "as few as 1 and as many as 2 runs a task" in error_of(arguments, capsys)
    assert not (tmp_path / "out").exists()


def test_an_item_that_fails_takes_nothing_from_the_others_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = {item.id: item for item in ITEMS}
    arguments = ["--out", str(tmp_path), "--only", "IRIS-T1", *FEW]
    assert main(arguments) == 0
    broken = replace(items["IRIS-T1"], make=lambda context: 1 / 0)
    odd = replace(items["REM-F-abl"], data=lambda context: {}["nothing"])
    monkeypatch.setattr(make_figures, "select", lambda *chosen: [broken, odd, items["DIRIS-T-tok"]])
    for more, status in (([], 1), (["--keep-going", "--record", str(tmp_path / "made" / "tables.json")], 0)):
        capsys.readouterr()
        assert main([*arguments, *more]) == status
        error = capsys.readouterr().err
        assert error.startswith("error: 2 of 3 items failed: IRIS-T1 (ZeroDivisionError: division by zero); REM-F-abl")
    made = {path.name for path in tmp_path.iterdir()} - {"made", "aggregates.json", *article.FILES}
    assert made == {"IRIS-T1.failed.txt", "REM-F-abl.failed.txt"} | {
        f"DIRIS-T-tok.{suffix}" for suffix in ("md", "tex", "html", "csv", "txt")
    }  # nothing of an earlier call stands in the place of what failed
    assert "Traceback" in (tmp_path / "IRIS-T1.failed.txt").read_text()
    assert "DIRIS-T-tok.md" in json.loads((tmp_path / "made" / "tables.json").read_text())["files"]
    monkeypatch.undo()
    assert main(arguments) == 0 and not (tmp_path / "IRIS-T1.failed.txt").exists()


def test_errors_of_the_data_stay_errors(tmp_path: Path, smoke_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke_runs.with_name("costs.csv").write_text("hours\n1\n")
    only = ["--only", "IRIS-T-cost", "IRIS-T1", "--runs", str(smoke_runs), "--out", str(tmp_path / "out")]
    assert "costs.csv lacks the column(s)" in error_of(only, capsys)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"\xff\xfe{", "is not valid JSON"),
        (b"[]", "does not belong to these scores"),
        (b'{"atari100k": []}', "does not belong to these scores"),
        (b'{"atari100k": {"SimPLe": {"mean": {"point": "much"}}}}', "does not belong to these scores"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_aggregates_of_another_shape_are_one_sentence(
    content: bytes, finding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "aggregates.json"
    path.write_bytes(content)
    message = error_of(["--only", "IRIS-F-agg", "--aggregates", str(path), "--out", str(tmp_path / "out")], capsys)
    assert finding in message and len(message) <= 310
    assert "cannot read the aggregates" in error_of(
        ["--only", "IRIS-F-agg", "--aggregates", str(tmp_path), "--out", str(tmp_path / "out")], capsys
    )


def test_aggregates_of_which_a_part_is_gone_are_refused(
    tmp_path: Path, smoke_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(smoke_runs)]
    assert aggregate.main([*runs, *FEW, "--out", str(tmp_path)]) == 0
    path = tmp_path / "aggregates.json"
    whole = json.loads(path.read_text())
    arguments = [*runs, "--only", "IRIS-F-agg", "IRIS-F-poi", "--aggregates", str(path), "--out", str(tmp_path / "out")]
    for change in (
        lambda part: part["atari100k"]["IRIS"].pop("iqm"),
        lambda part: part["atari100k"]["IRIS"]["iqm"].pop("low"),
        lambda part: part.pop("probability_of_improvement"),
    ):
        part = copy.deepcopy(whole)
        change(part)
        path.write_text(json.dumps(part))
        assert "is no complete file of aggregates" in error_of(arguments, capsys)


def test_places_of_others_are_refused_before_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "thesis.txt").write_text("mine")
    assert "letter is no folder" in error_of(["--out", str(tmp_path / "letter"), *FEW], capsys)
    for out, finding in ((tmp_path / "letter", "letter is no folder"), (tmp_path, "holds thesis.txt")):
        assert aggregate.main(["--out", str(out)]) == 2
        assert finding in capsys.readouterr().err
    assert (tmp_path / "plots" / "thesis.txt").read_text() == "mine" and not (tmp_path / "metrics.json").exists()


def test_files_of_others_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under an item's name, under those of the aggregates, and where a record is to be written."""
    out, only = tmp_path / "out", ["--only", "IRIS-T1", *FEW, "--record", str(tmp_path / "record.json")]
    for _ in range(2):  # its own files it replaces
        assert main([*only, "--out", str(out)]) == 0
    mine = [("article/IRIS-T1.md", only), ("article/aggregates.json", FEW), ("record.json", only)]
    for name, arguments in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"mine": 1}')
        message = error_of([*arguments, "--out", str((tmp_path / name).parent)], capsys)
        assert f"{name} exists and is not of this command" in message
        assert (tmp_path / name).read_text() == '{"mine": 1}'
        (tmp_path / name).unlink()
    for name in ("aggregates.json", "metrics.json"):
        (tmp_path / name).write_text('{"mine": 1}')
        assert aggregate.main(["--out", str(tmp_path), *FEW]) == 2
        assert f"{name} exists and is not of this command" in capsys.readouterr().err
        (tmp_path / name).unlink()
