"""The command: listing, choosing, errors in one sentence, equal bytes for equal input, the cache of aggregates."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.items import ITEMS
from analysis.make_figures import main
from pipeline import aggregate

FEW = ["--repetitions", "60"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_input_gives_equal_bytes(tmp_path: Path, smoke_runs: Path) -> None:
    arguments = ["--runs", str(smoke_runs), *FEW]
    assert main([*arguments, "--out", str(tmp_path / "first")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "second")]) == 0
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
    made = {name.split(".")[0] for name in first if not name.endswith(".missing.txt")} - {"aggregates"}
    assert made == {item.id for item in ITEMS if item.make}
    assert {name.removesuffix(".missing.txt") for name in first if name.endswith(".missing.txt")} == {
        item.id for item in ITEMS if not item.make
    }
    assert all(b"<dc:date>" not in first[name] for name in first if name.endswith(".svg"))


def test_only_makes_what_is_asked_for(tmp_path: Path) -> None:
    assert main(["--only", "IRIS-T1", "--out", str(tmp_path / "out"), *FEW]) == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".tex", ".html", ".csv", ".txt"}


def test_figures_from_cached_aggregates_equal_those_computed_now(tmp_path: Path, smoke_runs: Path) -> None:
    runs = ["--runs", str(smoke_runs)]
    assert aggregate.main([*runs, *FEW, "--out", str(tmp_path / "cache")]) == 0
    cache = str(tmp_path / "cache" / "aggregates.json")
    only = ["--only", "IRIS-F-agg", "OURS-F-agg", "IRIS-F-poi"]
    assert main([*runs, *FEW, *only, "--out", str(tmp_path / "now")]) == 0
    assert main([*runs, *FEW, *only, "--aggregates", cache, "--out", str(tmp_path / "cached")]) == 0
    now, cached = contents(tmp_path / "now"), contents(tmp_path / "cached")
    assert now.pop("aggregates.json") == (tmp_path / "cache" / "aggregates.json").read_bytes()
    assert now == cached


def test_aggregates_of_other_scores_are_refused(
    tmp_path: Path, smoke_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(smoke_runs)]
    aggregate.main([*runs, *FEW, "--out", str(tmp_path)])
    smoke_runs.write_text(smoke_runs.read_text().replace("1.5", "2.5"))
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
    never = ["REM-F-wmloss", "DIRIS-F-rec", "DIRIS-F-delta", "DIRIS-F-imag"]
    assert [name for name, state in states.items() if state != "ready"] == never
    assert not (tmp_path / "out").exists()


def test_an_item_without_published_data_says_how_ours_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "REM-F-wmloss", "--out", str(tmp_path)]) == 0
    assert "not published" in (told := capsys.readouterr().out) and "analysis/learning.py" in told
    assert [path.name for path in tmp_path.iterdir()] == ["REM-F-wmloss.missing.txt"]


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


def test_unknown_item_offers_near_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" in error_of(["--only", "IRIS-F-ag"], capsys)
    assert "did you mean REM-F-abl-poi" in error_of(["--only", "REM-F-abl-po"], capsys)


def test_unwritable_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "give another folder" in error_of(["--out", str(tmp_path / "file" / "out")], capsys)


def test_ragged_runs_are_one_sentence(
    tmp_path: Path, write_runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_runs([("atari/Pong", 0, 1.0), ("atari/Pong", 1, 1.0), ("atari/Alien", 0, 2.0)])
    assert "ragged scores" in error_of(["--runs", str(path), "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


def test_repetitions_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert "at least 1" in error_of(["--repetitions", "0"], capsys)
