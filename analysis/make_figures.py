"""Make the papers' tables and figures, and those of our own runs, from raw scores.

    python analysis/make_figures.py --list
    python analysis/make_figures.py --out outputs/analysis
    python analysis/make_figures.py --only IRIS-T1 IRIS-F-agg --out /tmp/figures

Needs numpy, pandas, matplotlib and seaborn; neither torch nor an installed package.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a script: its own folder on the path would hide modules of the same name
    sys.path[0] = str(ROOT)
if str(ROOT / "src") not in sys.path:
    sys.path.insert(1, str(ROOT / "src"))

from analysis import aggregates  # noqa: E402
from analysis.artefacts import prepare_folder  # noqa: E402
from analysis.context import Context, make_context  # noqa: E402
from analysis.items import ITEMS, MISSING, Item, select  # noqa: E402
from tokenworlds.errors import UserError  # noqa: E402


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make_figures.py",
        description=__doc__,
        epilog=textwrap.fill("items: " + " ".join(item.id for item in ITEMS), break_on_hyphens=False),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "analysis", metavar="DIR", help="output folder")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these items only (see --list)")
    parser.add_argument("--kind", choices=["all", "table", "figure"], default="all", help="tables or figures only")
    parser.add_argument("--list", action="store_true", help="list the items and whether their data exist, make nothing")
    parser.add_argument(
        "--runs", type=Path, metavar="FILE", help="CSV of our runs (default: results/collected/scores.csv if present)"
    )
    parser.add_argument("--engine", choices=sorted(aggregates.ENGINES), default="fast", help="who resamples")
    parser.add_argument(
        "--repetitions", type=int, metavar="N", help="at most N bootstrap repetitions (default: analysis/params.yaml)"
    )
    parser.add_argument(
        "--aggregates", type=Path, metavar="FILE", help="reuse these aggregates instead of resampling again"
    )
    return parser.parse_args(arguments)


def list_items(context: Context) -> str:
    """One line an item: id, paper, kind, data state, title."""
    lines = [f"{'id':16s}{'paper':12s}{'kind':8s}{'data':8s}title"]
    for item in ITEMS:
        reason = item.missing(context)
        state, note = ("ready", "") if reason is None else ("none", f" ({reason})")
        lines.append(f"{item.id:16s}{item.paper:12s}{item.kind:8s}{state:8s}{item.title}{note}")
    return "\n".join(lines)


def make(items: Sequence[Item], context: Context, out: Path) -> None:
    """Write every item that has data; say of the others why they have none, also in a file for the report."""
    for item in items:
        reason = item.missing(context)
        if reason is not None or item.make is None:
            print(f"{item.id}: {reason}")
            (out / f"{item.id}{MISSING}").write_text(f"{reason}\n", encoding="utf-8")
            continue
        (out / f"{item.id}{MISSING}").unlink(missing_ok=True)
        paths = item.make(context).write(out / item.id)
        print(f"{item.id}: {', '.join(path.name for path in paths)}")


def run(options: argparse.Namespace) -> None:
    """Carry out a parsed command line."""
    items = select(options.only, options.kind)
    context = make_context(options.runs, options.engine, options.repetitions, options.aggregates)
    if options.list:
        print(list_items(context))
        return
    prepare_folder(options.out)
    make(items, context, options.out)
    if options.aggregates is None and (not options.only or "aggregates" in vars(context)):
        aggregates.write(context.aggregates, options.out / "aggregates.json")
        print("aggregates.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; errors a user can mend are one sentence and status 2."""
    try:
        run(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
