"""R10: learning curves of our runs on every task, with intervals, and in numbers."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis.context import Context
from analysis.data import naming
from analysis.data.notes import curve_notes
from analysis.data.runs import ATARI_FAMILY
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.curves import over_seeds, panel_grid
from analysis.draw.tables import NO_RUN, Columns, records_table
from analysis.errors import require
from analysis.item import Item
from analysis.stats.interval_methods import t_half_width
from analysis.stats.metrics import error_of_runs
from analysis.studies import records

CONTRIBUTED = "contributed"
LEVELS = (0.1, 0.25, 0.5, 1.0)  # human-normalised scores
SEEDS_OF_A_BAND = 3  # with two, the interval is 18 times as wide as they are apart: it would fill the panel
COLUMNS = 3
PANEL_INCHES = (3.1, 2.2)


def evaluations(context: Context) -> pd.DataFrame:
    """Tests during training, human-normalised on Atari; the final protocol replaces the test of its epoch. Contributed
    curves are of a scale of their own; runs of more steps than their own are left out.

    Raises:
        NoData: no run was tested, and no curve is contributed.
    """
    added = [
        each.evaluations(family).assign(method=label, variant="", scale=CONTRIBUTED, contributed=label)
        for label, each in context.contributed.items()
        for family in each.families
    ]
    ours = context.comparable(context.evaluations)
    tests = pd.concat([part for part in (ours, *added) if len(part)]) if added else ours
    tests = require(tests, f"no tests of our runs yet: {records.COMMAND}")
    last = tests.sort_values("split", kind="stable").drop_duplicates([*records.IDENTITY, "epoch"])
    values = records.with_values(last.reset_index(drop=True), "return_mean", context)
    if added:
        values["label"] = values.contributed.fillna(values.label)
    return values.sort_values([*records.IDENTITY, "epoch"])


def curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds at every tested epoch, and its 95 % t interval; NaN for a single seed."""
    points = over_seeds(rows.assign(return_mean=rows.value))
    half = t_half_width(points.deviation.to_numpy(), points.seeds.to_numpy())
    return points.assign(low=points["mean"] - half, high=points["mean"] + half)


def _panels(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Scale, task and rows of every panel, paper scale first."""
    panels = [(str(scale), str(task), rows) for (scale, task), rows in frame.groupby(["scale", "task"])]
    return sorted(panels, key=lambda panel: (records.paper_first(panel[0]), panel[1]))


def curves_figure(context: Context) -> Drawing:
    """R10-F-curves: a panel per task and scale."""
    frame = evaluations(context)
    panels = _panels(frame)
    columns = min(COLUMNS, len(panels))
    rows_of_panels = -(-len(panels) // columns)
    labels = list(dict.fromkeys(frame.sort_values(records.GROUP).label))
    parts = []
    with style.house_style():
        size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows_of_panels + 0.22 * -(-len(labels) // columns) + 0.2)
        figure, grid = panel_grid(len(panels), columns, size)
        for axes, (scale, task, rows) in zip(grid, panels):
            parts += [part.assign(task=task, scale=scale) for part in _draw(axes, rows, labels)]
            axes.set_title(f"{task.removeprefix(ATARI_FAMILY)} ({scale})")
            axes.set_ylabel("HNS" if rows.is_normalised.all() else "Return")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.locator_params(axis="x", nbins=5)
            style.tidy(axes, grid="both")
        figure.supxlabel("Environment steps", fontsize=10)
        handles = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels())}
        named = {naming.shown(label): handles[label] for label in labels if label in handles}
        lines, names = named.values(), named.keys()
        figure.legend(lines, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
    caption = (
        "Tests of our runs and contributed curves against environment steps, a panel per task and scale; HNS: "
        "human-normalised score. Thick "
        "lines are means over seeds, bands 95 % t intervals of the mean, cut at the panel's edge; with fewer than "
        f"{SEEDS_OF_A_BAND} seeds thin lines are the seeds instead. The last point is the final evaluation."
        f"{records.notes(frame.task, context)}"
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption, curve_notes(context.origins, labels))


def _draw(axes: Axes, rows: pd.DataFrame, labels: list[str]) -> Iterator[pd.DataFrame]:
    """Draw the curves of a panel; its limits are those of the seeds, as the interval of few can be much wider."""
    for label, own in rows.groupby("label", sort=True):
        points, colour = curve(own), style.tint(str(label), labels)
        band = points[points.seeds >= SEEDS_OF_A_BAND]
        if len(band):
            axes.fill_between(band.env_steps, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        elif points.seeds.max() > 1:
            for _, run in own.groupby("seed"):
                axes.plot(run.env_steps, run.value, color=colour, linewidth=0.6, alpha=0.6)
        look: dict[str, Any] = {"color": colour, "linestyle": style.line(str(label)), "marker": ".", "linewidth": 1.8}
        axes.plot(points.env_steps, points["mean"], label=str(label), **look)
        yield points.assign(method=label)
    low, high = rows.value.min(), rows.value.max()
    margin = 0.15 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)


def area(steps: pd.Series, values: pd.Series) -> float:
    """Mean height of a run's curve: its area (straight lines between tests) over its length; of one test its value."""
    x, y = steps.to_numpy(dtype=np.float64), values.to_numpy(dtype=np.float64)
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if x[-1] > x[0] else float(y.mean())


def first_reached(steps: pd.Series, values: pd.Series, level: float) -> float:
    """Environment steps of the first test at or above a level; NaN if there is none."""
    reached = steps[values >= level]
    return float(reached.iloc[0]) if len(reached) else np.nan


def curves_table(context: Context) -> Table:
    """R10-T-curves: area under the curve, lowest, highest and last point, and steps to fixed levels."""
    frame = evaluations(context)
    entries = [
        _entry(str(label), scale, task, rows)
        for scale, task, panel in _panels(frame)
        for label, rows in panel.groupby("label", sort=True)
    ]
    columns: Columns = {
        "method": ("Run", ""),
        "task": ("Task", ""),
        "seeds": ("Seeds", "{:.0f}"),
        "area": ("Mean of the curve", "{:.3f}"),
        "area_error": ("± seeds", "{:.3f}"),
        "lowest": ("Lowest test", "{:.3f}"),
        "highest": ("Highest test", "{:.3f}"),
        "last": ("Last test", "{:.3f}"),
        **{f"steps_to_{level:g}": (f"Steps to {level:g}", partial(_steps, f"{level:g}")) for level in LEVELS},
    }
    caption = (
        "Learning curves of our runs in numbers, human-normalised on Atari: mean of the curve (area under it over its "
        "length, mean over seeds, ± standard error over seeds), lowest and highest test of any seed, last test, and "
        "environment steps to the first test at or above a level: median of the seeds that reach it, and how many do. "
        f"{NO_RUN}: no seed reaches it, no human score, or a single seed."
        f"{records.notes(frame.task, context)}"
    )
    labels = dict.fromkeys(frame.label)
    return records_table(entries, columns, caption, text_columns=2, defects=curve_notes(context.origins, labels))


def _entry(label: str, scale: str, task: str, rows: pd.DataFrame) -> dict[str, object]:
    runs = [run for _, run in rows.groupby("seed")]
    areas = np.array([area(run.env_steps, run.value) for run in runs])
    entry: dict[str, object] = {"method": label, "scale": scale, "task": task, "seeds": len(runs)}
    entry |= {"area": float(areas.mean()), "area_error": error_of_runs(areas)}
    entry |= {"lowest": float(rows.value.min()), "highest": float(rows.value.max())}
    entry["last"] = float(np.mean([run.value.iloc[-1] for run in runs]))
    has_human = bool(rows.is_normalised.all())
    for level in LEVELS:
        found = [first_reached(run.env_steps, run.value, level) for run in runs] if has_human else []
        reached = [steps for steps in found if not np.isnan(steps)]
        entry[f"steps_to_{level:g}"] = float(np.median(reached)) if reached else np.nan
        entry[f"reached_{level:g}"] = len(reached) if has_human else np.nan
    return entry


def _steps(level: str, entry: Mapping[str, Any]) -> str:
    steps = entry[f"steps_to_{level}"]
    if np.isnan(steps):
        return NO_RUN
    return f"{EngFormatter(sep='')(steps)} ({entry[f'reached_{level}']} of {entry['seeds']})"


ITEMS = (
    Item("R10-F-curves", "beyond", "figure", "Our runs: learning curves", curves_figure, evaluations),
    Item("R10-T-curves", "beyond", "table", "Our runs: learning in numbers", curves_table, evaluations),
)
