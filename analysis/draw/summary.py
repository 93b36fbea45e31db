"""A summary of ablations in two panels: what each costs, run against run, and what is left of the score."""

import matplotlib.pyplot as plt
import pandas as pd

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.improvement import draw_improvements, known_pairs
from analysis.draw.intervals import ROW_INCHES, bars_and_lines, draw_panels, interval_numbers, label_width

IMPROVEMENT_RANGE = (0.35, 0.95)
IMPROVEMENT_TICKS = (0.5, 0.7, 0.9)


def summary_figure(comparison: Comparison, context: Context) -> Drawing:
    """Left P(X > Y) of the full agent over each ablation, right the interquartile means; one row per agent."""
    comparison = comparison.chosen(context)
    subject, rows = comparison.subject, comparison.rows(context)
    suites = [suite for suite in (comparison.suite, comparison.without) if suite is not None]
    entries, known = [context.aggregates[suite] for suite in suites], known_pairs(comparison, context)
    with style.house_style():
        size = (label_width(rows) + 5.6, 0.9 + ROW_INCHES * len(rows))
        figure, (left, right) = plt.subplots(1, 2, figsize=size, layout="constrained", gridspec_kw={"wspace": 0.06})
        pairs = {row: (subject, method) for row, method in enumerate(rows) if (subject, method) in known}
        improvements = draw_improvements(left, comparison, context, pairs)
        draw_panels([right], entries[0], rows, ["iqm"], entries[1] if entries[1:] else None)
        for axes in (left, right):
            axes.set_yticks(range(len(rows)), [naming.shown(row) for row in rows] if axes is left else [])
            axes.set_ylim(-0.7, len(rows) - 0.3)
        low, high = IMPROVEMENT_RANGE
        xlim = min(low, improvements.low.min() - 0.03), max(high, improvements.high.max() + 0.03)  # of any subject
        left.set(xlim=xlim, title=f"P({naming.brief(subject)} > Y)", xticks=IMPROVEMENT_TICKS)
        right.set_xlabel("Human-normalised score")
    numbers = [
        improvements.rename(columns={"y": "method"})
        .assign(metric=f"P({subject} > method)")
        .drop(columns=["x", "runs_other"])
    ]
    numbers += [interval_numbers(entry, rows, ["iqm"]) for entry in entries]
    repetitions = f"{context.options.repetitions_improvement} and {context.options.repetitions_aggregates}"
    caption = (
        f"{comparison.heading(context)}; left: probability that a run of {naming.brief(subject)} beats a run of Y on "
        "a game, averaged over games; right: interquartile mean of human-normalised scores; "
        f"{bars_and_lines(comparison, context, repetitions)}"
    )
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption, comparison.defects(context))
