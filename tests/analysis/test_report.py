"""The report: one page that needs nothing but itself, with every figure, its command and every run in it."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis import make_figures
from analysis.items import ITEMS
from pipeline import aggregate, collect, report

VOID = {"meta", "link", "img", "br"}
LOADING = ("src", "href", "poster", "data", "srcset", "action")


class Page(HTMLParser):
    """Collects what the page would load, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.loaded += [values[name] or "" for name in LOADING if name in values]
        self.ids |= {values["id"] or ""} if "id" in values else set()
        assert tag != "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def build(results: Path) -> str:
    scores, runs = str(results / "scores"), str(results / "collected" / "scores.csv")
    cache = str(results / "aggregated" / "aggregates.json")
    few = ["--repetitions", "40"]
    assert collect.main(["--scores", scores, "--runs", str(results / "runs"), "--out", runs]) == 0
    assert aggregate.main(["--runs", runs, "--out", str(results / "aggregated"), *few]) == 0
    for kind in ("table", "figure"):
        arguments = ["--kind", kind, "--runs", runs, "--aggregates", cache, "--out", str(results / f"{kind}s"), *few]
        assert make_figures.main(arguments) == 0
    assert report.main(["--results", str(results), "--out", str(results / "report")]) == 0
    return (results / "report" / "index.html").read_text()


def test_the_whole_floor_ends_in_one_page_that_loads_nothing(run_files: Path) -> None:
    text = build(run_files)
    page = Page(text)
    assert [target[:60] for target in page.loaded if not target.startswith(("data:", "#"))] == []
    assert "url(" not in text and "@import" not in text
    assert {target[1:] for target in page.loaded if target.startswith("#")} <= page.ids
    made = [item for item in ITEMS if item.make]
    assert {item.id for item in made} <= page.ids
    assert all(item.command.replace("&", "&amp;") in text for item in made)
    assert text.count("data:image/svg+xml") == sum(item.kind == "figure" for item in made)
    assert text.count("data:image/png") == 4 and text.count("data:video/mp4") == 4
    assert "width=device-width" in text
    for expected in ("atari/Breakout", "minigrid/Empty-5x5", "smoke", "cpu x2", "0123456789ab", "Data defects"):
        assert expected in text
    assert build(run_files) == text


def test_what_has_no_data_says_so_and_with_which_command(run_files: Path) -> None:
    text = build(run_files)
    absent = [part.split("</p>")[0] for part in text.split('<p class="absent">')[1:]]
    assert [part.split("(")[1].split(")")[0] for part in absent] == [item.id for item in ITEMS if not item.make]
    assert "analysis/learning.py" in absent[0] and "<code>python -m pipeline.evaluate" in absent[1]


def test_the_copied_ablation_scores_are_flagged_beside_everything_that_shows_them(run_files: Path) -> None:
    collect.main(["--scores", str(run_files / "scores"), "--out", str(run_files / "collected" / "scores.csv")])
    items = [item.id for item in ITEMS if item.id.startswith("REM-")]
    for kind in ("table", "figure"):
        make_figures.main(
            ["--only", *items, "--kind", kind, "--out", str(run_files / f"{kind}s"), "--repetitions", "9"]
        )
    text = report.render(run_files)
    parts = {part.split('"', 1)[0]: part.split("</figure>")[0] for part in text.split('<figure id="')[1:]}
    flag = "No latent controller and No action input on RoadRunner: the published scores of the two are the same"
    flagged = {name for name, part in parts.items() if flag in part and "Known defect" in part}
    assert flagged == {"REM-F-abl", "REM-F-abl-agg", "REM-F-abl-pp", "REM-F-abl-poi", "REM-T-abl"}
    listed = text.split("Data defects to know")[1]
    assert "<li><b>No latent controller and No action input on RoadRunner</b>" in listed and "<li><b>SimPLe" in listed


def test_large_media_are_named_and_left_out(run_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FILE_BYTES", 5)
    collect.main(["--scores", str(run_files / "scores"), "--out", str(run_files / "collected" / "scores.csv")])
    text = report.render(run_files)
    assert "data:video/mp4" not in text and "episode.mp4, imagination.png" in text


def test_text_of_runs_is_escaped(run_files: Path) -> None:
    out = run_files / "collected" / "scores.csv"
    collect.main(["--scores", str(run_files / "scores"), "--out", str(out)])
    out.write_text(out.read_text().replace("cpu x2", "<script>alert(1)</script>"))
    assert "<script>" not in report.render(run_files)


def test_without_collected_scores_the_error_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["--results", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "dvc repro report" in capsys.readouterr().err
