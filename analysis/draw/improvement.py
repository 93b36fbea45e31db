"""Probability of improvement: the chance that a run of one method beats a run of another on a random game."""

from itertools import chain

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.data.aggregates import PAIRED_SUITES
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.intervals import ROW_INCHES, bars_and_lines, draw_interval, draw_thin_interval, label_width
from analysis.errors import require

Pair = tuple[str, str]


def improvement_figure(comparison: Comparison, context: Context) -> Drawing:
    """P(X > Y) of the paper's agent over the others and, if there are complete ones, over our runs and of our runs."""
    comparison = comparison.chosen(context)
    subject, rows = comparison.subject, comparison.rows(context)
    pairs = known_pairs(comparison, context)
    pairs.sort(key=lambda pair: (pair[0] != subject, rows.index(pair[0]), rows.index(pair[1])))
    several = any(map(naming.is_ours, chain(*pairs)))
    labels = [f"{naming.brief(x)} > {naming.brief(y)}" if several else naming.shown(y) for x, y in pairs]
    shown = naming.brief(subject)
    with style.house_style():
        size = (3.8 + label_width(labels), 1.0 + ROW_INCHES * len(pairs))
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        numbers = draw_improvements(axes, comparison, context, dict(enumerate(pairs)))
        style.label_rows(axes, labels)
        axes.set(
            xlim=(0, 1),
            **{"xlabel": "P(X > Y)"} if several else {"xlabel": f"P({shown} > Y)", "ylabel": "Y"},
        )
    caption = (
        f"{comparison.heading(context)}: probability that a run of {'X' if several else shown} beats a run of method Y "
        f"on a game, averaged over games; "
        f"{bars_and_lines(comparison, context, context.options.repetitions_improvement)}"
    )
    return Drawing(figure, numbers, caption, comparison.defects(context))


def known_pairs(comparison: Comparison, context: Context) -> list[Pair]:
    """X and Y of every P(X > Y) of a comparison that there is; ``NoData`` without any."""
    known = context.aggregates[PAIRED_SUITES[comparison.suite]]
    pairs = [(x, y) for x, y in comparison.pairs(context) if y in known.get(x, {})]  # a single run is in none
    reason = f"{comparison.subject} has one value per game, or nothing to be compared with: name another --subject"
    return require(pairs, reason)


def draw_improvements(axes: Axes, comparison: Comparison, context: Context, pairs: dict[int, Pair]) -> pd.DataFrame:
    """Intervals of P(X > Y) at their rows, and a dashed line at one half. Returns the plotted numbers."""
    suites = [suite for suite in (comparison.suite, comparison.without) if suite is not None]
    records = []
    for suite, draw in zip(suites, (draw_interval, draw_thin_interval)):
        for row, (x, y) in pairs.items():
            entry = context.aggregates[PAIRED_SUITES[suite]][x][y]
            draw(axes, row, entry, y, style.hatch(y) or style.hatch(x))
            records.append({"x": x, "y": y, **entry})
    axes.axvline(0.5, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
    style.bar_panel(axes)
    return pd.DataFrame(records)
