"""R16: every method side by side, by interquartile mean; those with scores of some games only; and what is printed
without any scores.

Numbers without scores stand in a table of their own, read here and nowhere else: no statistic can take them in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.aggregates import suite_aggregates
from analysis.data.published import ATARI
from analysis.data.scores import DATA, Suite, read_table
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import AGGREGATES, ROW_INCHES, Entries, draw_panels, interval_numbers, label_width
from analysis.draw.tables import METRIC_ROWS, NEEDS_RUNS, NO_RUN, NOT_APPLICABLE, header_marks, render
from analysis.errors import require
from analysis.item import Item
from analysis.studies.methods import atari_defects, atari_methods, brief_label, origin, single_left_out
from tokenworlds.errors import UserError, near_matches

SHOWN = ("iqm", "mean", "median", "optimality_gap", "superhuman")
ORIGINS = ("published", "contributed", "ours")
KNOWN = {
    "read": "read there",
    "second hand": "second hand, not seen in the paper",
    "not read": "not seen in any source, so no number is shown",
}


def by_iqm(entries: Entries) -> list[str]:
    """Methods by interquartile mean, best first; below them those with one run, which have none."""
    return sorted(entries, key=lambda name: (entries[name]["iqm"]["runs"] == 1, -entries[name]["iqm"]["point"]))


def leaderboard_table(context: Context) -> Table:
    """R16-T-leaderboard: all methods with scores of all games."""
    suite, entries = context.suites[ATARI], context.aggregates[ATARI]
    methods = _kept(by_iqm(entries), context)
    defects = atari_defects(context, methods)
    lines = [
        [brief_label(name) + header_marks(name, defects), ORIGINS[origin(name, context)], *_cells(entries[name])]
        for name in methods
    ]
    several = sum(entries[name]["iqm"]["runs"] > 1 for name in methods)
    without = [naming.shown(name) for name in suite.raw if name not in suite.scores]
    caption = (
        f"Atari-100k, {len(suite.tasks)} games: aggregates of human-normalised scores of every method that has scores "
        f"of all games, by interquartile mean, with {_intervals(context)}. Below the line: one value per game, no "
        "runs. Not every score is of the same protocol (R1-T-atari)."
        + (f" Left out, for the engine takes full matrices only: {naming.listed(without)}." if without else "")
    )
    headers = ["Method", "Scores", *_headers()]
    rules = [several] if several < len(lines) else []
    return render(headers, lines, interval_numbers(entries, methods, SHOWN), caption, 2, rules, defects)


def leaderboard_figure(context: Context) -> Drawing:
    """R16-F-leaderboard: four aggregates with intervals, the best method on top."""
    entries = context.aggregates[ATARI]
    methods = [name for name in reversed(_kept(by_iqm(entries), context)) if entries[name]["iqm"]["runs"] > 1]
    with style.house_style():
        size = (label_width(methods) + 2.2 * len(AGGREGATES), 0.9 + ROW_INCHES * len(methods))
        figure, panels = plt.subplots(1, len(AGGREGATES), figsize=size, layout="constrained")
        draw_panels(list(panels), entries, methods, AGGREGATES)
        figure.supxlabel("Human-normalised score", fontsize=10)
    caption = (
        f"Atari-100k, {len(context.suites[ATARI].tasks)} games: every method by interquartile mean. Bars are "
        f"{_intervals(context)}, ticks are point estimates. {single_left_out(context)}"
    )
    numbers = interval_numbers(entries, methods, AGGREGATES)
    return Drawing(figure, numbers, caption.rstrip(), atari_defects(context, methods))


def partial_suites(context: Context) -> list[Suite]:
    """A suite for each set of games that a method has scores of, if not of all; ``NoData`` without any."""
    suite = context.suites[ATARI]
    played = {tuple(task for task, runs in suite.runs(name).items() if runs): None for name in suite.partial}
    return require([suite.restricted(" ".join(tasks), tasks) for tasks in played], "every method has all games")


def partial_table(context: Context) -> Table:
    """R16-T-partial: methods with scores of some games, among all others on the same games."""
    partial = context.suites[ATARI].partial
    lines: list[list[str]] = []
    rules: list[int] = []
    parts = []
    for suite in partial_suites(context):
        rules += [len(lines)] if lines else []
        entries = suite_aggregates(suite, context.engine, context.options)
        methods = _kept(by_iqm(entries), context)
        for name in methods:
            mark = " *" if name in partial else ""
            lines.append([naming.listed(suite.tasks), brief_label(name) + mark, *_cells(entries[name])])
        parts.append(interval_numbers(entries, methods, SHOWN).assign(games=" ".join(suite.tasks)))
    caption = (
        "Atari-100k on the games of the methods that have scores of some only (*): aggregates of human-normalised "
        f"scores, all others restricted to the same games, with {_intervals(context)}. Such a choice of games says "
        "nothing about the others."
    )
    defects = context.defects_of([*partial], {task for suite in partial_suites(context) for task in suite.tasks})
    return render(["Games", "Method", *_headers()], lines, pd.concat(parts), caption, 2, rules, defects)


def _kept(methods: list[str], context: Context) -> list[str]:
    """Those that were asked for; the order is that of the scores."""
    return context.choice.among(methods).kept(methods)


def _headers() -> list[str]:
    return ["Runs", *(f"{title} ({arrow})" for title, arrow in (METRIC_ROWS[metric] for metric in SHOWN))]


def _cells(entry: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Runs, and each aggregate with its interval."""
    fewest, runs = entry["iqm"].get("fewest_runs", 0), entry["iqm"]["runs"]
    return [f"{fewest} to {runs}" if fewest else str(runs), *(_cell(entry[metric], metric) for metric in SHOWN)]


def _cell(entry: Mapping[str, Any], metric: str) -> str:
    if entry["runs"] == 1 and metric in NEEDS_RUNS:
        return NOT_APPLICABLE
    form = "{:.0f}" if metric == "superhuman" else "{:.3f}"
    point, *bounds = (form.format(entry[name]) for name in ("point", "low", "high") if entry[name] is not None)
    return point + (f" [{', '.join(bounds)}]" if bounds else "")


def _intervals(context: Context) -> str:
    return f"95 % stratified bootstrap intervals ({context.options.repetitions_aggregates} repetitions)"


def read_printed_only(data: Path = DATA) -> pd.DataFrame:
    """Rows of ``printed_only.csv``: benchmark, method, paper, quantity, printed (text), known, source.

    Raises:
        UserError: a row claims to be known in another way, or shows a number that nobody read.
    """
    name = "printed_only.csv"
    frame = read_table(data / name, ["benchmark", "method", "paper", "quantity", "printed", "known", "source"])
    for line, row in enumerate(frame.itertuples(), start=2):
        if row.known not in KNOWN:
            raise UserError(f"{name} line {line}: unknown kind {row.known!r}: {near_matches(row.known, KNOWN)}")
        if (row.known == "not read") != (row.printed == ""):
            raise UserError(f"{name} line {line}: a number is printed if and only if it was read; correct that row.")
    return frame


def printed_table(context: Context) -> Table:
    """R16-T-printed: what papers without public scores print; it enters no statistic."""
    frame = read_printed_only()
    lines = [
        [row.benchmark, row.method, row.paper or NO_RUN, row.quantity, row.printed or NO_RUN, _reading(row)]
        for row in frame.itertuples()
    ]
    caption = (
        "Printed only: numbers of papers of which no scores run by run were at hand. They are quoted as their source "
        "prints them, with the kind of reading, and enter no statistic: neither runs, nor protocol, nor the method of "
        "averaging could be checked."
    )
    headers = ["Benchmark", "Method", "Paper", "What", "Printed", "Source"]
    changes = frame.benchmark.ne(frame.benchmark.shift())
    return render(headers, lines, frame, caption, len(headers), [row for row in range(1, len(frame)) if changes[row]])


def _reading(row: Any) -> str:
    return ": ".join(filter(None, (row.source, KNOWN[row.known])))


ITEMS: Sequence[Item] = (
    Item(
        "R16-T-leaderboard",
        "beyond",
        "table",
        "Every method on Atari-100k, best first",
        leaderboard_table,
        compares=atari_methods,
    ),
    Item(
        "R16-F-leaderboard",
        "beyond",
        "figure",
        "Every method on Atari-100k with intervals",
        leaderboard_figure,
        compares=atari_methods,
    ),
    Item(
        "R16-T-partial", "beyond", "table", "Methods with some games only", partial_table, partial_suites, atari_methods
    ),
    Item("R16-T-printed", "beyond", "table", "Printed only: papers without public scores", printed_table),
)
