"""Stage ``report``: one offline page from collected scores, tables, figures and the media of the runs.

python -m pipeline.report [--results results] [--out results/report]

The page loads nothing: pictures, videos, numbers and its one small script are inside, and its content security policy
forbids anything else. What does not fit into ``PAGE_BYTES`` is linked instead, as are the files of tables and figures
in other formats. Without runs of ours it shows what was published. Items that failed and pictures that
cannot be read are reported on the page; the command then ends with status 1 and names them.
"""

import argparse
import base64
import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from analysis.data.defects import MARK, read_defects
from analysis.data.families import FAMILIES
from analysis.data.identity import RunGroupId
from analysis.data.runs import ACCEPT, read_runs
from analysis.data.scores import References, read_references
from analysis.draw.artefacts import check_folder
from pipeline import failures as failed_runs
from pipeline.collect import folders
from pipeline.page import media, overview
from pipeline.page.embedding import MEDIA_BYTES, Budget, picture_size
from pipeline.page.entries import address, read_groups
from pipeline.plan import active_plan
from tokenworlds.cli import exit_status, print_error
from tokenworlds.config import project_root
from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.runs.columns import SCORES, TRAINED_VARIANT, names
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.settings import label_variants

FOLDER = Path(__file__).with_name("page")
DOCS_FILM = project_root() / "docs" / "krull.gif"
MAIN_FIGURE = "R16-F-leaderboard"  # the aggregates of every method, with our complete runs where there are any
TITLE = "<title>tokenworlds: report</title>"


def read_scores(path: Path, references: References) -> tuple[list[dict[str, Any]], dict[str, RunGroupId]]:
    """Rows of the collected scores as text, and the groups of their runs by label."""
    groups = {group.label: group.id for group in read_runs(path, references)}  # refuses a damaged table
    absent = dict.fromkeys(names(SCORES), "") | {TRAINED_VARIANT.name: None}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [absent | row for row in csv.DictReader(file)]
    label_variants(rows, path.name, ACCEPT)
    return rows, groups


@dataclass(frozen=True)
class Report:
    """The page, and the parts of it that could not be made or read."""

    text: str
    failures: tuple[str, ...]


def render(results: Path, budget: Budget | None = None) -> str:
    """The page alone."""
    return make_report(results, results / "report", budget).text


def make_report(results: Path, out: Path, budget: Budget | None = None, planned: Sequence[RunId] = ()) -> Report:
    """Make the page for the folder ``out``. Figures are embedded first, then pictures and videos of our runs, then the
    numbers of tables and figures, while they fit; ``planned`` are the runs that the active suite asks for."""
    budget = budget or Budget()
    scores, aggregates = results / "collected" / "scores.csv", results / "aggregated" / "aggregates.json"
    references = read_references()
    if not scores.is_file() and not aggregates.is_file():
        raise UserError(f"no collected scores at {scores}: run `dvc repro report`, or `python -m pipeline.collect`.")
    rows, ours = read_scores(scores, references) if scores.is_file() else ([], {})
    groups = read_groups(results, out, budget)
    headlines = overview.read_headlines(aggregates, ours)
    for_media = budget.part(MEDIA_BYTES)
    shown, not_shown = media.read_media(rows, folders(rows, results / "scores", results / "runs"), for_media)
    film = media.choose_film(shown)
    docs_film = None if film or not DOCS_FILM.is_file() else for_media.embed(DOCS_FILM)
    budget.left += for_media.left
    entries = [entry for group in groups.values() for entry in group.entries]
    failures = [f"{entry.item.id}: {entry.absent}" for entry in entries if entry.failed]
    failures += [failure for run in shown for failure in run.failures]
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    text = environment().get_template("page.html").render(
        rows=rows, scores_csv=budget.embed(scores) if rows else None, batches=overview.batches(rows, planned),
        unfinished=overview.unfinished(rows, planned, failed_runs.kept(results)),
        scales=overview.distinct(rows, "scale"),
        result=overview.result(headlines), of_ours=overview.of_ours(rows, headlines),
        main_figure=next((entry for entry in entries if entry.picture and entry.item.id == MAIN_FIGURE), None),
        film=film, docs_film=docs_film, docs_film_size=docs_film and picture_size(DOCS_FILM),
        headlines=headlines, headlines_csv=overview.as_csv(headlines),
        numbers={entry.item.id: budget.embed(entry.numbers) for entry in entries if entry.numbers},
        groups=groups,
        papers=[group for key, group in groups.items() if key not in ("ours", "beyond", *FAMILIES)],
        families=list(FAMILIES.values()),
        media=shown, media_not_shown=not_shown, media_runs=media.RUNS,
        runs_folder=address(results / "runs", out),
        defects=read_defects(), failures=failures, without_human=overview.without_human(rows, references),
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script), script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    return Report(text, tuple(failures))


def environment() -> jinja2.Environment:
    """Templates that escape whatever they are given and fail on a name that they do not know."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"number": number, "code": code, "method": overview.method_of}
    templates.globals["defect_mark"] = MARK
    return templates


def code(text: str) -> Markup:
    """Escaped text with backticks turned into code elements."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def number(value: str | float | None, digits: int = 2) -> str:
    """A rounded CSV field, or a dash for an empty one."""
    try:
        return "–" if value is None else f"{float(value):.{digits}f}"
    except ValueError:
        return str(value) or "–"


def check_page(page: Path) -> None:
    """Refuse to replace another page, and places where none can be written."""
    check_folder(page.parent)
    if page.exists() and (not page.is_file() or TITLE.encode() not in page.read_bytes()[:2000]):
        raise UserError(f"{page} is not a report of this program; give another folder with --out.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__.splitlines()[0])
    results = project_root() / "results"
    parser.add_argument(
        "--results", type=Path, default=results, help="folder of collected, aggregated, tables, figures, runs"
    )
    parser.add_argument("--out", type=Path, default=results / "report", help="folder to write index.html to")
    options = parser.parse_args(arguments)

    def command() -> int:
        page = options.out / "index.html"
        check_page(page)
        is_own = options.results.resolve() == project_root() / "results"
        plan = active_plan() if is_own else None
        report = make_report(options.results, options.out, planned=plan.runs if plan else ())
        write_atomic(page, report.text.encode())
        print(f"report: {page} ({len(report.text.encode()) / 1e6:.1f} MB)")
        if report.failures:
            named = "; ".join(report.failures)
            print_error(f"{len(report.failures)} part(s) of {page} could not be made: {named}"[:300])
        return 1 if report.failures else 0

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
