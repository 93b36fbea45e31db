"""The report: one page that needs nothing but itself, with every figure, its command and every run in it."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import pytest

from analysis import make_figures
from analysis.data.families import FAMILIES
from analysis.data.scores import read_references
from analysis.items import ITEMS
from pipeline import aggregate, collect, failures, report
from pipeline.page import media, overview
from pipeline.page.embedding import Budget, data_uri, picture_size
from tests.analysis.conftest import write_scores
from tests.episodes.support import an_episode
from tokenworlds.episodes import save
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.manifest import write_manifest

Capture = pytest.CaptureFixture[str]

VOID = {"meta", "link", "img", "br", "input"}
LOADING = ("src", "href", "poster", "data", "srcset", "action")
SECTIONS = ("ours", *FAMILIES, "iris", "rem", "delta_iris", "m3", "beyond")  # in the order of the page
HEADING = re.compile("h[1-6]")


class Page(HTMLParser):
    """Collects what the page would load, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.downloads: dict[str, str] = {}
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.loaded += [values[name] for name in LOADING if name in values]
        self.links |= {values["href"]} if tag == "a" else set()
        self.ids += [values["id"]] if "id" in values else []
        if "download" in values:
            assert values["aria-label"] and values["download"] not in self.downloads
            self.downloads[values["download"]] = values["href"]
        assert tag != "img" or values["alt"]
        assert tag not in ("video", "nav") or values["aria-label"]
        if HEADING.fullmatch(tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def content(uri: str) -> bytes:
    kind, data = uri.split(",", 1)
    return base64.b64decode(data) if kind.endswith("base64") else unquote_to_bytes(data)


def collected(results: Path) -> Path:
    out = results / "collected" / "scores.csv"
    scores, runs = str(results / "scores"), str(results / "runs")
    assert collect.main(["--scores", scores, "--runs", runs, "--out", str(out)]) == 0
    return out


def make(results: Path, status: int = 0) -> str:
    """The page that the command writes."""
    assert report.main(["--results", str(results), "--out", str(results / "report")]) == status
    return (results / "report" / "index.html").read_text()


def build(results: Path) -> str:
    runs = str(collected(results))
    cache = str(results / "aggregated" / "aggregates.json")
    few = ["--repetitions", "40"]
    assert aggregate.main(["--runs", runs, "--out", str(results / "aggregated"), *few]) == 0
    for kind in ("table", "figure"):
        arguments = ["--kind", kind, "--runs", runs, "--aggregates", cache, "--out", str(results / f"{kind}s"), *few]
        assert make_figures.main(arguments) == 0
    return make(results)


@pytest.mark.integration
def test_the_whole_floor_ends_in_one_page_that_loads_nothing(run_files: Path) -> None:
    text = build(run_files)
    page = Page(text)
    beside = [target for target in page.loaded if not target.startswith(("data:", "#"))]
    assert all((run_files / "report" / unquote(target)).is_file() and target in page.links for target in beside)
    assert "../figures/IRIS-F-pp.svg" in beside and "../tables/IRIS-T1.tex" in beside
    assert "@import" not in text and set(re.findall(r"url\((?!%23)", text)) == set()  # only shapes inside a picture
    assert {target[1:] for target in page.loaded if target.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)) and {item.id for item in ITEMS} <= set(page.ids)
    made = [item for item in ITEMS if list(run_files.glob(f"*s/{item.id}.txt"))]
    assert len(made) > 20
    assert all(item.command.replace("&", "&amp;") in text for item in made)
    assert text.count("data:image/svg+xml") == sum(item.kind == "figure" for item in made) + 1  # the first again on top
    assert text.count("data:image/png") == 4 and text.count("data:video/mp4") == 5  # one of them as the film
    assert "width=device-width" in text
    for expected in ("atari/Breakout", "minigrid/Empty-5x5", "smoke", "cpu x2", "0123456789ab", "Data defects"):
        assert expected in text
    assert all(f'"#{item.id}"' in text.split("</nav>")[0] for item in ITEMS)
    assert len(text.encode()) < 4e6
    assert report.render(run_files) == text
    # what stands beside the pictures
    numbers = {name.removesuffix(".csv"): content(uri) for name, uri in page.downloads.items()}
    assert numbers.pop("runs") == (run_files / "collected" / "scores.csv").read_bytes()
    assert numbers.pop("overview").startswith(b"games,method,scale,ours,runs,")
    assert numbers == {item.id: (run_files / f"{item.kind}s" / f"{item.id}.csv").read_bytes() for item in made}


def test_headings_descend_by_one_and_the_only_script_is_the_one_that_the_policy_allows(run_files: Path) -> None:
    out = collected(run_files)
    out.write_text(out.read_text().replace("cpu x2", "<script>alert(1)</script>"))
    text = report.render(run_files)
    page = Page(text)
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:]))
    assert len(page.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    assert f"{policy}{digest}'" in text
    assert text.count("<script") == 1 and not re.search(r'\son[a-z]+="', text)


def test_what_has_no_data_says_so_and_with_which_command(run_files: Path) -> None:
    runs = str(collected(run_files))
    pictures = "IRIS-F-rec"
    make_figures.main(["--only", pictures, "--runs", runs, "--out", str(run_files / "figures")])
    text = report.render(run_files)
    absent = {name: part.split("</div>")[0] for name, part in parts(text, '<div class="absent" id="').items()}
    assert list(absent) == [item.id for paper in SECTIONS for item in ITEMS if item.paper == paper]
    assert "<code>python -m pipeline.evaluate" in absent.pop(pictures)
    assert all("not made yet: <code>dvc repro tables figures</code>." in part for part in absent.values())


def parts(text: str, opening: str) -> dict[str, str]:
    """What follows every such opening, by the id that it ends with."""
    return {part.split('"', 1)[0]: part for part in text.split(opening)[1:]}


def test_the_copied_ablation_scores_are_flagged_beside_everything_that_shows_them(run_files: Path) -> None:
    collected(run_files)
    items = [item.id for item in ITEMS if item.id.startswith("REM-") and "abl" in item.id] + ["REM-T1", "REM-F-intro"]
    for kind in ("table", "figure"):
        make_figures.main(
            ["--only", *items, "--kind", kind, "--out", str(run_files / f"{kind}s"), "--repetitions", "9"]
        )
    text = report.render(run_files)
    figures = {name: part.split("</figure>")[0] for name, part in parts(text, '<figure id="').items()}
    flag = "No latent controller and No action input on RoadRunner: the published scores of the two are the same"
    flagged = {name for name, part in figures.items() if flag in part and "Known defect" in part}
    assert flagged == {"REM-F-abl", "REM-F-abl-agg", "REM-F-abl-pp", "REM-F-abl-poi", "REM-T-abl"}
    listed = text.split("Data defects to know")[1]
    assert "<li><b>No latent controller and No action input on RoadRunner</b>" in listed and "<li><b>SimPLe" in listed


def test_the_overview_says_what_was_run_and_never_mixes_scales(run_files: Path) -> None:
    write_scores(run_files / "scores", "atari/Breakout", 1, "paper", [3.0], hardware="one big GPU", hours=2.0)
    with (collected(run_files)).open(newline="") as file:
        batches = overview.batches(list(csv.DictReader(file)))
    assert [(batch.method, batch.scale, len(batch.rows)) for batch in batches] == [
        ("IRIS", "paper", 1), ("IRIS", "small", 1), ("IRIS", "smoke", 3),
    ]  # fmt: skip
    assert (batches[0].hardware, batches[0].hours) == (["one big GPU"], 2.0)
    assert batches[2].tasks == ["atari/Breakout", "atari/Pong", "crafter/Reward"]
    assert "No run at paper scale" not in report.render(run_files)


def test_our_aggregates_stand_beside_the_published_ones_on_the_same_games(run_files: Path) -> None:
    runs = str(collected(run_files))
    assert aggregate.main(["--runs", runs, "--out", str(run_files / "aggregated"), "--repetitions", "40"]) == 0
    _, ours = report.read_scores(Path(runs), read_references())
    whole, games = overview.read_headlines(run_files / "aggregated" / "aggregates.json", ours)
    assert whole.title == "Atari 100k, all 26 games" and not whole.ours
    assert [(line.method, line.scale, line.runs) for line in whole.lines] == [
        (method, "published", "5") for method in ("IRIS", "REM", "Delta-IRIS", "M3")
    ]
    assert round(whole.lines[0].iqm, 3) == 0.501 and whole.lines[0].superhuman == 10
    assert games.title == "Atari 100k, 2 games: Breakout, Pong"
    assert [(line.method, line.scale, line.ours) for line in games.lines[:2]] == [
        ("IRIS", "smoke", True), ("IRIS", "published", False),
    ]  # fmt: skip
    assert games.span[0] <= games.lines[0].iqm and games.span[1] >= max(line.iqm for line in games.lines)
    text = report.render(run_files)
    assert "No run at paper scale is among them" in text and "Ours are shown here once" in text
    rows = list(csv.DictReader(io.StringIO(content(overview.as_csv([whole, games])).decode())))
    assert [row["iqm"] for row in rows] == [str(line.iqm) for line in (*whole.lines, *games.lines)]


def test_a_headline_without_interval_says_that_there_is_one_run(run_files: Path) -> None:
    _, ours = report.read_scores(collected(run_files), read_references())
    one = '{"point": 0.5, "low": null, "high": null, "runs": 1, "tasks": 1}'
    metrics = ", ".join(f'"{name}": {one}' for name in ("mean", "median", "iqm", "optimality_gap", "superhuman"))
    path = run_files / "aggregated" / "aggregates.json"
    path.parent.mkdir()
    path.write_text(f'{{"atari100k": {{"IRIS (ours, smoke, 2 games x 1 seed)": {{{metrics}}}}}}}')
    (headline,) = overview.read_headlines(path, ours)
    assert (headline.lines[0].method, headline.lines[0].scale, headline.lines[0].low) == ("IRIS", "smoke", None)
    assert "<b>0.500</b> (one run)" in report.render(run_files)
    path.write_text("{}")
    with pytest.raises(UserError, match="run it again"):
        overview.read_headlines(path, ours)


def line(method: str, iqm: float, scale: str = overview.PUBLISHED) -> overview.Line:
    return overview.Line(method, scale, scale != overview.PUBLISHED, "5", 9, iqm, iqm - 0.1, iqm + 0.1, 1.0, 0.5, 0.4)


def test_the_first_sentences_say_the_result_and_what_ours_can_be_compared_with() -> None:
    every = overview.Headline(
        "Atari 100k, all 26 games", (line("IRIS", 0.25, "paper"), line("IRIS", 0.5), line("M3", 1))
    )
    smoke = overview.Headline("2 games", (line("IRIS", 3.0, "smoke"), line("IRIS", 0.5)))
    assert overview.result([every]) == (
        "Over the 26 games of Atari 100k, the interquartile mean of human-normalised score is 1.00 [0.90, 1.10] for M3 "
        "and 0.50 [0.40, 0.60] for IRIS (published scores, 5 runs of each game, 95 % intervals; the human has 1)."
    )
    assert overview.result([]) == ""
    names = ("method", "variant", "task", "seed", "scale")
    rows = [dict(zip(names, row)) for row in (
        ("iris", "", "atari/Pong", "0", "smoke"), ("iris", "", "atari/Pong", "0", "paper"),
        ("rem", "no-pop", "atari/Pong", "0", "smoke"), ("delta_iris", "", "crafter/Reward", "0", "small"),
    )]  # fmt: skip
    assert overview.of_ours(rows, [every, smoke]) == [
        "Trained here at paper scale: 1 run of IRIS on 1 task; "
        "IRIS 0.25 [0.15, 0.35] against 0.50 [0.40, 0.60] published (IQM; Atari 100k, all 26 games).",
        f"Trained here at small scale: 1 run of Delta-IRIS on 1 task. {overview.SMALLER}",
        f"Trained here at smoke scale: 2 runs of IRIS and REM, no POP on 1 task. {overview.PLAIN}",
    ]
    assert overview.of_ours([], [every]) == ["Nothing has been trained here yet."]
    many = [dict(zip(names, ("iris", f"v{i}" if i else "", "atari/Pong", "0", "smoke"))) for i in range(9)]
    [said] = overview.of_ours([*many, rows[2]], [])
    assert "10 runs of IRIS and REM with 9 variants on 1 task" in said


def test_runs_of_the_suite_without_scores_are_counted_and_named(run_files: Path) -> None:
    with (collected(run_files)).open(newline="") as file:
        rows = list(csv.DictReader(file))
    done, failed = RunId("iris", "", "atari/Pong", 0, "smoke"), RunId("m3", "", "atari/Pong", 0, "smoke")
    _, iris, m3 = overview.batches(rows, [done, failed])
    assert (iris.unfinished, iris.seeds, iris.benchmarks) == ((), "1", "Atari: Breakout, Pong; Crafter: Reward")
    assert (m3.method, m3.rows, m3.unfinished) == ("M3", (), ("m3/atari/Pong/0",))
    text = report.make_report(run_files, run_files / "report", planned=[done, failed]).text
    assert "M3 lacks m3/atari/Pong/0." in text
    assert "Not trained yet, or interrupted: m3/atari/Pong/0." in text
    failures.keep(run_files, {failed.name: "`loss` is not finite", done.name: "of an earlier training"})
    text = report.make_report(run_files, run_files / "report", planned=[done, failed]).text
    assert "1 of the 2 runs of the suite have no result" in text
    assert "<b>m3/atari/Pong/0</b> failed: <code>loss</code> is not finite" in text
    assert "Not trained yet" not in text and "earlier training" not in text
    text = report.make_report(run_files, run_files / "report", planned=[done]).text
    assert "have no result" not in text


def test_without_runs_of_ours_the_page_shows_what_was_published(run_files: Path) -> None:
    aggregates = run_files / "aggregated" / "aggregates.json"
    assert (
        aggregate.main(["--runs", str(collected(run_files)), "--out", str(aggregates.parent), "--repetitions", "40"])
        == 0
    )
    kept = {name: suite for name, suite in json.loads(aggregates.read_text()).items() if "_games_" not in name}
    aggregates.write_text(json.dumps(kept))
    (run_files / "collected" / "scores.csv").unlink()
    text = report.render(run_files)
    Page(text)
    assert "Nothing has been trained here yet." in text and "for M3, " in text and 'id="runs-table"' not in text
    assert "data:image/gif;base64," in text and "data:video" not in text


def test_the_film_is_of_the_largest_scale() -> None:
    def run(scale: str, *names: str) -> media.RunMedia:
        return media.RunMedia({"scale": scale}, episodes=[media.Medium(name, "data:") for name in names])

    runs = [run("smoke", "a"), run("paper"), run("small", "b", "c"), run("of another kind", "d")]
    assert media.choose_film(runs) == (runs[2], runs[2].episodes[0])
    assert media.choose_film([run("paper")]) is None


def test_names_of_sets_of_games_read_as_a_sentence() -> None:
    assert overview.suite_title("atari100k_1_games_Pong") == "Atari 100k, 1 game: Pong"
    many = "atari100k_9_games_Alien_Amidar_to_Pong"
    assert overview.suite_title(many) == "Atari 100k, 9 games: Alien, Amidar to Pong"


def test_what_is_too_large_or_finds_the_page_full_is_named(run_files: Path) -> None:
    collected(run_files)
    text = report.render(run_files, Budget(file_bytes=5))
    beside = [f'"../runs/iris/crafter/Reward/0/media/{name}"' for name in ("episode.mp4", "imagination.png")]
    assert "data:video/mp4" not in text and all(target in text for target in beside)
    figures = run_files / "figures"
    figures.mkdir()
    for suffix, text in ((".svg", "<svg/>" * 99), (".csv", "x\n1\n"), (".txt", "A caption\n")):
        (figures / f"IRIS-F-agg{suffix}").write_text(text)
    full = report.render(run_files, Budget(left=100))
    assert "data:image/svg" not in full
    assert "too large for this page: <code>results/figures/IRIS-F-agg.svg</code>" in full
    assert content(re.findall(r'href="(data:text/csv[^"]+)"', report.render(run_files))[-1]) == b"x\n1\n"
    budget = Budget(left=60)
    first = budget.embed(figures / "IRIS-F-agg.csv")
    assert first is not None and budget.left == 60 - len(first)
    assert budget.embed(figures / "IRIS-F-agg.svg") is None and budget.left == 60 - len(first)


def test_methods_take_turns_for_the_places_of_media(run_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"method": method, "variant": "", "task": task, "seed": str(seed), "scale": "smoke"}
        for method, tasks in (("a", "xyz"), ("b", "xy")) for task in tasks for seed in (0, 1)
    ]  # fmt: skip
    first = [RunId.of_record(row).name for row in media.first_seeds(rows)]
    assert first == ["a/x/0", "b/x/0", "a/y/0", "b/y/0", "a/z/0"]
    folders = [run_files / "runs" / RunId.of_record(row).name for row in rows]
    for folder in folders:
        (folder / "media").mkdir(parents=True)
        (folder / "media" / "imagination.png").write_bytes(b"png")
    monkeypatch.setattr(media, "RUNS", 2)
    shown, others = media.read_media(rows, folders, Budget())
    assert [run.name for run in shown] == ["a/x/0", "b/x/0"] and others == ["a/y/0", "b/y/0", "a/z/0"]
    shown, _ = media.read_media(rows, [None, *folders[1:]], Budget())  # seed 0's folder is of another run
    assert [run.name for run in shown] == ["a/x/1", "b/x/0"]


# Real beside imagined


def keep(run: Path, kind: str, index: int, steps: int = 5, **facts: float) -> Path:
    """A kept episode and its film."""
    episode = an_episode(steps, kind=kind)
    path = run / "media" / "episodes" / kind / f"episode_{index:05}.npz"
    save(replace(episode, facts={**episode.facts, "index": index, "length": steps, "return": 0.0, **facts}), path)
    path.with_suffix(".mp4").write_bytes(f"film {run.parent.name} {kind} {index}".encode())
    return path


def films(text: str) -> list[bytes]:
    gallery = text.partition('<div id="beside">')[2].partition('<details class="run"')[0]
    return [content(uri) for uri in re.findall(r'src="(data:video/mp4[^"]+)"', gallery)]


def test_of_every_run_the_best_test_episode_stands_beside_what_was_imagined_from_it(run_files: Path) -> None:
    collected(run_files)
    pong, crafter = (run_files / "runs" / "iris" / task / "0" for task in ("atari/Pong", "crafter/Reward"))
    for index, total in enumerate((1.5, 12.25, -3.0)):
        keep(pong, "test", index, **{"return": total})
        keep(pong, "imagined", index, steps=1, real_frames=2, **{"return": -0.001})
    keep(crafter, "test", 7, steps=9)
    text = report.render(run_files)
    Page(text)
    assert films(text) == [b"film Pong test 1", b"film Pong imagined 1", b"film Reward test 7"]
    for caption in (
        "Real, return 12.25 in 5 steps",
        "Imagined from its first 2 frames, return 0.00 in 1 step, then the world model ended it",
        "Real, return 0.00 in 9 steps",
    ):
        assert f"<figcaption>{caption}</figcaption>" in text
    assert 'aria-label="Play both from the start: IRIS on atari/Pong, seed 0"' in text


def test_without_kept_episodes_there_is_no_gallery_and_to_delete_them_is_no_fault(run_files: Path) -> None:
    collected(run_files)
    run = run_files / "runs" / "iris" / "atari" / "Pong" / "0"
    path = keep(run, "test", 1)
    write_manifest(run)
    path.unlink()
    assert 'id="beside"' not in make(run_files)


def test_films_beside_each_other_come_before_all_else_that_runs_have_recorded(run_files: Path) -> None:
    collected(run_files)
    runs = [run_files / "runs" / "iris" / task / "0" for task in ("atari/Breakout", "minigrid/Empty-5x5")]
    for run in runs:
        keep(run, "test", 0)
    rows, _ = report.read_scores(run_files / "collected" / "scores.csv", read_references())
    folders = [run_files / "runs" / RunId.of_record(row).name for row in rows]
    shown, _ = media.read_media(rows, folders, Budget(left=120))
    assert sum(bool(clip.uri) for run in shown for clip in run.beside) == 2
    assert not any(run.pictures or run.episodes for run in shown)
    shown, _ = media.read_media(rows, folders, Budget(left=60))  # one of the two fits
    (absent,) = [clip for run in shown for clip in run.beside if not clip.uri]
    assert absent.name == "episodes/test/episode_00000.mp4"
    text = report.render(run_files, Budget(file_bytes=5))
    assert '<a href="../runs/iris/atari/Breakout/0/media/episodes/test/episode_00000.mp4">' in text and not films(text)


@pytest.mark.parametrize("broken", ["npz", "mp4"])
def test_a_kept_episode_that_cannot_be_read_is_named_and_takes_nothing_else(
    run_files: Path, capsys: Capture, broken: str
) -> None:
    collected(run_files)
    path = keep(run_files / "runs" / "iris" / "atari" / "Pong" / "0", "test", 3)
    path.unlink() if broken == "npz" else path.with_suffix(".mp4").unlink()
    if broken == "npz":
        path.write_bytes(b"not an episode")
    capsys.readouterr()
    text = make(run_files, status=1)
    assert "episodes of iris/atari/Pong/0 cannot be read" in capsys.readouterr().err
    assert films(text) == [] and text.count("data:video/mp4") == 5


def test_sizes_are_read_from_the_heads_of_pictures(tmp_path: Path) -> None:
    svg, png = tmp_path / "a.svg", tmp_path / "a.png"
    svg.write_text('<?xml version="1.0"?>\n<svg xmlns:xlink="x" width="300.5pt" height="150pt" viewBox="0 0 1 1">')
    assert picture_size(svg) == (401, 200)
    svg.write_text('<svg height="1">')
    assert picture_size(svg) is None
    png.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\0\x20")
    assert picture_size(png) == (256, 32)
    png.write_bytes(b"\x89PNG not looked into")
    assert picture_size(png) is None
    assert data_uri(b"a,b\n", ".csv") == "data:text/csv;charset=utf-8,a,b%0A"


def test_what_failed_is_shown_and_named_and_takes_nothing_else(
    run_files: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, items = str(collected(run_files)), {item.id: item for item in ITEMS}
    broken = replace(items["IRIS-T1"], make=lambda context: 1 / 0)
    monkeypatch.setattr(make_figures, "select", lambda *chosen: [broken, items["DIRIS-T-tok"]])
    arguments = ["--runs", runs, "--out", str(run_files / "tables"), "--keep-going", "--repetitions", "9"]
    assert make_figures.main(arguments) == 0
    run = run_files / "runs" / "iris" / "atari" / "Pong" / "0"
    (run / "media" / "imagination.png").unlink()
    (run / "media" / "imagination.png").mkdir()
    (run_files / "tables" / "DIRIS-T-abl.html").write_bytes(b"\xff")
    for suffix in (".csv", ".txt"):
        (run_files / "tables" / f"DIRIS-T-abl{suffix}").write_text("x\n")
    capsys.readouterr()
    text = make(run_files, status=1)
    error = capsys.readouterr().err
    assert error.startswith("error: 3 part(s) of") and "IRIS-T1: ZeroDivisionError" in error and len(error) <= 310
    Page(text)
    assert "Not everything could be made" in text and "(failed)" in text.split("</nav>")[0]
    assert "Failed: ZeroDivisionError: division by zero; where it comes from: " in text
    assert "Failed: its files cannot be read" in text.split('id="DIRIS-T-abl"')[1][:400]
    assert "imagination.png of iris/atari/Pong/0 cannot be read (Is a directory)" in text
    assert '<figure id="DIRIS-T-tok">' in text and text.count("data:video/mp4") == 5


def test_media_that_lost_their_end_are_named(run_files: Path, capsys: Capture) -> None:
    collected(run_files)
    run = run_files / "runs" / "iris" / "atari" / "Pong" / "0"
    write_manifest(run)
    (run / "media" / "episode.mp4").write_bytes(b"not")
    finding = "episode.mp4 is damaged (3 of 22 bytes)"
    assert finding in make(run_files, status=1) and finding in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (None, "no collected scores at"),
        (b"", "is not a readable CSV"),
        (b"\xff\xfem\x00", "is not a readable CSV"),
        (b"a,b\n1,2\n", "lacks the column(s) method"),
        (b"method,variant,task,seed,scale" + b",x" * 999, "lacks the column(s)"),
    ],
)
def test_collected_scores_that_are_no_table_are_one_sentence(
    content: bytes | None, finding: str, run_files: Path, capsys: Capture
) -> None:
    out = collected(run_files)
    out.unlink() if content is None else out.write_bytes(content)
    capsys.readouterr()
    assert report.main(["--results", str(run_files), "--out", str(run_files / "report")]) == 2
    error = capsys.readouterr().err
    assert finding in error and error.count("\n") == 1 and len(error) <= 310
    assert not (run_files / "report").exists()


def test_another_page_is_not_replaced(run_files: Path, capsys: Capture) -> None:
    collected(run_files)
    (run_files / "site").mkdir()
    page = run_files / "site" / "index.html"
    page.write_text("<title>my site</title>")
    assert report.main(["--results", str(run_files), "--out", str(page.parent)]) == 2
    assert "is not a report of this program; give another folder with --out" in capsys.readouterr().err
    assert page.read_text() == "<title>my site</title>"
    assert report.main(["--results", str(run_files), "--out", str(page)]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_a_run_with_deviating_settings_keeps_its_folder_and_shows_its_label(run_files: Path) -> None:
    changed = {"settings_hash": "b" * 12, "overrides": {"model.backbone": "retnet"}}
    path = write_scores(run_files / "scores", "minigrid/Empty-5x5", 0, "small", [0.9, 0.8], **changed)
    (run_files / "runs" / "iris" / "minigrid" / "Empty-5x5" / "0" / "scores.json").write_bytes(path.read_bytes())
    collected(run_files)
    text = report.render(run_files)
    assert '<td class="text">IRIS, model.backbone=retnet</td><td class="text">minigrid/Empty-5x5</td>' in text
    assert "<h3>IRIS, model.backbone=retnet on minigrid/Empty-5x5, seed 0</h3>" in text
    assert "pipeline.evaluate results/runs/iris/minigrid/Empty-5x5/0 --media" in text
