"""R9: score against cost. Runs are compared on the same tasks and the same hardware only."""

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import group_of
from analysis.data.runs import ATARI_FAMILY
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.tables import NO_RUN, Columns, records_table
from analysis.errors import require
from analysis.item import Item
from analysis.stats import metrics
from analysis.stats.bootstrap import FastEngine
from analysis.studies import records

MARKERS = {"paper": ("o", "circle"), "small": ("s", "square"), "smoke": ("D", "diamond")}
OTHER_MARKER = ("^", "triangle")
MAX_NAMED_TASKS = 3
SECONDS = {
    "seconds_collection": "Collection", "seconds_tokenizer": "Tokenizer", "seconds_world_model": "World model",
    "seconds_actor_critic": "Controller", "seconds_evaluation": "Tests",
}  # fmt: skip
MEGA, GIBI, HOUR = 1e6, 2.0**30, 3600.0
PANEL_INCHES, NAME_INCHES = 2.3, 0.15


@dataclass(frozen=True)
class Board:
    """Runs that may be compared: on these tasks with this hardware."""

    tasks: tuple[str, ...]
    hardware: str
    runs: pd.DataFrame
    family: str  # values of one kind (``records.with_values``)

    @property
    def title(self) -> str:
        """Tasks (their number, if there are many) and hardware."""
        named = ", ".join(task.removeprefix(ATARI_FAMILY) for task in self.tasks)
        if len(self.tasks) > MAX_NAMED_TASKS:
            kind = "Atari games" if self.tasks[0].startswith(ATARI_FAMILY) else f"{self.family} tasks"
            named = f"{len(self.tasks)} {kind}"
        return f"{named} – {self.hardware or 'hardware not stated'}"


def metric_of(family: str) -> str:
    """IQM of human-normalised scores on Atari, mean return elsewhere."""
    return "iqm" if f"{family}/" == ATARI_FAMILY else "mean"


def timed_runs(context: Context) -> pd.DataFrame:
    """Our runs with recorded hours; ``NoData`` without any."""
    frame = records.runs(context, with_beyond=True)
    return require(frame[frame.hours.notna()], f"no run times of ours yet: {records.COMMAND}")


def compared_runs(context: Context) -> pd.DataFrame:
    """Those whose scores may be compared; ``NoData`` without any."""
    return require(context.comparable(timed_runs(context)), f"no runs to compare yet: {records.COMMAND}")


def boards(context: Context) -> list[Board]:
    """Every set of tasks that some group of runs was trained on, with the groups that have all of them."""
    found = []
    for (family, hardware), rows in compared_runs(context).groupby(["family", "hardware"], sort=True):
        tasks_of = {label: frozenset(group.task) for label, group in rows.groupby("label")}
        for tasks in sorted(set(tasks_of.values()), key=lambda names: (-len(names), sorted(names))):
            members = [label for label, names in tasks_of.items() if names >= tasks]
            chosen = rows[rows.label.isin(members) & rows.task.isin(tasks)]
            found.append(Board(tuple(sorted(tasks)), str(hardware), chosen, str(family)))
    return found


def pareto(hours: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a point is on the front: no other one has at most its time and at least its score, and is better in one
    of them."""
    cheaper = (hours[:, None] <= hours) & (scores[:, None] >= scores)
    strictly = (hours[:, None] < hours) | (scores[:, None] > scores)
    return np.asarray(~(cheaper & strictly).any(axis=0))


def points(board: Board, context: Context) -> pd.DataFrame:
    """A row per group: mean hours of a run, score with its interval, and whether it is on the front."""
    metric = metric_of(board.family)
    rows = [_point(str(label), group, metric, context) for label, group in board.runs.groupby("label", sort=True)]
    frame = pd.DataFrame(rows).assign(tasks=" ".join(board.tasks), hardware=board.hardware)
    return frame.assign(front=pareto(frame.hours.to_numpy(), frame.score.to_numpy()))


def _point(label: str, rows: pd.DataFrame, metric: str, context: Context) -> dict[str, object]:
    values = records.matrix(rows)
    low, high = np.nan, np.nan
    if metrics.run_counts(values).min() > 1 and metrics.tell_spread(values):
        generator = context.options.generator("cost", label, *sorted(rows.task.unique()))
        low, high = FastEngine().aggregates(values, generator, context.options.repetitions_profiles)[metric]
    point = {"method": label, "scale": rows.scale.iloc[0], "runs": len(rows), "hours": float(rows.hours.mean())}
    return {**point, "score": metrics.points(values)[metric], "low": low, "high": high, "metric": metric}


def cost_figure(context: Context) -> Drawing:
    """R9-F-cost: score against hours, a panel for every set of tasks and hardware."""
    everything = boards(context)
    numbers = [points(board, context) for board in everything]
    with style.house_style():
        heights = [max(PANEL_INCHES, 0.7 + NAME_INCHES * len(frame)) for frame in numbers]
        figure, panels = plt.subplots(
            len(everything), 1, figsize=(7.2, 0.3 + sum(heights)), squeeze=False, layout="constrained",
            height_ratios=heights,
        )  # fmt: skip
        for axes, board, frame in zip(panels[:, 0], everything, numbers):
            _draw(axes, frame)
            axes.set_title(board.title, loc="left")
            axes.set_ylabel("IQM of HNS" if metric_of(board.family) == "iqm" else "Mean return")
        panels[-1, 0].set_xlabel("Hours a run (logarithmic)")
    scales = sorted({str(scale) for frame in numbers for scale in frame.scale}, key=records.paper_first)
    named = ", ".join(f"{MARKERS.get(scale, OTHER_MARKER)[1]} {scale}" for scale in scales)
    frame = records.runs(context)
    untimed = int(frame.hours.isna().sum())
    are = "runs without recorded hours are" if untimed > 1 else "run without recorded hours is"
    left_out = f" {untimed} {are} left out." if untimed else ""
    caption = (
        "Score of our runs against the hours a run takes, tests included, a panel for each set of tasks and hardware. "
        f"Marks are means over runs (Atari: interquartile mean of human-normalised scores), of scale: {named}; "
        "vertical lines are 95 % stratified bootstrap intervals, none for single runs. Dashed: the Pareto front, what "
        f"no other mark beats in both. Dotted lines lead to the names.{left_out}"
        f"{records.notes(frame.task, context)}"
    )
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption)


def _draw(axes: Axes, frame: pd.DataFrame) -> None:
    front = frame[frame.front].sort_values("hours")
    axes.step(front.hours, front.score, where="post", color=style.faint(), linestyle="--", linewidth=1, zorder=1)
    for row in frame.itertuples():
        colour = style.tint(row.method, list(frame.method))
        axes.vlines(row.hours, row.low, row.high, color=colour, linewidth=2, alpha=0.6)
        marker, _ = MARKERS.get(row.scale, OTHER_MARKER)
        axes.plot(row.hours, row.score, marker, color=colour, markersize=7, mec=style.ink(), mew=0.7, zorder=3)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.2)
    if frame.hours.max() < 2 * frame.hours.min():  # a logarithmic axis needs some range for its ticks
        axes.set_xlim(frame.hours.min() / 2, frame.hours.max() * 2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    style.tidy(axes, grid="both")
    _name(axes, frame)


def _name(axes: Axes, frame: pd.DataFrame) -> None:
    """Write the names in a column at the right, in the order of the scores, with lines to their marks."""
    low, high = axes.get_ylim()
    order = frame.sort_values(["score", "hours"])
    heights = spread(((order.score - low) / (high - low)).to_numpy(dtype=float), gap=min(0.085, 1.0 / len(order)))
    for row, height in zip(order.itertuples(), heights):
        group = group_of(str(row.method))
        assert group is not None
        name = f"{naming.shown(group.name)} ({group.scale}), {row.runs} run{'s' if row.runs != 1 else ''}"
        axes.text(1.02, height, name, transform=axes.transAxes, va="center", fontsize=8)
        arrow = {"arrowstyle": "-", "color": style.faint(), "linewidth": 0.7, "linestyle": ":"}
        axes.annotate("", (row.hours, row.score), (1.01, height), textcoords="axes fraction", arrowprops=arrow)


def spread(places: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Ascending places moved apart to at least ``gap``, by one pass upwards and one downwards from at most 1."""
    result = places.astype(np.float64).copy()
    for index in range(1, len(result)):
        result[index] = max(result[index], result[index - 1] + gap)
    result[-1] -= max(0.0, float(result[-1]) - 1.0)
    for index in range(len(result) - 2, -1, -1):
        result[index] = min(result[index], result[index + 1] - gap)
    return result


def cost_table(context: Context) -> Table:
    """R9-T-cost: time, size and memory of our runs, by method, family of tasks and hardware."""
    columns: Columns = {
        "method": ("Run", ""),
        "on": ("On", ""),
        "hardware": ("Hardware", lambda entry: entry["hardware"] or NO_RUN),
        "runs": ("Runs", "{:.0f}"),
        "hours": ("Hours", "{:.3g}"),
        "steps_per_second": ("Steps/s", "{:.1f}"),
        "parameters": ("Parameters", "{:.2f} M", MEGA),
        **{name: (f"{title} (s)", "{:.3g}") for name, title in SECONDS.items()},
        "peak_memory_bytes": ("Memory (GiB)", "{:.1f}", GIBI),
        "score": ("Score", "{:.3f}"),
    }
    frame = records.runs(context, with_beyond=True)
    caption = (
        "What our runs cost, means over runs: hours of a run with its tests, environment steps a second over all of "
        "it, trained parameters, seconds an epoch of each activity in the epochs that have it, peak memory of the "
        "accelerator. Score: interquartile mean of human-normalised scores on Atari, mean return elsewhere, over the "
        f"tasks at hand. {NO_RUN}: not recorded.{records.notes(frame.task, context)}"
    )
    return records_table(list(_costs(context)), columns, caption, text_columns=3)


def _costs(context: Context) -> Iterator[dict[str, object]]:
    measured = context.costs.drop(columns=["hardware", "hours", "epochs", "env_steps"])
    frame = records.runs(context, with_beyond=True).merge(
        measured, on=records.IDENTITY, how="left", validate="one_to_one"
    )
    for (label, family, hardware), rows in frame.groupby(["label", "family", "hardware"], sort=True):
        tasks = rows.task.nunique()
        yield {
            "method": label,
            "on": f"{family}, {tasks} task{'s' if tasks > 1 else ''}",
            "hardware": hardware,
            "runs": len(rows),
            "hours": rows.hours.mean(),
            "steps_per_second": (rows.env_steps / rows.hours).mean() / HOUR,
            **{name: rows[name].mean() for name in ("parameters", *SECONDS, "peak_memory_bytes")},
            "score": metrics.points(records.matrix(rows))[metric_of(family)],
        }


ITEMS = (
    Item("R9-F-cost", "beyond", "figure", "Our runs: score against cost", cost_figure, compared_runs),
    Item("R9-T-cost", "beyond", "table", "Our runs: time, size and memory", cost_table, timed_runs),
)
