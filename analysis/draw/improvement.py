"""Probability of improvement: the chance that a run of one method beats a run of another on a random game."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.data.aggregates import PAIRED_SUITES
from analysis.data.identity import group_of
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.intervals import ROW_INCHES, bars_and_lines, draw_interval, draw_thin_interval, label_width

Pair = tuple[str, str]


def improvement_figure(comparison: Comparison, context: Context) -> Drawing:
    """P(X > Y) of the paper's agent over the others and, if there are complete ones, of our runs of it."""
    subject = comparison.subject
    ours = [method for method in comparison.ours(context) if naming.base_method(method) == subject]
    beaten = {*comparison.methods, *comparison.contributed(context)} - {subject}
    known = context.aggregates[PAIRED_SUITES[comparison.suite]]
    others = [method for method in comparison.rows(context) if method in beaten]
    pairs = [(x, y) for x in [subject, *ours] for y in others if y in known.get(x, {})]  # a single run is in none
    labels = [_row_label(x, y, subject) for x, y in pairs]
    with style.house_style():
        size = (3.8 + label_width(labels), 1.0 + ROW_INCHES * len(pairs))
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        numbers = draw_improvements(axes, comparison, context, dict(enumerate(pairs)))
        style.label_rows(axes, labels)
        axes.set(xlabel=f"P({subject} > Y)", ylabel="Y", xlim=(0, 1))
    caption = (
        f"{comparison.heading(context)}: probability that a run of {subject} beats a run of method Y on a game, "
        f"averaged over games; {bars_and_lines(comparison, context, context.options.repetitions_improvement)}"
    )
    return Drawing(figure, numbers, caption, comparison.defects(context))


def draw_improvements(axes: Axes, comparison: Comparison, context: Context, pairs: dict[int, Pair]) -> pd.DataFrame:
    """Intervals of P(X > Y) at their rows, and a dashed line at one half. Returns the plotted numbers."""
    suites = [suite for suite in (comparison.suite, comparison.without) if suite is not None]
    records = []
    for suite, draw in zip(suites, (draw_interval, draw_thin_interval)):
        for row, (x, y) in pairs.items():
            entry = context.aggregates[PAIRED_SUITES[suite]][x][y]
            draw(axes, row, entry, y, naming.is_ours(x))
            records.append({"x": x, "y": y, **entry})
    axes.axvline(0.5, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
    style.bar_panel(axes)
    return pd.DataFrame(records)


def _row_label(x: str, y: str, subject: str) -> str:
    """The beaten method; for our runs also which of them."""
    group = group_of(x)
    return naming.shown(y) + (f", ours{group.name.removeprefix(subject)}" if group else "")
