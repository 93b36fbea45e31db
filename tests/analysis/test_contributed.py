"""Scores dropped in: nasty names and gaps through the command, refusals in one sentence, the example of the page."""

import csv
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.context import make_context
from analysis.data import contributed, naming
from analysis.data.contributed import read_contributions, register_looks, with_contributions
from analysis.data.published import ATARI, DMC
from analysis.data.scores import DATA, ROOT, References, Suite
from analysis.draw import article, style
from analysis.make_figures import main
from analysis.stats.metrics import run_counts
from tokenworlds.errors import UserError

NASTY = "my_agent, v2 / 50% <b>*x*</b> & |co|"
LONG = "A very long name of a method that goes on and on until nobody reads it any more"
LACKING = ("Pong", "Qbert")
ITEMS = ["IRIS-T1", "R1-T-atari", "REM-F-agg", "IRIS-F-og", "REM-F-pp", "REM-F-poi"]

Rows = list[dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_methods_left_over() -> Iterator[None]:
    """Names and colours of contributed methods end with the test."""
    yield
    register_looks({})


def write_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return lambda rows, name="dropped.csv": write_csv(tmp_path / name, rows)


def rows_of(method: str, share: float, runs: dict[str, int], references: References, **more: object) -> Rows:
    """Runs around that share of the way from random policy to human."""
    spread = np.random.default_rng(len(method)).normal(share, 0.2, size=(max(runs.values()), len(references.tasks)))
    raw = references.raw(spread)
    return [
        {"method": method, "task": task, "seed": run, "score": raw[run, references.tasks.index(task)], **more}
        for task, count in runs.items()
        for run in range(count)
    ]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory, references: References) -> Path:
    every = dict.fromkeys(references.tasks, 4)
    rows = rows_of(NASTY, 0.8, {**every, "Pong": 2}, references, episodes=100, source="a_b & c, 5% <i>")
    rows += rows_of(LONG, 0.5, every, references)
    rows += rows_of("OneRun", 0.6, dict.fromkeys(every, 1), references)
    rows += rows_of("Few", 0.6, {task: 3 for task in every if task not in LACKING}, references)
    rows += rows_of("IRIS", 0.6, every, references, variant="mine", color="#123456")
    for row in rows[::2]:
        row["task"] = f"atari/{row['task']}"
    return write_csv(tmp_path_factory.mktemp("scores") / "dropped.csv", rows)


@pytest.fixture(scope="module")
def output(nasty: Path) -> Path:
    out = nasty.parent / "out"
    assert main(["--scores", str(nasty), "--only", *ITEMS, "--repetitions", "40", "--out", str(out)]) == 0
    return out


class Text(HTMLParser):
    """The cells of a page, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_nasty_scores_go_through_every_kind_of_item(output: Path, nasty: Path) -> None:
    aggregates = make_context(scores=[nasty], repetitions=40).aggregates
    found = aggregates[ATARI]
    assert {NASTY, LONG, "OneRun", "IRIS (mine)"} <= set(found) and "Few" not in found
    assert found[NASTY]["mean"]["low"] < found[NASTY]["mean"]["point"] < found[NASTY]["mean"]["high"]
    assert found["OneRun"]["iqm"]["low"] is None
    improvements = aggregates["probability_of_improvement"]
    assert 0 < improvements["REM"][NASTY]["point"] < 1 and "OneRun" not in improvements
    drawn = {name: (output / f"{name}.csv").read_text() for name in ("REM-F-agg", "REM-F-pp", "REM-F-poi", "IRIS-F-og")}
    assert all(f'"{NASTY}"' in text and LONG in text and "Few" not in text for text in drawn.values())
    assert "OneRun" in drawn["REM-F-agg"] and "OneRun" not in drawn["REM-F-poi"]
    assert {path.name.split(".")[0] for path in output.iterdir() if path.name not in article.FILES} == {*ITEMS}


def test_every_artefact_says_what_is_special_about_the_runs(output: Path) -> None:
    for name in ITEMS:
        notes = (output / f"{name}.txt").read_text().splitlines()
        assert f"{NASTY}: scores from dropped.csv (a_b & c, 5% <i>); 2 runs on Pong, 4 elsewhere" in "\n".join(notes)
        assert "Few: scores from dropped.csv; no run of Pong and Qbert, so in no aggregate" in "\n".join(notes)
        assert any(note.startswith("‡ OneRun: ") and "points without intervals" in note for note in notes)
        assert any(note.startswith(f"‡ {LONG}") for note in notes)


def test_tables_show_gaps_as_gaps_and_names_as_they_are(output: Path) -> None:
    lines = (output / "IRIS-T1.md").read_text().splitlines()
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split(" | ")] for line in lines[2:33]}
    assert cells["Pong"][-1].strip(" |") == "–" and cells["Alien"][-1].strip(" |") != "–"
    assert [cells[row][-3].strip(" |") for row in ("Mean (↑)", "IQM (↑)")][1] == "N/A"  # OneRun
    assert cells["Mean (↑)"][-1].strip(" |") == "–"
    latex = (output / "IRIS-T1.tex").read_text()
    assert not re.search(r"(?<!\\)[%_#]", latex.split(r"\toprule")[1])  # its structure: test_latex.py
    page = Text()
    page.feed((output / "R1-T-atari.html").read_text())
    (short,) = contributed._short_names([NASTY])
    assert f"{short}‡" in page.cells and "IRIS (mine)‡" in page.cells
    uncertain = (output / "R1-T-atari.csv").read_text()
    assert f'"{NASTY}",contributed,Pong,' in uncertain and "Few,contributed,Pong,nan" not in uncertain


def test_colours_are_stable_and_the_files_own(nasty: Path) -> None:
    contributions = read_contributions([nasty])
    register_looks(contributions)
    first = {label: style.colour(label) for label in contributions}
    assert first["IRIS (mine)"] == "#123456" and style.colour("IRIS") == naming.COLOURS["IRIS"]
    assert len(set(first.values())) == len(first)
    register_looks(dict(reversed(contributions.items())))
    assert style.colour("IRIS (mine)") == "#123456"
    register_looks({label: contributions[label] for label in ("Few",)})
    assert set(naming.COLOURS) & set(first) == {"Few"}


def test_long_names_are_shortened_unless_they_would_meet() -> None:
    alike = [LONG, LONG.replace("goes on and on", "goes up and up")]
    assert contributed._short_names(alike) == alike
    (short,) = contributed._short_names([LONG])
    assert len(short) <= contributed.MAX_SHOWN and "…" in short and contributed._short_names(["SPR"]) == ["SPR"]


def test_lines_count_what_is_no_row(tmp_path: Path) -> None:
    """Blank lines, and lines within a cell."""
    path = tmp_path / "mine.csv"
    path.write_text(
        'method,task,seed,score,source\n\n  \nMine,Pong,0,1,"a\nb"\n,,,,\nMine,Pong,1,1,\n\nMine,Pong,x,1,\n'
    )
    with pytest.raises(UserError, match=r"line 5: score must|line 6 holds the seed ''"):
        read_contributions([path])
    path.write_text(path.read_text().replace(",,,,\n", "\n"))
    with pytest.raises(UserError, match="line 9 holds the seed 'x'"):
        read_contributions([path])


def test_dmc_scores_go_to_dmc(write: Write, suites: dict[str, Suite], references: References) -> None:
    rows = [{"method": "New", "task": f"dmc/{task}", "seed": 0, "score": 500.0} for task in suites[DMC].tasks]
    result = with_contributions(suites, read_contributions([write(rows)]), references)
    assert (result[DMC].scores["New"] == 0.5).all() and "New" not in result[ATARI].scores
    assert "New" not in suites[DMC].scores


def test_points_of_a_curve_may_be_few_steps_apart(
    write: Write, suites: dict[str, Suite], references: References
) -> None:
    row = {"method": "New", "task": "craftax/Symbolic", "seed": 0, "score": 1.0}
    contributions = read_contributions([write([row | {"env_steps": 10_000_000 + more} for more in (0, 40, 80)])])
    assert with_contributions(suites, contributions, references)
    again = [write([row | {"env_steps": 10_000_000} for _ in range(2)] + [row | {"env_steps": 10_000_040}])]
    with pytest.raises(UserError, match="at 10000000 steps appears more than once"):
        with_contributions(suites, read_contributions(again), references)


def test_partial_methods_are_complete_on_the_games_they_have(
    write: Write, suites: dict[str, Suite], references: References
) -> None:
    rows = rows_of("Few", 0.6, {"Alien": 3, "Pong": 1}, references)
    atari = with_contributions(suites, read_contributions([write(rows)]), references)[ATARI]
    assert "Few" not in atari.scores and atari.runs("Few")["Alien"] == 3 and atari.runs("Few")["Qbert"] == 0
    two = atari.restricted("two", ["Alien", "Pong"])
    np.testing.assert_array_equal(run_counts(two.scores["Few"]), [3, 1])
    assert atari.restricted("one", ["Pong"]).scores["Few"].shape == (1, 1)
    assert "Few" not in atari.restricted("other", ["Qbert"]).scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": ""}, r"New: the score of Alien, seed 1 is nan in dropped.csv line 3, expected a finite number"),
        ({"score": "inf"}, r"seed 1 is inf in dropped.csv line 3"),
        ({"score": "1e300"}, r"is 1e\+300 in dropped.csv line 3, expected a finite number"),
        ({"episodes": -5}, r"line 3: episodes must be a positive number, found -5"),
        ({"score": "good"}, r"dropped.csv line 3: score must be a number"),
        *(
            ({"seed": seed}, r"New: Alien, seed 0 appears more than once in dropped.csv, again in line 3")
            for seed in (0, " 0", "00", "0.0", "0e0")
        ),
        *(
            ({"seed": seed}, rf"dropped.csv line 3 holds the seed '{seed}' where a whole number from 0 on is expected")
            for seed in ("", "a", "0.5", "-1", "nan", "inf")
        ),
        ({"task": "dmc/walker-walk", "score": 1000.1}, r"line 3, but returns of dmc are from 0 to 1000; correct or"),
        ({"task": "dmc/walker-walk", "score": -0.1}, r"New: the score of walker-walk, seed 1 is -0.1 in dropped.csv"),
        ({"task": "Alein"}, r"unknown game 'Alein' in dropped.csv line 3; did you mean Alien"),
        ({"task": "crafter/Reward"}, r"line 3: scores of crafter are compared at a number of steps"),
        ({"task": "minigrid/Empty"}, r"line 3: scores are taken for tasks of atari, dmc, crafter and craftax, found"),
        (
            {"task": "crafter/Rewrad", "env_steps": 5},
            r"unknown game 'Rewrad' in dropped.csv line 3; did you mean Reward",
        ),
        (
            {"task": "crafter/Reward", "env_steps": 5, "score": 23},
            r"is 23 in dropped.csv line 3, but returns of crafter",
        ),
        ({"task": "dmc/walker-walk", "score": 1001}, r"is 1001 in dropped.csv line 3, but returns of dmc are from 0"),
        ({"env_steps": -1}, r"line 3: env_steps must be a positive number, found -1"),
        ({"method": "IRIS"}, r"IRIS in dropped.csv.* has the name of a published method"),
        (
            {"method": "RND", "task": "craftax/Symbolic", "env_steps": 5},
            r"RND in dropped.csv.* has the name of a published",
        ),
        ({"method": "New (ours, paper)"}, r"line 3: .* cannot be a method's name"),
        ({"method": "$x$"}, r"line 3: .* cannot be a method's name"),
        ({"method": "a\nb"}, r"cannot be a method's name"),
        ({"method": ""}, r"cannot be a method's name"),
        ({"color": "bleu"}, r"line 3: 'bleu' is no color"),
        ({"color": "#FF0000"}, r"New has 2 colors"),
    ],
)
def test_a_bad_row_is_one_sentence_that_names_it(
    change: dict[str, object], message: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"method": "New", "task": "Alien", "seed": 0, "score": 1.0, "color": "#102030"}
    path = write([row, {**row, "seed": 1, **change}])
    assert main(["--scores", str(path), "--list"]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told) and told.count("\n") == 1


def test_a_method_in_two_files_is_refused_and_a_file_named_twice_is_read_once(write: Write) -> None:
    row = {"method": "New", "task": "Alien", "seed": 0, "score": 1.0}
    first, second = write([row], "first.csv"), write([row], "second.csv")
    assert list(read_contributions([first, first])) == ["New"]
    with pytest.raises(UserError, match=r"New is in second.csv and in another file \(first.csv\)"):
        read_contributions([first, second])
    second.write_text("method,task,seed,score\n")
    with pytest.raises(UserError, match="holds no scores"):
        read_contributions([second])


def test_files_in_the_folder_are_read_without_being_named(
    write: Write, tmp_path: Path, references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(rows_of("Dropped", 0.5, dict.fromkeys(references.tasks, 2), references))
    monkeypatch.setattr("analysis.context.contributed_files", lambda: contributed.contributed_files(tmp_path))
    assert main(["--only", "REM-F-intro", "--repetitions", "20", "--out", str(tmp_path / "out")]) == 0
    assert "Dropped" in (tmp_path / "out" / "REM-F-intro.csv").read_text()


def run_documented(command: str, folder: Path) -> Path:
    """Run a command of the page in a folder with few repetitions; the folder that it writes into."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["python", "analysis/make_figures.py"]
    arguments = [sys.executable, str(ROOT / words[1]), *words[2:], "--repetitions", "200"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(arguments, cwd=folder, env=environment, check=True, capture_output=True)
    return folder / words[words.index("--out") + 1]


def write_documented(script: str, folder: Path) -> None:
    """Run a program of the page in a folder."""
    program = script.split("<<'END'\n")[1].split("END\n")[0]
    subprocess.run([sys.executable, "-"], input=program, text=True, cwd=folder, check=True)


def test_the_documented_examples_work(tmp_path: Path) -> None:
    """The commands of the page, in a copy of what they need."""
    page = (ROOT / "docs" / "scores.md").read_text()
    script, command, subject, curves, draw = re.findall(r"```\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "results" / "data").mkdir(parents=True)
    (tmp_path / "results" / "data" / "reference_scores.csv").write_bytes((DATA / "reference_scores.csv").read_bytes())
    write_documented(script, tmp_path)
    assert len((tmp_path / "halfway.csv").read_text().splitlines()) == 1 + 3 * 26
    out = run_documented(command, tmp_path)
    numbers = (out / "REM-F-agg.csv").read_text().splitlines()
    (mean,) = [float(line.split(",")[2]) for line in numbers if line.startswith("Halfway,mean,")]
    assert mean == pytest.approx(0.5, abs=0.05)
    for name in ("IRIS-T1", "REM-F-agg", "R1-T-atari"):
        assert "Halfway: scores from halfway.csv (made up)." in (out / f"{name}.txt").read_text()
    out = run_documented(subject, tmp_path)
    assert (out / "IRIS-T1.md").read_text().startswith("| Game | Random | Human | M3 | IRIS | STORM | Halfway‡ |")
    assert {line.split(",")[0] for line in (out / "M3-F-poi.csv").read_text().splitlines()[1:]} == {"Halfway"}
    assert "Seed of the bootstrap: 1." in (out / "R2-F-games.txt").read_text()
    write_documented(curves, tmp_path)
    out = run_documented(draw, tmp_path)
    noted = "‡ Horizon (setting 1): curve from curves.csv (made up; training episodes)."
    assert noted in (out / "R10-T-curves.md").read_text()
