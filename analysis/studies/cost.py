"""R9: what a score costs. Runs are compared on the same tasks and the same hardware only."""

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
from analysis.draw.tables import Cell, render
from analysis.item import Item, NoData
from analysis.stats import metrics
from analysis.stats.bootstrap import FastEngine
from analysis.studies import records

MARKERS = {"paper": "o", "small": "s", "smoke": "D"}
OTHER_MARKER = "^"
MAX_NAMED_TASKS = 3
SECONDS = {
    "seconds_collection": "Collection", "seconds_tokenizer": "Tokenizer", "seconds_world_model": "World model",
    "seconds_actor_critic": "Controller", "seconds_evaluation": "Tests",
}  # fmt: skip
MEGA, GIBI, HOUR = 1e6, 2.0**30, 3600.0
PANEL_INCHES = 2.3


@dataclass(frozen=True)
class Board:
    """What may be compared: runs on these tasks with this hardware."""

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

    @property
    def is_atari(self) -> bool:
        """Whether scores are human-normalised."""
        return f"{self.family}/" == ATARI_FAMILY


def require_hours(context: Context) -> None:
    """Raise ``NoData`` without a run whose hours are recorded."""
    if not records.runs(context).hours.notna().any():
        raise NoData(f"no run times of ours yet: {records.COMMAND}")


def without_hours(context: Context) -> str:
    """How many runs cannot be placed, for the caption; "" if all can."""
    number = int(records.runs(context).hours.isna().sum())
    if not number:
        return ""
    runs, are = ("runs", "are") if number > 1 else ("run", "is")
    return f" {number} {runs} without recorded hours {are} left out."


def boards(context: Context) -> list[Board]:
    """Every set of tasks that some group of runs was trained on, with the groups that have all of them."""
    frame = records.runs(context)
    frame = frame[frame.hours.notna()]
    found = []
    for (family, hardware), rows in frame.groupby(["family", "hardware"], sort=True):
        played = {label: frozenset(group.task) for label, group in rows.groupby("label")}
        for tasks in sorted(set(played.values()), key=lambda names: (-len(names), sorted(names))):
            members = [label for label, names in played.items() if names >= tasks]
            chosen = rows[rows.label.isin(members) & rows.task.isin(tasks)]
            found.append(Board(tuple(sorted(tasks)), str(hardware), chosen, str(family)))
    return found


def pareto(hours: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other one beats: less or equal time and more or equal score, one of them strictly."""
    cheaper = (hours[:, None] <= hours) & (scores[:, None] >= scores)
    strictly = (hours[:, None] < hours) | (scores[:, None] > scores)
    return np.asarray(~(cheaper & strictly).any(axis=0))


def points(board: Board, context: Context) -> pd.DataFrame:
    """A row per group: mean hours of a run, score (IQM on Atari, else the mean) with its interval, and the front."""
    metric = "iqm" if board.is_atari else "mean"
    rows = [_point(str(label), group, metric, context) for label, group in board.runs.groupby("label", sort=True)]
    frame = pd.DataFrame(rows).assign(tasks=" ".join(board.tasks), hardware=board.hardware)
    return frame.assign(front=pareto(frame.hours.to_numpy(), frame.score.to_numpy()))


def _point(label: str, rows: pd.DataFrame, metric: str, context: Context) -> dict[str, object]:
    values = records.matrix(rows)
    low, high = np.nan, np.nan
    if metrics.run_counts(values).min() > 1:
        generator = context.options.generator("cost", label, *sorted(rows.task.unique()))
        low, high = FastEngine().aggregates(values, generator, context.options.repetitions_profiles)[metric]
    point = {"method": label, "scale": rows.scale.iloc[0], "runs": len(rows), "hours": float(rows.hours.mean())}
    return {**point, "score": metrics.points(values)[metric], "low": low, "high": high, "metric": metric}


def cost_figure(context: Context) -> Drawing:
    """R9-F-cost: score against hours, a panel for every set of tasks and hardware."""
    everything = boards(context)
    numbers = [points(board, context) for board in everything]
    with style.house_style():
        size = (7.2, 0.3 + PANEL_INCHES * len(everything))
        figure, panels = plt.subplots(len(everything), 1, figsize=size, squeeze=False, layout="constrained")
        for axes, board, frame in zip(panels[:, 0], everything, numbers):
            _draw(axes, frame)
            axes.set_title(board.title, loc="left")
            axes.set_ylabel("IQM of HNS" if board.is_atari else "Mean return")
        panels[-1, 0].set_xlabel("Hours a run (logarithmic)")
    marks = sorted({str(scale) for frame in numbers for scale in frame.scale}, key=records.paper_first)
    shapes = {"o": "circle", "s": "square", "D": "diamond", OTHER_MARKER: "triangle"}
    named = ", ".join(f"{shapes[MARKERS.get(scale, OTHER_MARKER)]} {scale}" for scale in marks)
    caption = (
        "Score of our runs against the hours a run takes, tests included, a panel for each set of tasks and hardware. "
        f"Marks are means over runs (Atari: interquartile mean of human-normalised scores), of scale: {named}; "
        "vertical lines are 95 % stratified bootstrap intervals, none for single runs. Dashed: the Pareto front, what "
        f"no other mark beats in both. Dotted lines lead to the names.{without_hours(context)}"
        f"{records.about_raw(records.runs(context).task, context.references)}"
        f"{records.about_smoke(marks)}"
    )
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption)


def _draw(axes: Axes, frame: pd.DataFrame) -> None:
    labels = list(frame.method)
    front = frame[frame.front].sort_values("hours")
    axes.step(front.hours, front.score, where="post", color=style.faint(), linestyle="--", linewidth=1, zorder=1)
    for row in frame.itertuples():
        paint = records.paint(row.method, labels)
        axes.vlines(row.hours, row.low, row.high, color=paint, linewidth=2, alpha=0.6)
        marker = MARKERS.get(row.scale, OTHER_MARKER)
        axes.plot(row.hours, row.score, marker, color=paint, markersize=7, mec=style.ink(), mew=0.7, zorder=3)
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
    """Names in a column at the right, in the order of the scores, apart from each other, with lines to their marks."""
    low, high = axes.get_ylim()
    order = frame.sort_values(["score", "hours"])
    heights = spread(((order.score - low) / (high - low)).to_numpy(dtype=float), gap=0.085)
    for row, height in zip(order.itertuples(), heights):
        group = group_of(str(row.method))
        assert group is not None
        name = f"{naming.shown(group.name)} ({group.scale}), {row.runs} run{'s' if row.runs != 1 else ''}"
        axes.text(1.02, height, name, transform=axes.transAxes, va="center", fontsize=8)
        axes.annotate(
            "",
            xy=(row.hours, row.score),
            xytext=(1.01, height),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": style.faint(), "linewidth": 0.7, "linestyle": ":"},
        )


def spread(places: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Ascending places moved apart to at least ``gap``, as little as one pass up and one down need."""
    result = places.astype(np.float64).copy()
    for index in range(1, len(result)):
        result[index] = max(result[index], result[index - 1] + gap)
    surplus = max(0.0, float(result[-1]) - 1.0)
    result[-1] -= surplus
    for index in range(len(result) - 2, -1, -1):
        result[index] = min(result[index], result[index + 1] - gap)
    return result


def cost_table(context: Context) -> Table:
    """R9-T-cost: time, size and memory of our runs, by method, family of tasks and hardware."""
    entries = list(_costs(context))
    headers = [
        "Run", "On", "Hardware", "Runs", "Hours", "Steps/s", "Parameters",
        *(f"{name} (s)" for name in SECONDS.values()), "Memory (GiB)", "Score",
    ]  # fmt: skip
    lines = [
        [
            Cell(naming.shown(str(entry["method"]))),
            Cell(str(entry["on"])),
            Cell(str(entry["hardware"]) or records.NONE),
            Cell(str(entry["runs"])),
            Cell(records.number(entry["hours"], "{:.3g}")),
            Cell(records.number(entry["steps_per_second"], "{:.1f}")),
            Cell(records.number(entry["parameters"], "{:.2f} M", MEGA)),
            *(Cell(records.number(entry[name], "{:.3g}")) for name in SECONDS),
            Cell(records.number(entry["peak_memory_bytes"], "{:.1f}", GIBI)),
            Cell(records.number(entry["score"], "{:.3f}")),
        ]
        for entry in entries
    ]
    frame = records.runs(context)
    caption = (
        "What our runs cost, means over runs: hours of a run with its tests, environment steps a second over all of "
        "it, trained parameters, seconds an epoch of each activity in the epochs that have it, peak memory of the "
        "accelerator. Score: interquartile mean of human-normalised scores on Atari, mean return elsewhere, over the "
        f"tasks at hand. {records.NONE}: not recorded.{records.about_raw(frame.task, context.references)}"
        f"{records.about_smoke(frame.scale)}"
    )
    return render(headers, lines, pd.DataFrame(entries), caption, text_columns=3)


def _costs(context: Context) -> Iterator[dict[str, object]]:
    frame = records.runs(context)
    measured = context.costs.drop(columns=["hardware", "hours", "epochs", "env_steps"])
    frame = frame.merge(measured, on=records.IDENTITY, how="left", validate="one_to_one")
    for (label, family, hardware), rows in frame.groupby(["label", "family", "hardware"], sort=True):
        metric = "iqm" if f"{family}/" == ATARI_FAMILY else "mean"
        tasks = rows.task.nunique()
        yield {
            "method": label,
            "on": f"{family}, {tasks} task{'s' if tasks > 1 else ''}",
            "hardware": hardware,
            "runs": len(rows),
            "hours": rows.hours.mean(),
            "steps_per_second": (rows.env_steps / rows.hours).mean() / HOUR,
            **{name: rows[name].mean() for name in ("parameters", *SECONDS, "peak_memory_bytes")},
            "score": metrics.points(records.matrix(rows))[metric],
        }


ITEMS = (
    Item("R9-F-cost", "beyond", "figure", "Our runs: score against cost", cost_figure, require_hours),
    Item("R9-T-cost", "beyond", "table", "Our runs: time, size and memory", cost_table, require_hours),
)
