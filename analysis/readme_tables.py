"""Keep the tables of Markdown pages equal to what the analysis gives.

A table is enclosed by two lines, the first of which names it:

    <!-- table: IRIS-T1 -->
    <!-- table: IRIS-T1; columns: Game | IRIS | Human; rows: Mean (↑) | IQM (↑) -->
    ...
    <!-- /table -->

Columns and rows (named by their first cell) come in the order asked for; unnamed, all of them. Further words are
``transposed``, which makes rows of columns, and ``no caption``. What is known to be wrong with a method's numbers
always stays with them. Only published scores are used, and of runs of ours those of a table that is part of the
repository and that the marker names (``runs: docs/laptop/scores.csv``), so a page says the same on every machine.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a script: its own folder on the path would hide modules of the same name
    sys.path[0] = str(ROOT)
if str(ROOT / "src") not in sys.path:
    sys.path.insert(1, str(ROOT / "src"))

from analysis.context import Context, make_context  # noqa: E402
from analysis.data import naming  # noqa: E402
from analysis.data.defects import MARK  # noqa: E402
from analysis.data.notes import MARK as NOTE_MARK  # noqa: E402
from analysis.data.published import published_suites  # noqa: E402
from analysis.data.scores import read_references  # noqa: E402
from analysis.draw.artefacts import Table  # noqa: E402
from analysis.items import select  # noqa: E402
from analysis.options import read_options  # noqa: E402
from analysis.stats.engines import make_engine  # noqa: E402
from tokenworlds.cli import exit_status  # noqa: E402
from tokenworlds.errors import UserError, near_matches  # noqa: E402

BEGIN = re.compile(r"^<!--\s*table:\s*(?P<request>.*?)\s*-->\s*$")
END = re.compile(r"^<!--\s*/table\s*-->\s*$")
FENCE = re.compile(r"^\s*(```|~~~)")  # markers in an example are text
CELLS = re.compile(r"(?<!\\)\|")
TRANSPOSED, NO_CAPTION = "transposed", "no caption"
STALE = 1  # exit status of --check


@dataclass(frozen=True)
class Request:
    """One begin marker: an item, and which of its columns and rows (none named: all)."""

    item: str
    line: int
    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    transposed: bool = False
    captioned: bool = True
    runs: str = ""  # table of scores of our runs, from the root of the project


def read_request(text: str, line: int) -> Request:
    """``IRIS-T1; columns: Game | IRIS; rows: Mean (↑)``."""
    item, *choices = [part.strip() for part in text.split(";")]
    chosen: dict[str, tuple[str, ...]] = {}
    for choice in (choice for choice in choices if choice not in ("", TRANSPOSED, NO_CAPTION)):
        key, colon, names = choice.partition(":")
        if key.strip() not in ("columns", "rows", "runs") or not colon:
            raise UserError(
                f"line {line}: {choice!r} is neither `columns: A | B` nor `rows: A | B` nor `runs: FILE` nor "
                f"`{TRANSPOSED}` nor `{NO_CAPTION}`; write the marker as "
                "`<!-- table: ID; columns: A | B; rows: C | D -->`."
            )
        chosen[key.strip()] = tuple(name.strip() for name in names.split("|"))
    if not item:
        raise UserError(f"line {line}: the marker names no table; write `<!-- table: ID -->`.")
    runs = " | ".join(chosen.get("runs", ()))
    flags = TRANSPOSED in choices, NO_CAPTION not in choices
    return Request(item, line, chosen.get("columns", ()), chosen.get("rows", ()), *flags, runs)


def find_places(lines: Sequence[str]) -> list[tuple[Request, int]]:
    """Every request with the index of the line that ends its table, checked to be well-formed."""
    places, opened, fenced = [], None, False
    for number, line in enumerate(lines):
        fenced ^= FENCE.match(line) is not None
        begin, end = BEGIN.match(line), END.match(line)
        if fenced or not (begin or end):
            continue
        if begin and opened:
            raise UserError(
                f"line {number + 1}: a table begins inside that of line {opened.line}; end it with "
                "`<!-- /table -->` before the next one begins."
            )
        if begin:
            opened = read_request(begin["request"], number + 1)
        elif opened is None:
            raise UserError(f"line {number + 1}: `<!-- /table -->` ends no table; remove it, or write its beginning.")
        else:
            places.append((opened, number))
            opened = None
    if opened:
        raise UserError(f"line {opened.line}: the table {opened.item} has no end; write `<!-- /table -->` below it.")
    return places


def published_context() -> Context:
    """Scores that are part of the repository, and nothing else."""
    return Context(read_references(), published_suites(), [], make_engine("fast"), read_options())


@cache
def context_with(runs: str) -> Context:
    """Published scores and runs of ours, which are part of the repository, too."""
    return make_context(ROOT / runs)


def markdown(request: Request, context: Context) -> str:
    """The table asked for, with its caption and what is known to be wrong with its numbers."""
    try:
        (item,) = select([request.item])
        context = context_with(request.runs) if request.runs else context
    except UserError as error:
        raise UserError(f"line {request.line}: {error}") from error
    if item.kind != "table":
        raise UserError(f"line {request.line}: {item.id} is a figure; name a table (see make_figures.py --list).")
    reason = item.missing(context)
    if reason is not None:
        raise UserError(f"line {request.line}: {item.id} cannot stand in this page: {reason}")
    made = item.make(context)
    assert isinstance(made, Table)
    table = restricted(made.markdown.split("\n\n")[0], request)
    names = {_plain(cell) for line in table.splitlines() for cell in CELLS.split(line)}
    notes = [defect for defect in made.defects if not names.isdisjoint(map(naming.shown, defect.methods))]
    caption = [made.caption] if request.captioned else []
    return "\n\n".join([table, *caption, *(f"{note.mark} {note}" for note in notes)])


def restricted(table: str, request: Request) -> str:
    """A Markdown table with the columns and rows asked for, in that order."""
    head, rule, *body = [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in table.splitlines()]
    columns = _positions(request.columns, head, "column", request)
    rows = _positions(request.rows, [row[0] for row in body], "row", request)
    grid = [[line[column] for column in columns] for line in [head, *(body[row] for row in rows)]]
    rule = [rule[column] for column in columns]
    if request.transposed:
        grid = [list(line) for line in zip(*grid)]
        rule = ["---", *["---:"] * (len(grid[0]) - 1)]
        grid[0][0] = ""  # it named what are columns now
    return "\n".join("| " + " | ".join(line) + " |" for line in [grid[0], rule, *grid[1:]])


def _positions(names: Sequence[str], known: Sequence[str], what: str, request: Request) -> list[int]:
    places = {_plain(name): place for place, name in reversed([*enumerate(known)])}
    for name in names:
        if name not in places:
            raise UserError(f"line {request.line}: {request.item} has no {what} {name!r}: {near_matches(name, places)}")
    return [places[name] for name in names] or [*range(len(known))]


def _plain(name: str) -> str:
    """A cell without highlights and marks of notes."""
    return re.sub(rf"\*\*|</?u>|[{MARK}{NOTE_MARK}]", "", name).strip()


def updated(page: str, context: Context) -> tuple[str, list[Request]]:
    """The page with its tables made anew, and those that had changed."""
    lines, changed = page.splitlines(), []
    for request, end in reversed(find_places(lines)):  # from the last on, so that positions stay right
        table = ["", *markdown(request, context).splitlines(), ""]
        if lines[request.line : end] != table:
            changed.append(request)
            lines[request.line : end] = table
    return "\n".join(lines) + "\n" * page.endswith("\n"), changed[::-1]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="readme_tables.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    parser.add_argument("pages", nargs="*", type=Path, default=pages, help="Markdown (default: README.md and docs/)")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a table is stale")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Carry out a parsed command line; the exit status."""
    context = published_context()
    return max(refresh(page, context, options.check) for page in options.pages)


def refresh(page: Path, context: Context, check: bool) -> int:
    """Update or check one page; the exit status."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {page} ({error.strerror}); name a Markdown page.") from error
    try:
        new, stale = updated(text, context)
    except UserError as error:
        raise UserError(f"{page.name} {error}") from error
    names = ", ".join(f"{request.item} (line {request.line})" for request in stale)
    if not stale:
        print(f"{page.name}: all tables are up to date.")
    elif check:
        print(f"{page.name} is stale: {names}; run `python analysis/readme_tables.py {page}`.", file=sys.stderr)
        return STALE
    else:
        page.write_text(new, encoding="utf-8")
        print(f"{page.name}: {names} made anew.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; user errors are reported in one line, with status 2."""
    return exit_status(lambda: run(parse(arguments)))


if __name__ == "__main__":
    raise SystemExit(main())
