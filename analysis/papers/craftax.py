"""Craftax: return against environment steps, and the last points in per cent of the maximal return.

Published are five runs of M3 and ten of each baseline. M3's points are tests of a number of episodes, those of the
baselines returns of training episodes at every update. Our runs at paper scale are drawn with them, others in panels of
their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from analysis.comparisons import chosen
from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId, remember
from analysis.data.notes import curve_notes
from analysis.data.published import CRAFTAX, CRAFTAX_MAXIMUM, CRAFTAX_METHODS, craftax_curves
from analysis.data.runs import PAPER_SCALE
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.curves import draw_curve
from analysis.draw.tables import Cell, render
from analysis.stats import bootstrap

FAMILY = "craftax/"
PERCENT = 100.0 / CRAFTAX_MAXIMUM

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Runs of one method: the environment steps and the returns of each."""

    name: str
    scale: str
    curves: tuple[tuple[Values, Values], ...]

    @property
    def last_points(self) -> Values:
        """Every run's return at its own last point, shape (N,)."""
        return np.array([returns[-1] for _, returns in self.curves])

    @property
    def shares_steps(self) -> bool:
        """Whether all runs have points at the same steps, where all of them have begun and none has ended."""
        grid = self.grid()
        return all(np.isin(grid, steps).all() for steps, _ in self.curves)

    def grid(self) -> Values:
        """Steps at which any run has a point, from where all runs have begun to where the first ends."""
        low, high = max(steps[0] for steps, _ in self.curves), min(steps[-1] for steps, _ in self.curves)
        every = np.unique(np.concatenate([steps for steps, _ in self.curves]))
        return np.asarray(every[(every >= low) & (every <= high)])

    def on_grid(self) -> Values:
        """Returns at the steps of the grid, shape (N, P): a run's own points, straight lines between them."""
        return np.stack([np.interp(self.grid(), steps, returns) for steps, returns in self.curves])


def published_runs() -> list[Runs]:
    """M3 and the baselines."""
    frame = craftax_curves()
    return [Runs(name, PAPER_SCALE, _curves(frame[frame.method == name])) for name in CRAFTAX_METHODS]


def contributed_runs(context: Context) -> list[Runs]:
    """Methods from files dropped in, drawn with the published ones."""
    parts = {label: each.evaluations(FAMILY[:-1]) for label, each in context.contributed.items()}
    return [
        Runs(label, PAPER_SCALE, _curves(frame.rename(columns={"return_mean": "score"})))
        for label, frame in parts.items()
        if len(frame)
    ]


def methods(context: Context) -> list[str]:
    """All methods that are shown, published and contributed ones."""
    return [runs.name for runs in (*published_runs(), *contributed_runs(context))]


def _chosen(everything: Sequence[Runs], context: Context) -> list[Runs]:
    """What was asked for of these."""
    by_name = {runs.name: runs for runs in everything}
    return [by_name[name] for name in chosen(by_name, context)]


def our_runs(context: Context) -> list[Runs]:
    """Curves of our runs, paper scale first; the final protocol replaces the test of its epoch."""
    ours = context.comparable(context.evaluations)
    frame = ours[ours.task.str.startswith(FAMILY)]
    found = []
    for (task, *key), rows in frame.groupby(["task", "method", "variant", "scale"]):
        group = RunGroupId(*key)
        last = rows.sort_values("split").drop_duplicates(["seed", "epoch"])  # final < test
        curves = _curves(last.rename(columns={"return_mean": "score"}))
        found.append(Runs(_label(str(task), group), group.scale, curves))
    return sorted(found, key=lambda runs: (runs.scale != PAPER_SCALE, runs.name))


def _label(task: str, group: RunGroupId) -> str:
    """Label of our runs; it names the task only where that is not the published one."""
    is_published = task.removeprefix(FAMILY) == CRAFTAX.removeprefix("Craftax-")
    return group.label() if is_published else remember(f"{group.label()}, {task}", group)


def _curves(frame: pd.DataFrame) -> tuple[tuple[Values, Values], ...]:
    runs = [rows.sort_values("env_steps") for _, rows in frame.groupby("seed")]
    return tuple((rows.env_steps.to_numpy(np.float64), rows.score.to_numpy(np.float64)) for rows in runs)


def mean_interval(values: Values, generator: np.random.Generator, repetitions: int) -> tuple[Values, Values, Values]:
    """Mean over the N runs of ``values`` (N, P) and the bounds of its 95 % percentile bootstrap, each of shape (P,).

    Whole runs are drawn with replacement. A single run has no interval, nor have equal ones: their bounds are NaN.
    """
    mean = values.mean(axis=0)
    if (values == values[0]).all():
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    counts = bootstrap.draw_counts(generator, repetitions, 1, len(values))[:, 0]
    low, high = bootstrap.bounds(counts @ values / len(values))
    return mean, low, high


def points(runs: Runs, context: Context) -> pd.DataFrame:
    """The curve of one method: a row per step."""
    generator = context.options.generator("craftax", "curve", runs.name)
    mean, low, high = mean_interval(runs.on_grid(), generator, context.options.repetitions_profiles)
    columns = {"env_steps": runs.grid(), "mean": mean, "low": low, "high": high, "percent": mean * PERCENT}
    return pd.DataFrame(columns).assign(method=runs.name, scale=runs.scale, runs=len(runs.curves))


def curves_figure(context: Context) -> Drawing:
    """M3-F-craftax: mean and interval over runs against environment steps, a panel per scale."""
    everything = _chosen([*published_runs(), *contributed_runs(context), *our_runs(context)], context)
    scales = list(dict.fromkeys(runs.scale for runs in everything))
    parts = []
    with style.house_style():
        size = (6.6, 0.4 + 3.6 * len(scales))
        figure, panels = plt.subplots(len(scales), 1, figsize=size, squeeze=False, layout="constrained")
        for axes, scale in zip(panels[:, 0], scales):
            for runs in (runs for runs in everything if runs.scale == scale):
                parts.append(points(runs, context))
                label = f"{naming.shown(runs.name)}, {naming.counted(len(runs.curves), 'run')}"
                look = style.colour(runs.name), style.line(runs.name)
                draw_curve(axes, parts[-1], "env_steps", *look, label=label, linewidth=1.8)
            _finish(axes, scale if len(scales) > 1 else "")
    notes = curve_notes(context.origins, [runs.name for runs in everything])
    return Drawing(figure, pd.concat(parts, ignore_index=True), _caption(everything, context), notes)


def _finish(axes: Axes, scale: str) -> None:
    """Add both axes of returns, and the legend above the panel, where no curve can reach it."""
    axes.set(xlabel="Environment steps", ylabel="Return", xlim=(0, None))
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), None)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    functions = (lambda value: np.asarray(value) * PERCENT, lambda value: np.asarray(value) / PERCENT)
    percent = axes.secondary_yaxis("right", functions=functions)
    percent.set_ylabel(f"% of the maximal return {CRAFTAX_MAXIMUM:.0f}")
    style.tidy(axes, grid="both")
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "alignment": "left"}
    title = f"{scale.capitalize()} scale" if scale else None
    axes.legend(frameon=False, fontsize=9, ncols=2, title=title, **place)


def _caption(everything: list[Runs], context: Context) -> str:
    uneven = [naming.shown(runs.name) for runs in everything if not runs.shares_steps]
    parts = [
        "Craftax-1M: return against environment steps; lines are means over runs, bands pointwise 95 % bootstrap "
        f"intervals of the mean ({context.options.repetitions_profiles} repetitions), right the same in per cent of "
        f"{CRAFTAX_MAXIMUM:.0f}. M3: tests of 32 episodes, the last of 100; baselines: training episodes. A curve "
        "begins where all of its runs have ended an episode.",
        f"Where a run has no point at a step of the others ({naming.listed(uneven)}), a straight line joins its own."
        if uneven
        else "",
        "Dashed or dotted: ours." if any(naming.is_ours(runs.name) for runs in everything) else "",
        "Runs below paper scale stand apart and can be compared with nothing published."
        if any(runs.scale != PAPER_SCALE for runs in everything)
        else "",
    ]
    return " ".join(filter(None, parts))


def last_points_table(context: Context) -> Table:
    """M3-T-craftax: the last point of every run, mean and interval, as return and in per cent of 226."""
    last = {name: (steps, values) for name, steps, values in _last_points(context)}
    records = [_record(name, *last[name], context) for name in chosen(last, context)]
    lines = [
        [
            Cell(naming.shown(str(record["method"]))),
            Cell(str(record["runs"])),
            Cell("–" if np.isnan(float(record["env_steps"])) else f"{record['env_steps']:,.0f}"),
            *_with_interval(record, ("return", "return_low", "return_high")),
            *_with_interval(record, ("percent", "percent_low", "percent_high")),
        ]
        for record in records
    ]
    headers = ["Method", "Runs", "Environment steps", "Return", "95 %", f"% of {CRAFTAX_MAXIMUM:.0f}", "95 %"]
    caption = (
        "Craftax-1M: mean over runs of the return at the last point, with a 95 % bootstrap interval over runs "
        f"({context.options.repetitions_aggregates} repetitions), and the same in per cent of the maximal return "
        f"{CRAFTAX_MAXIMUM:.0f}. M3: a test of 100 episodes; baselines: training episodes of the last update."
    )
    if any(naming.is_ours(str(record["method"])) for record in records):
        caption += " Ours: the final evaluation; runs below paper scale can be compared with nothing published."
    shown = [str(record["method"]) for record in records]
    return render(headers, lines, pd.DataFrame(records), caption, defects=curve_notes(context.origins, shown))


def _last_points(context: Context) -> Iterator[tuple[str, float, Values]]:
    """Name, environment steps and last returns; ours from their scores, which need no run folder."""
    for runs in (*published_runs(), *contributed_runs(context)):
        yield runs.name, float(np.mean([steps[-1] for steps, _ in runs.curves])), runs.last_points
    for group in context.groups:
        for task, rows in group.rows[group.rows.task.str.startswith(FAMILY)].groupby("task"):
            if task in group.beyond:
                continue
            yield _label(str(task), group.id), float(rows.env_steps.mean()), rows.score.to_numpy(np.float64)


def _record(name: str, steps: float, values: Values, context: Context) -> dict[str, float | int | str]:
    generator = context.options.generator("craftax", "last point", name)
    bounds = mean_interval(values[:, None], generator, context.options.repetitions_aggregates)
    mean, low, high = (float(bound[0]) for bound in bounds)
    return {
        "method": name, "runs": len(values), "env_steps": steps,
        "return": mean, "return_low": low, "return_high": high,
        "percent": mean * PERCENT, "percent_low": low * PERCENT, "percent_high": high * PERCENT,
    }  # fmt: skip


def _with_interval(record: dict[str, float | int | str], names: tuple[str, str, str]) -> list[Cell]:
    point, low, high = (float(record[name]) for name in names)
    return [Cell(f"{point:.2f}"), Cell("–" if np.isnan(low) else f"{low:.2f} – {high:.2f}")]
