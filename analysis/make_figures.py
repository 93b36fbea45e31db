"""Make the papers' tables and figures, and those of our own runs, from raw scores.

Needs numpy, pandas, matplotlib and seaborn; neither torch nor an installed package.
"""

import argparse
import json
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a script: its own folder on the path would hide modules of the same name
    sys.path[0] = str(ROOT)
if str(ROOT / "src") not in sys.path:
    sys.path.insert(1, str(ROOT / "src"))

import matplotlib.pyplot as plt  # noqa: E402

from analysis.context import Context, make_context  # noqa: E402
from analysis.data import aggregates  # noqa: E402
from analysis.data.choice import Choice  # noqa: E402
from analysis.draw import article, style  # noqa: E402
from analysis.draw.artefacts import REMEDY, check_folder, check_items, prepare_folder, remove, with_remark  # noqa: E402
from analysis.errors import NoData  # noqa: E402
from analysis.items import FAILED, ITEMS, MISSING, PAPERS, Item, select  # noqa: E402
from analysis.options import read_options  # noqa: E402
from analysis.papers.folders import CURVES  # noqa: E402
from analysis.stats.engines import ENGINES  # noqa: E402
from tokenworlds.cli import exit_status, given, print_error  # noqa: E402
from tokenworlds.errors import UserError  # noqa: E402
from tokenworlds.files import require_file, write_atomic  # noqa: E402
from tokenworlds.runs.manifest import is_manifest, manifest  # noqa: E402

EXAMPLES = """\
examples:
  python analysis/make_figures.py --list                        what there is, and what lacks data
  python analysis/make_figures.py                               everything, into outputs/analysis
  python analysis/make_figures.py --paper iris rem              two papers (with --list: list those)
  python analysis/make_figures.py --paper beyond --kind figure  the figures that no paper has
  python analysis/make_figures.py --only IRIS-T1 IRIS-F-agg --out /tmp/figures
  python analysis/make_figures.py --only REM-F-abl --format pdf --width 5.5in --font serif --font-size 9   for LaTeX
  python analysis/make_figures.py --only REM-F-agg --style talk --format svg,png      for slides
  python analysis/make_figures.py --scores mine.csv --only IRIS-T1 M3-F-agg     another method beside the published
  python analysis/make_figures.py --scores mine.csv --subject Mine --baselines IRIS STORM M3    it against these
  python analysis/make_figures.py --runs my/scores.csv --paper ours --repetitions 2000   quick, for a look
  python analysis/make_figures.py --folders results/runs/m3/dmc/*/* --out docs/learning  learning curves of these runs
  python analysis/make_figures.py --folders results/runs/rem*/atari/Pong/* --curve loss --out /tmp/losses
"""

OF_FOLDERS = {"folders", "curve", "out", "format", "style", "width", "font", "font_size"}
"""Options that curves of run folders have a use for."""
Say = Callable[[str], object]
MOST_LETTERS = 200  # of an error in one line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make_figures.py",
        description=__doc__,
        epilog=f"{EXAMPLES}\npapers:\n{_papers()}\nitems:\n{_ids()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chosen = parser.add_argument_group("which items")
    chosen.add_argument("--list", action="store_true", help="list them and whether their data exist, make nothing")
    chosen.add_argument("--paper", nargs="+", default=[], metavar="NAME", help="those of these papers (see below)")
    chosen.add_argument("--kind", choices=["all", "table", "figure"], default="all", help="tables or figures only")
    chosen.add_argument("--only", nargs="+", default=[], metavar="ID", help="exactly these, whatever paper and kind")
    written = parser.add_argument_group("how they are written")
    default = ROOT / "outputs" / "analysis"
    written.add_argument("--out", type=Path, default=default, metavar="DIR", help="folder (default: outputs/analysis)")
    written.add_argument(
        "--format",
        default=",".join(style.DEFAULT_FORMATS),
        metavar="LIST",
        help=f"of figures: any of {','.join(style.FORMATS)} (default: %(default)s); tables are written as Markdown, "
        "LaTeX, HTML and CSV",
    )
    written.add_argument(
        "--style",
        default="paper",
        metavar="NAME",
        help="paper (default), talk (larger letters and lines) or dark (light ink on a dark page)",
    )
    written.add_argument(
        "--width", metavar="LENGTH", help="of figures, exactly: 5.5in, 82mm, 8cm or 397pt (default: as it comes)"
    )
    written.add_argument(
        "--font", default="sans", metavar="NAME", help="of figures: sans (default), serif, mono or an installed one"
    )
    written.add_argument(
        "--font-size",
        type=float,
        default=style.LETTERS,
        metavar="POINTS",
        help="of the labels of axes, other texts in proportion (default: %(default)g)",
    )
    written.add_argument(
        "--record", type=Path, metavar="FILE", help="also write size and digest of every file, for the pipeline"
    )
    written.add_argument(
        "--keep-going", action="store_true", help="end with status 0 where items failed: the report names them"
    )
    made = parser.add_argument_group("what they are made from")
    made.add_argument(
        "--runs", type=Path, metavar="FILE", help="CSV of our runs (default: results/collected/scores.csv if present)"
    )
    made.add_argument(
        "--scores", type=Path, nargs="+", default=[], metavar="FILE", help="CSV of further methods (docs/scores.md)"
    )
    made.add_argument(
        "--seed", type=int, metavar="N", help="seed of the bootstrap (default: analysis/params.yaml); captions name it"
    )
    made.add_argument("--engine", choices=sorted(ENGINES), default="fast", help="who resamples")
    made.add_argument(
        "--repetitions", type=int, metavar="N", help="at most N bootstrap repetitions (default: analysis/params.yaml)"
    )
    made.add_argument(
        "--aggregates", type=Path, metavar="FILE", help="reuse these aggregates instead of resampling again"
    )
    compared = parser.add_argument_group("which methods are compared (published, contributed or ours; docs/scores.md)")
    compared.add_argument("--subject", metavar="NAME", default="", help="in the place of each paper's own agent")
    compared.add_argument("--baselines", nargs="+", default=[], metavar="NAME", help="these only, beside the subject")
    compared.add_argument(
        "--order", nargs="+", default=[], metavar="NAME", help="first of all, from left to right; the subject is last"
    )
    apart = parser.add_argument_group("curves of run folders, in place of items")
    apart.add_argument("--folders", type=Path, nargs="+", metavar="FOLDER", help="runs; --out is then a file's stem")
    apart.add_argument("--curve", choices=CURVES, default="return", help="return (default) or loss of the world model")
    options, named = parser.parse_args(arguments), given(parser, arguments)
    if options.folders and (others := sorted(named - OF_FOLDERS)):
        raise UserError(f"--{others[0].replace('_', '-')} is about items, in whose place --folders draws curves.")
    if "curve" in named and not options.folders:
        raise UserError("--curve is of the runs that --folders names: give them, or leave it out.")
    return options


def _papers() -> str:
    width = max(map(len, PAPERS))
    return "\n".join(f"  {name:{width}s}  {title}" for name, title in PAPERS.items()) + "\n"


def _ids() -> str:
    return textwrap.fill(
        " ".join(item.id for item in ITEMS), break_on_hyphens=False, initial_indent="  ", subsequent_indent="  "
    )


def read_formats(text: str) -> list[str]:
    """``svg,pdf`` -> its names, each of them known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in style.FORMATS:
            raise UserError(f"unknown format {name!r} of figures: give one or more of {', '.join(style.FORMATS)}.")
    if not names:
        raise UserError(f"--format names no format: give one or more of {', '.join(style.FORMATS)}.")
    return names


def list_items(items: Sequence[Item], context: Context, width: int | None = None) -> str:
    """One line an item: id, paper, kind, data state, title. With a width, long titles go on below themselves."""
    rows = [("id", "paper", "kind", "data", "title")]
    for item in items:
        reason = item.missing(context)
        title = item.title if reason is None else f"{item.title} ({reason})"
        rows.append((item.id, item.paper, item.kind, "ready" if reason is None else "none", title))
    sizes = [max(map(len, column)) for column in list(zip(*rows))[:-1]]
    lines = []
    for *cells, title in rows:
        start = "".join(f"{cell:{size}s}  " for cell, size in zip(cells, sizes))
        room = len(title) if width is None else width - len(start)
        below = "\n" + " " * len(start)
        lines.append(start + below.join(textwrap.wrap(title, max(20, room), break_on_hyphens=False)))
    return "\n".join(lines)


@contextmanager
def progress(items: Sequence[Item]) -> Iterator[tuple[Iterator[Item], Say]]:
    """The items one after the other and a function to print with; a progress bar where stderr is a terminal."""
    bar_class = _tqdm() if len(items) > 1 and sys.stderr.isatty() else None
    if bar_class is None:
        yield iter(items), print
        return
    with bar_class(total=len(items), unit="item", leave=False, dynamic_ncols=True) as bar:

        def walk() -> Iterator[Item]:
            for item in items:
                bar.set_description(item.id)
                yield item
                bar.update()

        yield walk(), bar_class.write


def _tqdm() -> Any:
    """Class of the progress bar; None where it is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


def make(
    items: Sequence[Item], context: Context, out: Path, formats: Sequence[str] = style.DEFAULT_FORMATS
) -> tuple[list[article.Made], dict[str, str]]:
    """Write every item that has data; report why the others have none, also in a file for the report.

    An error in one item does not stop the others: it is reported and written to a file in the item's place.

    Returns:
        Those that were made, and the errors of those that failed, by id.

    Raises:
        UserError: something is wrong with the data, for which no item can be blamed.
    """
    made: list[article.Made] = []
    failures: dict[str, str] = {}
    with progress(items) as (walk, say):
        for item in walk:
            try:
                say(f"{item.id}: {_make_one(item, context, out, formats, made)}")
            except (UserError, OSError):  # the data or the disk, not the item
                raise
            except Exception as error:
                failures[item.id] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:MOST_LETTERS]
                remove(out / item.id)
                text = f"{failures[item.id]}\n\n{traceback.format_exc()}"
                (out / f"{item.id}{FAILED}").write_text(text, encoding="utf-8")
                say(f"{item.id}: failed ({failures[item.id]})")
                plt.close("all")
    return made, failures


def _make_one(item: Item, context: Context, out: Path, formats: Sequence[str], made: list[article.Made]) -> str:
    """Write one item and add it to those made, or write why it has no data; what there is of it now."""
    for suffix in (MISSING, FAILED):
        (out / f"{item.id}{suffix}").unlink(missing_ok=True)
    reason = item.missing(context)
    try:
        artefact = item.make(context) if reason is None else None
    except NoData as lacking:  # of the methods that were asked for
        artefact, reason = None, str(lacking)
    if artefact is None:
        (out / f"{item.id}{MISSING}").write_text(f"{reason}\n", encoding="utf-8")
        return str(reason)
    seed = context.options.seed
    remarks = item.unmoved(context), f"Seed of the bootstrap: {seed}." if seed != read_options().seed else ""
    artefact = with_remark(artefact, " ".join(filter(None, remarks)))
    paths = artefact.write(out / item.id, formats)
    made.append(article.Made.of(item.id, artefact, f"{PAPERS[item.paper]}: {item.title}", paths))
    return ", ".join(path.name for path in paths)


def run(options: argparse.Namespace) -> int:
    """Carry out a parsed command line; 1 if an item failed, unless that is left to the report."""
    items, formats = select(options.only, options.kind, options.paper), read_formats(options.format)
    width = style.read_width(options.width) if options.width is not None else None
    letters = {"fonts": style.read_fonts(options.font), "letters": style.read_letters(options.font_size)}
    with style.chosen(options.style, width=width, **letters):
        if options.folders:
            drawing = CURVES[options.curve](options.folders)
            drawing.check(options.out, formats)
            prepare_folder(options.out.parent)
            print("\n".join(map(str, drawing.write(options.out, formats))))
            return 0
        if options.aggregates is not None and options.seed is not None:
            raise UserError("--seed does not apply to --aggregates, which were computed before: leave one of them out.")
        if not options.list:
            check_folder(options.out)
            article.check_files(options.out)
            check_items(options.out, [item.id for item in items])
            if options.aggregates is None and not options.only:
                require_file(options.out / aggregates.FILE, aggregates.is_own, REMEDY)
            if options.record is not None:
                require_file(options.record, is_manifest, "name another file with --record")
        choice = Choice(options.subject, tuple(options.baselines), tuple(options.order))
        sources = options.runs, options.engine, options.repetitions, options.aggregates, options.scores
        context = make_context(*sources, choice, options.seed)
        if options.list:
            print(list_items(items, context, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
            return 0
        prepare_folder(options.out)
        context = article.watched(context)
        made, failures = make(items, context, options.out, formats)
        if made:
            print(", ".join(path.name for path in article.write(options.out, made, context)))
    needed = "aggregates" in vars(context) if options.paper else not options.only
    if options.aggregates is None and needed:  # of all suites: with --only it would be most of the work
        aggregates.write(context.aggregates, options.out / aggregates.FILE, context.engine, context.options)
        print(aggregates.FILE)
    if options.record is not None:
        write_atomic(options.record, (json.dumps(manifest(options.out), indent=1) + "\n").encode())
    if failures:
        named = "; ".join(f"{name} ({reason})" for name, reason in list(failures.items())[:3])
        print_error(f"{len(failures)} of {len(items)} items failed: {named}; see ID{FAILED} in {options.out}."[:300])
    return 1 if failures and not options.keep_going else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; user errors are reported in one line, with status 2."""
    return exit_status(lambda: run(parse(arguments)))


if __name__ == "__main__":
    raise SystemExit(main())
