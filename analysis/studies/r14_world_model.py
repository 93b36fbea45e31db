"""R14: how good the world models of our runs are, on episodes that they were not trained on (docs/metrics.md)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.world_model import CALIBRATION, MEASURES, NO_HORIZON, Measure, summary
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.curves import draw_curve, panel_grid
from analysis.draw.tables import NO_RUN, Cell, Columns, records_table
from analysis.errors import require
from analysis.item import Item
from analysis.studies import records
from tokenworlds.runs.columns import OPEN_LOOP, OTHER, STILL, TEACHER_FORCED, TOKENIZER

FORCED = {
    "loss_observations": ("Loss a token", "{:.3f}"), "accuracy": ("Tokens right", "{:.1%}"),
    "loss_rewards": ("Loss of rewards", "{:.3f}"), "reward_accuracy": ("Rewards right", "{:.1%}"),
    "loss_ends": ("Loss of ends", "{:.4f}"), "end_accuracy": ("Ends right", "{:.1%}"),
}  # fmt: skip
DRAWN = ("mse", "ssim", "symlog_error", "accuracy")
LINES: dict[str, Any] = {OPEN_LOOP: "-", STILL: "--", OTHER: ":", TOKENIZER: "-."}
LINE_NAMES = {
    OPEN_LOOP: "world model", STILL: "frame stands still", OTHER: "another episode", TOKENIZER: "tokenizer alone",
}  # fmt: skip
LINEAR = {"reward": 0.1, "end": 0.001}  # up to which the axes of calibration are linear
HORIZON_PANELS, CALIBRATION_PANELS = (3, 3.1, 2.3), (2, 4.4, 2.9)  # columns, width and height in inches
BY_TASK, BY_FAMILY = ("scale", "task", "label"), ("scale", "family", "label")


def measured(context: Context) -> pd.DataFrame:
    """Measures of every episode, with label and family of their runs.

    Raises:
        NoData: no world model of ours was measured.
    """
    frame = require(context.world_models, f"no world model of ours was measured yet: {records.COMMAND}")
    groups = list(frame[records.GROUP].itertuples(index=False, name=None))
    labels = {key: RunGroupId(*key).label() for key in dict.fromkeys(groups)}
    return frame.assign(label=[labels[key] for key in groups], family=frame.task.str.partition("/")[0])


def on_shared_tasks(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows that a figure compares: of each scale and family of tasks those on the tasks that all methods have, or
    all where there is none; and a sentence about what is left out, empty if that is nothing."""
    pairs = frame[[*BY_TASK, "family"]].drop_duplicates()
    methods = pairs.groupby(["scale", "family"]).label.transform("nunique")
    is_shared = pairs.groupby(["scale", "task"]).label.transform("nunique") == methods
    is_kept = is_shared | ~is_shared.groupby([pairs.scale, pairs.family]).transform("any")
    left_out = sorted({*pairs[~is_kept].task})
    kept = frame.merge(pairs[is_kept], on=[*BY_TASK, "family"])
    return kept, f" Without tasks that not all methods of a panel have: {', '.join(left_out)}." if left_out else ""


def summaries(frame: pd.DataFrame, context: Context, by: Sequence[str]) -> pd.DataFrame:
    """``summary`` of every group of ``by``, which begins with the scale; paper scale first."""
    parts = []
    for key, rows in frame.groupby(list(by), sort=True):
        generator = context.options.generator("world model", *map(str, key))
        found = summary(rows, generator, context.options.repetitions_profiles)
        parts.append(found.assign(**dict(zip(by, key)), runs=len(rows[["task", "seed"]].drop_duplicates())))
    parts.sort(key=lambda part: records.paper_first(part.scale.iloc[0]))
    return pd.concat(parts, ignore_index=True)


def with_interval(entry: Mapping[str, Any], name: str, form: str) -> str:
    """A number of an entry, and its interval if it has one."""
    value, low, high = (entry.get(f"{name}{end}", np.nan) for end in ("", "_low", "_high"))
    if np.isnan(value):
        return NO_RUN
    return form.format(value) + ("" if np.isnan(low) else f" [{form.format(low)}, {form.format(high)}]")


def _numbers(name: str, row: Any) -> dict[str, float]:
    return {name: row.value, f"{name}_low": row.low, f"{name}_high": row.high}


# What follows real frames


def forced_table(context: Context) -> Table:
    """R14-T-forced: a row per run and task."""
    frame = summaries(measured(context), context, BY_TASK)
    scores = records.runs(context, with_beyond=True).groupby(list(BY_TASK)).score.mean()
    columns: Columns = {
        "method": ("Run", ""),
        "task": ("Task", ""),
        "runs": ("Runs", "{:.0f}"),
        "episodes": ("Episodes", "{:.0f}"),
        **{name: (title, partial(with_interval, name=name, form=form)) for name, (title, form) in FORCED.items()},
        "tokenizer": ("Tokenizer (dB)", "{:.1f}"),
        "score": ("Score", "{:.2f}"),
    }
    caption = (
        "World models of our runs on final episodes, with all real frames before each prediction, and 95 % bootstrap "
        "intervals over episodes: cross-entropy of a token in nats (compare within one decoding), of rewards and of "
        "ends; shares of the most likely tokens, of rewards expected to within a half, and of ends that are right. "
        "Tokenizer: PSNR of real frames that pass through it. Score: mean return of the final evaluation, raw. "
        f"{NO_RUN}: not measured."
    )
    entries = []
    for (scale, task, label), rows in frame.groupby(list(BY_TASK), sort=False):
        forced = rows[(rows.predictor == TEACHER_FORCED) & rows.measure.isin([*FORCED])]
        pictures = rows[(rows.predictor == TOKENIZER) & (rows.measure == "mse")]
        entry: dict[str, object] = {"method": label, "scale": scale, "task": task, "runs": rows.runs.max()}
        entry |= {"episodes": rows.episodes.max(), "tokenizer": pictures.value.mean()}
        entry |= {"score": scores.get((scale, task, label), np.nan)} | dict.fromkeys(FORCED, np.nan)
        for row in forced.itertuples():
            entry |= _numbers(str(row.measure), row)
        entries.append(entry)
    return records_table(entries, columns, caption, text_columns=2)


# What follows imagined ones


def quality_table(context: Context) -> Table:
    """R14-T-quality: a row per run, task and measure, a column per horizon."""
    frame = summaries(measured(context), context, BY_TASK)
    frame = frame[frame.measure.isin(MEASURES) & (frame.horizon > NO_HORIZON)]
    columns: Columns = {
        "method": ("Run", ""),
        "task": ("Task", ""),
        "title": ("Measure", ""),
        **{f"{OPEN_LOOP} {at}": (str(at), partial(_cell, at=at)) for at in sorted(frame.horizon.unique())},
    }
    caption = (
        "Predictions of our runs' world models so many steps after the last real frame, under the real actions of "
        "final episodes, with 95 % bootstrap intervals over episodes. Bold: the interval lies beyond what the "
        "last real frame standing still and another episode in its place get, which are in the CSV. Squared "
        "errors of the reward and of the probability of the end are means over the steps up to there. Ends within "
        "2 steps: of the episodes' ends up to there, share that an imagined end comes so near to. "
        f"{NO_RUN}: no episode is as long."
    )
    return records_table(list(_entries(frame)), columns, caption, text_columns=3)


def _entries(frame: pd.DataFrame) -> Iterator[dict[str, object]]:
    for (scale, task, label), run in frame.groupby(list(BY_TASK), sort=False):
        for name, measure in MEASURES.items():
            parts = run[run.measure == name].groupby("part", sort=True)
            for part, rows in parts:
                title = f"{measure.title}, {part}" if part and len(parts) > 1 else measure.title
                entry = {"method": label, "scale": scale, "task": task, "title": title, "measure": name, "part": part}
                for row in rows.itertuples():
                    entry |= _numbers(f"{row.predictor} {row.horizon}", row)
                yield entry


def _cell(entry: Mapping[str, Any], at: int) -> Cell:
    """The prediction at a horizon; bold where it is better than both baselines."""
    measure: Measure = MEASURES[entry["measure"]]
    baselines = [value for name in (STILL, OTHER) if not np.isnan(value := entry.get(f"{name} {at}", np.nan))]
    low, high = (entry.get(f"{OPEN_LOOP} {at}_{end}", np.nan) for end in ("low", "high"))
    is_better = bool(baselines) and (low > max(baselines) if measure.is_high_good else high < min(baselines))
    return Cell(with_interval(entry, f"{OPEN_LOOP} {at}", measure.form), bold=is_better)


def horizon_figure(context: Context) -> Drawing:
    """R14-F-horizon: a panel per family of tasks, scale and measure."""
    compared, left_out = on_shared_tasks(measured(context))
    frame = summaries(compared, context, BY_FAMILY)
    is_shown = (
        frame.measure.isin(DRAWN) & (frame.horizon > NO_HORIZON) & ~((frame.measure == "accuracy") & frame.part.ne(""))
    )
    frame = frame[is_shown]
    panels = [
        (f"{family} ({scale})", name, rows)
        for (scale, family), group in frame.groupby(["scale", "family"], sort=False)
        for name in DRAWN
        if len(rows := group[group.measure == name])
    ]
    labels = list(dict.fromkeys(frame.label))
    with style.house_style():
        figure, grid = _panels(len(panels), len(labels) + len(LINES), *HORIZON_PANELS)
        for axes, (title, name, rows) in zip(grid, panels):
            for (label, predictor), line in rows.groupby(["label", "predictor"], sort=False):
                points = line.groupby("horizon", as_index=False)[["value", "low", "high"]].mean()
                is_model = predictor == OPEN_LOOP
                draw_curve(
                    axes, points.rename(columns={"value": "mean"}), "horizon", style.tint(str(label), labels),
                    LINES[str(predictor)], 0.2 if is_model else 0.08, linewidth=1.8 if is_model else 1.0,
                )  # fmt: skip
            axes.set(title=title, ylabel=MEASURES[name].title, xscale="log")
            axes.set_xticks(ticks := sorted(rows.horizon.unique()), [str(tick) for tick in ticks])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(axis="x", which="minor", length=0)
            style.tidy(axes, grid="both")
        figure.supxlabel("Steps after the last real frame (logarithmic)", fontsize=10)
        kinds = [
            Line2D([], [], color=style.ink(), linestyle=LINES[key], label=name) for key, name in LINE_NAMES.items()
        ]
        _legend(figure, labels, HORIZON_PANELS[0], kinds)
    caption = (
        "Predictions of our runs' world models against the steps since the last real frame, under the real actions of "
        "final episodes, a panel per family of tasks, scale and measure; means over tasks, with 95 % bootstrap "
        "intervals over episodes as bands. Baselines: the last real frame stands still, and another episode goes on in "
        f"its place. Tokenizer alone: the real frames pass through it, which is no prediction.{left_out}"
    )
    return Drawing(figure, frame, caption)


def _panels(count: int, labels: int, columns: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Panels of this size with room for a legend of so many labels."""
    columns = min(columns, count)
    legend = 0.25 * -(-labels // columns)
    return panel_grid(count, columns, (width * columns, height * -(-count // columns) + legend + 0.3))


def _legend(figure: Figure, labels: Sequence[str], columns: int, kinds: Sequence[Line2D] = ()) -> None:
    runs = [Line2D([], [], color=style.tint(label, labels), linewidth=3, label=naming.shown(label)) for label in labels]
    figure.legend(handles=[*runs, *kinds], loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


# Calibration


def calibration_figure(context: Context) -> Drawing:
    """R14-F-calibration: predicted against observed rewards and ends."""
    compared, left_out = on_shared_tasks(measured(context))
    frame = summaries(compared, context, BY_FAMILY)
    frame = _calibration(frame[frame.measure.str.endswith(CALIBRATION)])
    panels = [
        (f"{family} ({scale}): {name}", name, rows)
        for (scale, family, name), rows in frame.groupby(["scale", "family", "outcome"], sort=False)
    ]
    labels = list(dict.fromkeys(frame.label))
    with style.house_style():
        figure, grid = _panels(len(panels), len(labels), *CALIBRATION_PANELS)
        for axes, (title, name, rows) in zip(grid, panels):
            for label, points in rows.groupby("label", sort=False):
                colour, x = style.tint(str(label), labels), points.predicted
                axes.plot(x, points.observed, color=colour, marker="o", markersize=3, linewidth=1.2)
                axes.vlines(x, points.low, points.high, color=colour, linewidth=1)
            _equal_axes(axes, rows[["predicted", "observed", "low", "high"]], LINEAR[name])
            axes.set(title=title, xlabel="Predicted", ylabel="Observed")
            style.tidy(axes, grid="both")
        _legend(figure, labels, CALIBRATION_PANELS[0])
    caption = (
        "Calibration of our runs' world models in the first 50 imagined steps: steps are binned by the reward, or the "
        "probability of the end, that is predicted; dots are the mean prediction and the mean outcome in a bin, lines "
        "95 % bootstrap intervals over episodes of the latter, means over tasks. On the grey line both are equal. Axes "
        f"are linear around zero and logarithmic beyond.{left_out}"
    )
    return Drawing(figure, frame, caption)


def _equal_axes(axes: Axes, values: pd.DataFrame, linear: float) -> None:
    """Both axes the same, linear up to ``linear`` and logarithmic beyond it, with the line of equal values."""
    largest = max(1.0, values.abs().max().max())
    above = [10.0**power for power in range(round(np.log10(linear)), int(np.ceil(np.log10(largest))) + 1)]
    below = [-value for value in reversed(above)] if values.min().min() < -linear / 2 else []
    ticks = [*below, 0.0, *above]
    ends = (1.3 * below[0] if below else -0.65 * linear, 1.3 * above[-1])
    axes.plot(ends, ends, color=style.faint(), linewidth=1, zorder=0)
    names = [f"{tick:g}" for tick in ticks]
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_yscale("symlog", linthresh=linear)
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.minorticks_off()
    axes.set(xlim=ends, ylim=ends)


def _calibration(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a bin: mean prediction, and mean outcome with its interval."""
    split = frame.assign(
        outcome=frame.measure.str.rpartition("_")[0],
        kind=frame.measure.str.rpartition("_")[2],
        bin=frame.part.astype(float),
    )
    keys = ["scale", "family", "outcome", "label", "bin"]
    predicted = split[split.kind == "predicted"].rename(columns={"value": "predicted"})[[*keys, "predicted"]]
    observed = split[split.kind == "observed"].rename(columns={"value": "observed"})
    columns = [*keys, "observed", "low", "high", "episodes", "runs"]
    return predicted.merge(observed[columns], on=keys, validate="one_to_one").sort_values(keys, ignore_index=True)


ITEMS = (
    Item("R14-T-quality", "beyond", "table", "Our runs: predictions of the world models", quality_table, measured),
    Item("R14-F-horizon", "beyond", "figure", "Our runs: predictions against the horizon", horizon_figure, measured),
    Item("R14-T-forced", "beyond", "table", "Our runs: world models given real frames", forced_table, measured),
    Item(
        "R14-F-calibration", "beyond", "figure", "Our runs: predicted and real outcomes", calibration_figure, measured
    ),
)
