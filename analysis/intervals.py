"""Interval estimates as rliable draws them: a bar for the 95 % interval, a black tick for the point."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import style
from analysis.artefacts import Drawing
from analysis.context import Context
from analysis.published import ATARI

IRIS_METHODS = ("SimPLe", "CURL", "DrQ(eps)", "SPR", "IRIS")  # of the IRIS paper's figures, bottom to top
TITLES = {"mean": "Mean", "median": "Median", "iqm": "IQM", "optimality_gap": "Optimality gap"}
BAR_HEIGHT = 0.6
ROW_INCHES = 0.36
LETTER_INCHES = 0.08

Entries = Mapping[str, Mapping[str, Mapping[str, Any]]]


def draw_interval(axes: Axes, row: float, entry: Mapping[str, Any], method: str, ours: bool) -> None:
    """One bar in the method's colour, hatched for our runs, with its tick; a single run has the tick alone."""
    if entry["low"] is not None:
        axes.barh(
            row,
            width=entry["high"] - entry["low"],
            left=entry["low"],
            height=BAR_HEIGHT,
            color=style.colour(method),
            alpha=0.75,
            hatch=style.HATCH_OURS if ours else None,
            edgecolor="white" if ours else "none",
            linewidth=0,
        )
    axes.vlines(entry["point"], row - 0.45, row + 0.45, color="black", alpha=0.7, linewidth=1.6)


def draw_panels(panels: Sequence[Axes], entries: Entries, methods: Sequence[str], metrics: Sequence[str]) -> None:
    """One panel per metric, the methods' names on the first."""
    for axes, metric in zip(panels, metrics):
        for row, method in enumerate(methods):
            draw_interval(axes, row, entries[method][metric], method, style.is_ours(method))
        axes.set_title(TITLES[metric])
        axes.set_yticks(np.arange(len(methods)))
        axes.set_yticklabels([style.shown(method) for method in methods] if axes is panels[0] else [])
        axes.set_ylim(-0.7, len(methods) - 0.3)
        style.bar_panel(axes)


def interval_numbers(entries: Entries, methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """The plotted numbers, a row for each bar."""
    return pd.DataFrame(
        [{"method": method, "metric": metric, **entries[method][metric]} for metric in metrics for method in methods]
    )


def interval_figure(entries: Entries, methods: Sequence[str], metrics: Sequence[str], caption: str) -> Drawing:
    """A row of panels."""
    with style.house_style():
        width, height = label_width(methods) + 2.2 * len(metrics), 0.9 + ROW_INCHES * len(methods)
        figure, panels = plt.subplots(
            1, len(metrics), figsize=(width, height), squeeze=False, layout="constrained", gridspec_kw={"wspace": 0.08}
        )
        draw_panels(list(panels[0]), entries, methods, metrics)
        figure.supxlabel("Human-normalised score", fontsize=10)
    return Drawing(figure, interval_numbers(entries, methods, metrics), caption)


def label_width(methods: Sequence[str]) -> float:
    """Inches that the names of the rows take."""
    return 0.4 + LETTER_INCHES * max(len(method) for method in methods)


def with_ours(context: Context, methods: Sequence[str]) -> list[str]:
    """The paper's methods, and our complete paper-scale runs on top."""
    return [*methods, *(method for method in context.suites[ATARI].scores if style.is_ours(method))]


def with_counterparts(ours: Sequence[str], published: Collection[str]) -> list[str]:
    """The methods of the IRIS paper and the published ones our runs repeat: what our runs are drawn beside."""
    names = [style.base_method(name) for name in ours]
    return list(dict.fromkeys([*IRIS_METHODS, *(name for name in names if name in published)]))


def iris_aggregates(context: Context) -> Drawing:
    """IRIS-F-agg: mean, median and IQM."""
    caption = (
        "Atari-100k, 26 games: mean, median and interquartile mean of human-normalised scores; bars are 95 % "
        f"stratified bootstrap intervals ({context.options.repetitions_aggregates} repetitions), ticks are points."
    )
    methods = with_ours(context, IRIS_METHODS)
    return interval_figure(context.aggregates[ATARI], methods, ("mean", "median", "iqm"), caption)


def iris_optimality_gap(context: Context) -> Drawing:
    """IRIS-F-og: the optimality gap, lower is better."""
    caption = (
        "Atari-100k, 26 games: optimality gap of human-normalised scores (lower is better); bars are 95 % stratified "
        f"bootstrap intervals ({context.options.repetitions_aggregates} repetitions), ticks are point estimates."
    )
    methods = with_ours(context, IRIS_METHODS)
    return interval_figure(context.aggregates[ATARI], methods, ("optimality_gap",), caption)
