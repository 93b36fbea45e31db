"""Curves: the mean over runs as a line with a band around it, and panels for them."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.draw import style


def over_seeds(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of ``return_mean`` over seeds at every epoch at which one of them was evaluated.

    Between its own epochs a seed counts with straight lines. From the first to the last epoch that all seeds reach;
    where they share none, at the epochs of each. The final protocol replaces the test of its epoch. A single seed has
    no deviation (NaN).
    """
    last = evaluations.sort_values("split").drop_duplicates(["seed", "epoch"])  # final < test
    wide = last.pivot(index="epoch", columns="seed", values=["env_steps", "return_mean"]).astype(float)
    wide = wide.interpolate("index", limit_area="inside")
    is_shared = wide.return_mean.notna().all(axis=1)
    wide = wide[is_shared] if is_shared.any() else wide
    returns = wide.return_mean
    columns = {
        "env_steps": wide.env_steps.mean(axis=1),
        "mean": returns.mean(axis=1),
        "deviation": returns.std(axis=1, ddof=1),
        "seeds": returns.count(axis=1),
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
