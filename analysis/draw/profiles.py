"""Performance profiles: the share of runs that score above each threshold."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.curves import draw_curve
from analysis.draw.intervals import label_width
from analysis.stats import metrics

MOST_INSIDE, LINE_INCHES = 9, 0.22  # lines of the legend inside the panel, and their height


def profile_figure(comparison: Comparison, context: Context) -> Drawing:
    """Tau from 0 to 8, pointwise 95 % bands; a profile crosses the dashed line at its median run."""
    comparison = comparison.chosen(context)
    grid, thin = metrics.PROFILE_GRID, comparison.without
    methods = comparison.columns(context)
    parts = []
    with style.house_style():
        is_crowded = len(methods) > MOST_INSIDE
        size = (6.4 + label_width(methods), max(4.0, LINE_INCHES * len(methods))) if is_crowded else (6.4, 4.0)
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        for method in methods:
            values, colour = _profile(context, comparison.suite, method), style.colour(method)
            points = values.rename(columns={"share": "mean"})
            draw_curve(axes, points, "tau", colour, style.line(method), linewidth=2, label=naming.shown(method))
            parts.append(values)
            if thin is not None:
                parts.append(_profile(context, thin, method))
                axes.plot(grid, parts[-1].share, ":", color=colour, linewidth=1)
        axes.axhline(0.5, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
        axes.set(xlim=(0, grid[-1]), ylim=(0, 1.02), xlabel="Human-normalised score τ", ylabel="Share of runs above τ")
        style.tidy(axes, grid="both")
        place: dict[str, Any] = (
            {"loc": "upper left", "bbox_to_anchor": (1, 1)} if is_crowded else {"loc": "upper right"}
        )
        axes.legend(frameon=False, **place)
    caption = (
        f"{comparison.heading(context)}: performance profiles, the share of all runs with a human-normalised score "
        "above τ; bands are pointwise 95 % stratified bootstrap intervals "
        f"({context.options.repetitions_profiles} repetitions)."
    )
    if thin is not None:
        caption += (
            f" Dotted: the same without {comparison.left_out(context)} ({len(context.suites[thin].tasks)} games)."
        )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption, comparison.defects(context))


def _profile(context: Context, suite: str, method: str) -> pd.DataFrame:
    """One method's profile with its band; of a single run, the band is the line itself."""
    scores = context.suites[suite].scores[method]
    generator = context.options.generator(suite, "profile", method)
    low, high = context.engine.profile(scores, generator, context.options.repetitions_profiles)
    share = metrics.performance_profile(scores)
    columns = {"method": method, "tau": metrics.PROFILE_GRID, "share": share, "low": low, "high": high}
    return pd.DataFrame(columns).assign(tasks=scores.shape[1])
