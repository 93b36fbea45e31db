"""Curves: the mean over runs as a line with a band around it, and panels for them."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.draw import style


def over_seeds(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of ``return_mean`` over seeds at every evaluated epoch.

    The final protocol replaces the test of its epoch. A single seed has no deviation (NaN).
    """
    last = evaluations.sort_values("split").drop_duplicates(["seed", "epoch"])  # final < test
    by_epoch = last.groupby("epoch")
    columns = {
        "env_steps": by_epoch.env_steps.mean(),
        "mean": by_epoch.return_mean.mean(),
        "deviation": by_epoch.return_mean.std(ddof=1),
        "seeds": by_epoch.seed.nunique(),
    }
    return pd.DataFrame(columns).reset_index()


def draw_curve(
    axes: Axes,
    points: pd.DataFrame,
    x: str,
    colour: style.Colour,
    line: style.Line = "-",
    alpha: float = 0.2,
    **look: Any,
) -> None:
    """Draw the line ``points["mean"]`` over the column ``x``.

    The band is from ``low`` to ``high``, or one ``deviation`` around the mean where there are no such columns.
    """
    axes.plot(points[x], points["mean"], linestyle=line, color=colour, **look)
    if "low" in points:
        low, high = points.low, points.high
    else:
        low, high = points["mean"] - points.deviation, points["mean"] + points.deviation
    axes.fill_between(points[x], low, high, color=colour, alpha=alpha, linewidth=0)


def panel_grid(count: int, columns: int, size: tuple[float, float], **subplots: Any) -> tuple[Figure, Sequence[Axes]]:
    """``count`` panels in rows of at most ``columns``, in a figure of ``size`` inches."""
    columns = min(columns, count)
    figure, grid = plt.subplots(
        -(-count // columns), columns, figsize=size, squeeze=False, layout="constrained", **subplots
    )
    for surplus in grid.flat[count:]:
        surplus.remove()
    return figure, list(grid.flat[:count])
