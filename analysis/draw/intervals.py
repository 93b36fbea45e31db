"""Interval estimates as rliable draws them: a bar for the 95 % interval, a black tick for the point."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.stats.bootstrap import TRUSTED_RUNS

TITLES = {"mean": "Mean", "median": "Median", "iqm": "IQM", "optimality_gap": "Optimality gap"}
AGGREGATES = ("mean", "median", "iqm", "optimality_gap")
NAMES = {
    "mean": "mean",
    "median": "median",
    "iqm": "interquartile mean",
    "optimality_gap": "optimality gap (lower is better)",
}
BAR_HEIGHT = 0.6
ROW_INCHES = 0.36
LETTER_INCHES = 0.08
LINE_WIDTH, THIN_WIDTH = 1.4, 0.5
PANEL_INCHES = 1.0  # of a metric, at least, where a width is asked for

Entries = Mapping[str, Mapping[str, Mapping[str, Any]]]


def draw_interval(axes: Axes, row: float, entry: Mapping[str, Any], method: str, hatch: str | None) -> None:
    """One bar in the method's colour, hatched for our runs, with its tick; a single run has the tick alone, and the bar
    of two runs, which cannot be trusted, is thin and hollow."""
    if entry["low"] is not None:
        bar: dict[str, Any] = {
            "color": style.colour(method),
            "edgecolor": style.page() if hatch else "none",
            "linewidth": 0.0,
        }
        height = BAR_HEIGHT
        if not is_trusted(entry):
            bar, height = {"color": "none", "edgecolor": style.colour(method), "linewidth": 1.2}, BAR_HEIGHT / 2
        axes.barh(
            row,
            width=entry["high"] - entry["low"],
            left=entry["low"],
            height=height,
            alpha=0.75,
            hatch=hatch,
            **bar,
        )
    axes.vlines(entry["point"], row - 0.45, row + 0.45, color=style.ink(), alpha=0.7, linewidth=1.6)


def is_trusted(entry: Mapping[str, Any]) -> bool:
    """Whether there are enough runs, on both sides of a comparison, for its interval to mean anything."""
    numbers = [int(entry[name]) for name in ("runs", "runs_other", "runs_x", "runs_y") if name in entry]
    return min(numbers) >= TRUSTED_RUNS


def draw_thin_interval(axes: Axes, row: float, entry: Mapping[str, Any], method: str, hatch: str | None) -> None:
    """A second result of the same method, below its bar: a line for the interval, a dot for the point."""
    place = row - BAR_HEIGHT / 2 - 0.1
    if entry["low"] is not None:
        width = LINE_WIDTH if is_trusted(entry) else THIN_WIDTH
        axes.hlines(place, entry["low"], entry["high"], color=style.colour(method), linewidth=width)
    axes.plot(entry["point"], place, "o", color=style.colour(method), markersize=3.5)


def draw_points(
    axes: Axes,
    places: Sequence[float],
    points: pd.Series,
    low: pd.Series,
    high: pd.Series,
    colours: Sequence[style.Colour],
    trusted: Sequence[bool],
    **dots: Any,
) -> None:
    """A dot for each point estimate with a line for its interval, thin where it is not ``trusted``, one below the
    other; ``dots`` is their appearance."""
    widths = [1.8 if each else THIN_WIDTH for each in trusted]
    axes.hlines(places, low, high, colors=colours, linewidth=widths)
    axes.scatter(points, places, s=26, zorder=3, **{"c": colours, **dots})


def draw_panels(
    panels: Sequence[Axes],
    entries: Entries,
    methods: Sequence[str],
    metrics: Sequence[str],
    thin: Entries | None = None,
    line_below: int | None = None,
) -> None:
    """One panel per metric, the methods' names on the first; ``thin`` are second results, drawn below the bars."""
    for axes, metric in zip(panels, metrics):
        for row, method in enumerate(methods):
            draw_interval(axes, row, entries[method][metric], method, style.hatch(method))
            if thin is not None:
                draw_thin_interval(axes, row, thin[method][metric], method, style.hatch(method))
        if line_below is not None:
            axes.axhline(line_below - 0.5, color=style.faint(), linewidth=1)
        axes.set_title(TITLES[metric])
        axes.set_yticks(np.arange(len(methods)))
        axes.set_yticklabels([naming.shown(method) for method in methods] if axes is panels[0] else [])
        axes.set_ylim(-0.7, len(methods) - 0.3)
        style.bar_panel(axes)


def interval_numbers(entries: Entries, methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """The plotted numbers, a row for each bar."""
    return pd.DataFrame(
        [{"method": method, "metric": metric, **entries[method][metric]} for metric in metrics for method in methods]
    )


def stacked_panels(
    sections: Sequence[tuple[str, Entries]], lines: Sequence[Sequence[str]], xlabel: str, margins: tuple[float, ...]
) -> tuple[Figure, list[pd.DataFrame]]:
    """Sections below each other, each with a title ("": none) and a panel per metric in these lines, a row per entry.

    Args:
        margins: inches beside the names of the rows, above the sections, and of each line beside its rows.

    Returns:
        The figure and the plotted numbers of each section.
    """
    beside, above, around = margins
    heights = [len(lines) * (around + ROW_INCHES * len(entries)) for _, entries in sections]
    width = beside + max(label_width(list(entries)) for _, entries in sections)
    figure = plt.figure(figsize=(width, above + sum(heights)), layout="constrained")
    parts = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (title, entries) in zip(parts, sections):
        grid = part.subplots(len(lines), len(lines[0]), squeeze=False, gridspec_kw={"wspace": 0.08})
        for panels, metrics in zip(grid, lines):
            draw_panels(list(panels), entries, list(entries), metrics)
        if title:
            part.suptitle(title, fontsize=10)
        part.supxlabel(xlabel, fontsize=10)
    every = [metric for line in lines for metric in line]
    return figure, [interval_numbers(entries, list(entries), every) for _, entries in sections]


def interval_figure(comparison: Comparison, metrics: Sequence[str], context: Context) -> Drawing:
    """A row of panels, one per metric."""
    comparison = comparison.chosen(context)
    rows = comparison.rows(context)
    entries = context.aggregates[comparison.suite]
    thin = None if comparison.without is None else context.aggregates[comparison.without]
    with style.house_style():
        columns = style.across(len(metrics), PANEL_INCHES, label_width(rows))
        lines = -(-len(metrics) // columns)
        size = label_width(rows) + 2.2 * columns, 0.5 + lines * (0.4 + ROW_INCHES * len(rows))
        figure, panels = plt.subplots(
            lines, columns, figsize=size, squeeze=False, layout="constrained", gridspec_kw={"wspace": 0.08}
        )
        for number, line in enumerate(panels):
            shown = metrics[number * columns : (number + 1) * columns]
            draw_panels(list(line), entries, rows, shown, thin, comparison.line_below(rows))
        for axes in panels.flat[len(metrics) :]:
            axes.set_axis_off()
        figure.supxlabel("Human-normalised score", fontsize=10)
    numbers = [interval_numbers(part, rows, metrics) for part in (entries, thin) if part is not None]
    caption = (
        f"{comparison.heading(context)}: {naming.listed([NAMES[metric] for metric in metrics])} of human-normalised "
        f"scores; {bars_and_lines(comparison, context, context.options.repetitions_aggregates)}"
    )
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption, comparison.defects(context))


def bars_and_lines(comparison: Comparison, context: Context, repetitions: int | str) -> str:
    """Sentences of a caption about the bars and the second results below them, if there are any."""
    bars = f"bars are 95 % stratified bootstrap intervals ({repetitions} repetitions), ticks are point estimates."
    if comparison.without is None:
        return bars
    games = len(context.suites[comparison.without].tasks)
    return f"{bars} Thin lines below the bars: the same without {comparison.left_out(context)} ({games} games)."


def label_width(methods: Sequence[str]) -> float:
    """Width of the names of the rows in inches."""
    return 0.4 + LETTER_INCHES * max(len(naming.shown(method)) for method in methods)
