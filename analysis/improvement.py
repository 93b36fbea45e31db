"""Probability of improvement: how likely a run of one method beats a run of another on a random game."""

import matplotlib.pyplot as plt
import pandas as pd

from analysis import style
from analysis.aggregates import IMPROVEMENT
from analysis.artefacts import Drawing
from analysis.context import Context
from analysis.intervals import IRIS_METHODS, ROW_INCHES, draw_interval
from analysis.published import ATARI


def iris_improvement(context: Context) -> Drawing:
    """IRIS-F-poi: P(IRIS > Y) of the published runs and, if there are complete ones, of ours."""
    others = [method for method in IRIS_METHODS if method != "IRIS"]
    ours = [method for method in context.suites[ATARI].scores if style.base_method(method) == "IRIS" != method]
    pairs = [(x, y) for x in ["IRIS", *ours] for y in others]
    records = [{"x": x, "y": y, **context.aggregates[IMPROVEMENT][x][y]} for x, y in pairs]
    with style.house_style():
        figure, axes = plt.subplots(figsize=(5.2, 1.0 + ROW_INCHES * len(pairs)), layout="constrained")
        for row, record in enumerate(records):
            draw_interval(axes, row, record, record["y"], style.is_ours(record["x"]))
        axes.axvline(0.5, color="0.45", linestyle="--", linewidth=1, zorder=0)
        axes.set_yticks(range(len(pairs)))
        axes.set_yticklabels([_row_label(x, y) for x, y in pairs])
        axes.set(ylim=(-0.7, len(pairs) - 0.3), xlabel="P(IRIS > Y)", ylabel="Y")
        style.bar_panel(axes)
        axes.set_xlim(0, 1)
    caption = (
        "Atari-100k, 26 games: probability that a run of IRIS beats a run of method Y on a game, averaged over games; "
        f"bars are 95 % stratified bootstrap intervals ({context.options.repetitions_improvement} repetitions), ticks "
        "are point estimates."
    )
    return Drawing(figure, pd.DataFrame(records), caption)


def _row_label(x: str, y: str) -> str:
    """The beaten method; for our runs also which of them."""
    if not style.is_ours(x):
        return style.shown(y)
    name = x.split(" (")[0].removeprefix("IRIS")
    return f"{style.shown(y)}, ours{name}"
