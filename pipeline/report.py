"""Stage ``report``: one offline page from collected scores, tables, figures and the media of the runs.

python -m pipeline.report [--results results] [--out results/report]

The page loads nothing: pictures, videos, numbers and its one small script are inside, and its content security policy
forbids anything else. What does not fit into ``PAGE_BYTES`` is named instead.
"""

import argparse
import base64
import csv
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from analysis.defects import MARK, read_defects
from pipeline.collect import folders
from pipeline.console import exit_status
from pipeline.page import media, overview
from pipeline.page.embedding import PAGE_BYTES, Budget
from pipeline.page.entries import read_groups
from tokenworlds.errors import UserError

FOLDER = Path(__file__).with_name("page")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of the collected scores."""
    if not path.is_file():
        raise UserError(f"no collected scores at {path}: run `dvc repro report`, or `python -m pipeline.collect`.")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def render(results: Path, budget: Budget | None = None) -> str:
    """The page. Tables and figures take their room first, pictures and videos of our runs what is left."""
    budget = budget or Budget()
    scores = results / "collected" / "scores.csv"
    rows, groups = read_rows(scores), read_groups(results, budget)
    headlines = overview.read_headlines(results / "aggregated" / "aggregates.json")
    shown, not_shown = media.read_media(rows, folders(rows, results / "scores", results / "runs"), budget)
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return environment().get_template("page.html").render(
        rows=rows, scores_csv=budget.embed(scores), batches=overview.batches(rows),
        scales=overview.distinct(rows, "scale"),
        headlines=headlines, headlines_csv=overview.as_csv(headlines),
        groups=groups,
        papers=[group for key, group in groups.items() if key not in ("ours", "beyond")],
        media=shown, media_not_shown=not_shown, media_runs=media.RUNS, page_bytes=PAGE_BYTES,
        defects=read_defects(),
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script), script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


def environment() -> jinja2.Environment:
    """Templates that escape whatever they are given and fail on a name that they do not know."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"number": number, "code": code}
    templates.globals["defect_mark"] = MARK
    return templates


def code(text: str) -> Markup:
    """What stands between backticks as code, all of it escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def number(value: str | float | None, digits: int = 2) -> str:
    """A CSV field for people: rounded, or a dash where there is none."""
    try:
        return "–" if value is None else f"{float(value):.{digits}f}"
    except ValueError:
        return str(value) or "–"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of collected, aggregated, tables, figures, runs"
    )
    parser.add_argument("--out", type=Path, default=Path("results/report"), help="folder to write index.html to")
    options = parser.parse_args(arguments)

    def command() -> None:
        text = render(options.results)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "index.html").write_text(text, encoding="utf-8")
        print(f"report: {options.out / 'index.html'} ({len(text.encode()) / 1e6:.1f} MB)")

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
