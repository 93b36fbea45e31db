"""Stage ``report``: one offline page from collected scores, tables, figures and the media of the runs.

python -m pipeline.report [--results results] [--out results/report]
"""

import argparse
import base64
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from analysis.defects import MARK, read_defects
from analysis.items import ITEMS, MISSING, PAPERS, Item
from pipeline.console import exit_status
from tokenworlds.errors import UserError

TEMPLATE = Path(__file__).with_name("report.html")
MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".mp4": "video/mp4"}
PICTURES, EPISODES = (".png",), (".mp4",)
MEDIA_RUNS = 6  # runs whose film strips are embedded; the rest is one folder away
FILE_BYTES = 2_000_000  # larger files are named, not embedded


@dataclass(frozen=True)
class Entry:
    """One table or figure on the page."""

    item: Item
    caption: str
    defects: tuple[str, ...]  # of the scores that it shows
    body: str  # a table's HTML, or a figure's data URI; nothing where the caption says why there is none


@dataclass
class RunMedia:
    """Film strips and episodes of one run, as data URIs by file name."""

    name: str
    pictures: dict[str, str] = field(default_factory=dict)
    episodes: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def data_uri(path: Path) -> str:
    """The file itself as a URI, so that the page needs nothing beside it."""
    return f"data:{MIME_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def read_runs(path: Path) -> list[dict[str, str]]:
    """Rows of the collected scores."""
    if not path.is_file():
        raise UserError(f"no collected scores at {path}: run `dvc repro report`, or `python -m pipeline.collect`.")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_entries(results: Path) -> list[Entry]:
    """Every item of the analysis that was made, and those for which there are no data."""
    entries = []
    for item in ITEMS:
        is_table = item.kind == "table"
        folder = results / ("tables" if is_table else "figures")
        path, missing = folder / f"{item.id}{'.html' if is_table else '.svg'}", folder / f"{item.id}{MISSING}"
        if missing.is_file():
            entries.append(Entry(item, missing.read_text(encoding="utf-8").strip(), (), ""))
        elif path.is_file():
            body = path.read_text(encoding="utf-8") if is_table else data_uri(path)
            caption, *defects = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
            entries.append(Entry(item, caption, tuple(defects), body))
    return entries


def read_media(rows: Sequence[Mapping[str, str]], runs: Path) -> list[RunMedia]:
    """Media of the first seed of each method and task, of the first few of them."""
    first_seeds: dict[tuple[str, str], str] = {}
    for row in rows:
        method = row["method"] + (f"+{row['variant']}" if row["variant"] else "")
        first_seeds.setdefault((method, row["task"]), row["seed"])
    media: list[RunMedia] = []
    for (method, task), seed in first_seeds.items():
        if len(media) == MEDIA_RUNS:
            break
        entry = RunMedia(f"{method}/{task}/{seed}")
        folder = runs / entry.name / "media"
        for path in sorted(folder.glob("*")):
            if path.suffix not in PICTURES + EPISODES:
                continue
            if path.stat().st_size > FILE_BYTES:
                entry.left_out.append(path.name)
            else:
                (entry.pictures if path.suffix in PICTURES else entry.episodes)[path.stem] = data_uri(path)
        if entry.pictures or entry.episodes or entry.left_out:
            media.append(entry)
    return media


def render(results: Path) -> str:
    """The page: our runs first, then the papers in the order of the inventory."""
    rows = read_runs(results / "collected" / "scores.csv")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "code": code}
    entries = read_entries(results)
    page: dict[str, Any] = {
        "rows": rows,
        "ours": [entry for entry in entries if entry.item.paper == "ours"],
        "published": {
            title: [entry for entry in entries if entry.item.paper == paper]
            for paper, title in PAPERS.items()
            if paper != "ours"
        },
        "defects": read_defects(),
        "mark": MARK,  # of the cells in tables
        "media": read_media(rows, results / "runs"),
        "media_runs": MEDIA_RUNS,
        "scales": sorted({row["scale"] for row in rows}),
        "revisions": sorted({row["git_revision"] for row in rows if row["git_revision"]}),
    }
    return environment.get_template(TEMPLATE.name).render(page)


def code(text: str) -> Markup:
    """What stands between backticks as code, all of it escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def number(text: str, digits: int = 2) -> str:
    """A CSV field for people: rounded, or a dash where there is none."""
    try:
        return f"{float(text):.{digits}f}"
    except ValueError:
        return text or "–"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of collected, tables, figures, runs"
    )
    parser.add_argument("--out", type=Path, default=Path("results/report"), help="folder to write index.html to")
    options = parser.parse_args(arguments)

    def command() -> None:
        text = render(options.results)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "index.html").write_text(text, encoding="utf-8")
        print(f"report: {options.out / 'index.html'}")

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
