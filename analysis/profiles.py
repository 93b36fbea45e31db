"""Performance profiles: the share of runs that score above each threshold."""

import matplotlib.pyplot as plt
import pandas as pd

from analysis import metrics, style
from analysis.artefacts import Drawing
from analysis.context import Context
from analysis.intervals import IRIS_METHODS, with_ours
from analysis.published import ATARI


def iris_profiles(context: Context) -> Drawing:
    """IRIS-F-pp: tau from 0 to 8, pointwise 95 % bands; a profile crosses the dashed line at its median run."""
    suite, grid = context.suites[ATARI], metrics.PROFILE_GRID
    parts = []
    with style.house_style():
        figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        for method in with_ours(context, IRIS_METHODS):
            values = metrics.performance_profile(suite.scores[method])
            low, high = _band(context, method)
            line = "--" if style.is_ours(method) else "-"
            colour = style.colour(method)
            axes.plot(grid, values, line, color=colour, linewidth=2, label=style.shown(method))
            axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
            parts.append(pd.DataFrame({"method": method, "tau": grid, "share": values, "low": low, "high": high}))
        axes.axhline(0.5, color="0.45", linestyle="--", linewidth=1, zorder=0)
        axes.set(xlim=(0, grid[-1]), ylim=(0, 1.02), xlabel="Human-normalised score τ", ylabel="Share of runs above τ")
        style.tidy(axes, grid="both")
        axes.legend(frameon=False, loc="upper right")
    caption = (
        "Atari-100k, 26 games: performance profiles, the share of all runs with a human-normalised score above τ; "
        f"bands are pointwise 95 % stratified bootstrap intervals ({context.options.repetitions_profiles} repetitions)."
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption)


def _band(context: Context, method: str) -> metrics.Matrix:
    """Band of shape (2, 201); a single run has none, so the band is the line itself."""
    scores = context.suites[ATARI].scores[method]
    generator = context.options.generator(ATARI, "profile", method)
    return context.engine.profile(scores, generator, context.options.repetitions_profiles)
