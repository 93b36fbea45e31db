"""Curves of the published run folders that one names, outside the report: ``make_figures.py --folders FOLDER ...``.

* ``return``: test returns against agent steps from ``evaluations.csv``, a line per run and a panel per task. The last
  point is the final protocol, the grey line the random policy of the same runs (``scores.json``).
* ``loss``: the world model's loss on observation tokens of one task against epochs from ``metrics.jsonl``: mean and one
  standard deviation (population) over the runs of each method or variant.
"""

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter

from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.scores import read_table
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.curves import draw_curve, panel_grid
from tokenworlds.errors import UserError
from tokenworlds.runs.settings import read_settings
from tokenworlds.tracking.journal import read_journal

LOSS = "world_model/{}/loss_observations"
SPLITS = {"train": ("-", "training"), "eval": ("--", "evaluation")}


def read_identity(run: Path, *needed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Method (with a label where the settings deviate from the shipped ones), task, scale and seed of a run folder, and
    its ``scores.json``.

    Raises:
        UserError: the folder lacks ``scores.json`` or a ``needed`` file, or its scores are damaged.
    """
    for name in (*needed, "scores.json"):
        if not (run / name).is_file():
            raise UserError(f"{run} is no published run: it has no {name}.")
    try:
        scores = json.loads((run / "scores.json").read_bytes())
        record = scores["run"]
        parts = record["method"], record.get("variant"), read_settings(record | scores).label()
        who = {"method": "+".join(filter(None, parts)), **{key: record[key] for key in ("task", "scale", "seed")}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{run / 'scores.json'} is damaged (it holds no scores of a run); train that run again or leave it out."
        ) from error
    return who, scores


def read_returns(run: Path) -> pd.DataFrame:
    """Evaluations of a run with its identity and, where it was measured, the random policy's score."""
    who, scores = read_identity(run, "evaluations.csv")
    baseline = scores["random"]["score"] if scores["random"] else float("nan")
    columns = ("epoch", "env_steps", "return_mean")
    read_table(run / "evaluations.csv", columns, columns)  # or a sentence about what is wrong
    return pd.read_csv(run / "evaluations.csv").assign(**who, random=baseline)


def read_losses(run: Path) -> pd.DataFrame:
    """Loss of the world model on observation tokens with the run's identity, a row per epoch and split."""
    who, _ = read_identity(run, "metrics.jsonl")
    rows = [
        {"epoch": record["step"], "split": split, "loss": record["values"][LOSS.format(split)]}
        for record in read_journal(run / "metrics.jsonl")
        if record["kind"] == "metrics"
        for split in SPLITS
        if LOSS.format(split) in record["values"]
    ]
    if not rows:
        raise UserError(f"{run}/metrics.jsonl holds no losses of a world model; give runs that trained one.")
    return pd.DataFrame(rows).assign(**who)


def only_value(numbers: pd.DataFrame, column: str) -> str:
    """The task or scale that all runs share."""
    values = sorted(numbers[column].unique())
    if len(values) != 1:
        raise UserError(f"the runs differ in {column} ({', '.join(values)}); give those of one.")
    return str(values[0])


def name_and_colour(method: str) -> tuple[str, str]:
    """``rem+no-pop`` -> ``REM+no-pop`` and the colour of that ablation."""
    base, _, variant = method.partition("+")
    group = RunGroupId(base, variant)
    return group.name, style.colour(group.label())


def return_curves(runs: list[Path]) -> Drawing:
    """Test returns of runs of one scale, a panel per task."""
    numbers = pd.concat([read_returns(run) for run in runs], ignore_index=True)
    names = [name_and_colour(method)[0] for method in dict.fromkeys(numbers.method)]
    scale, tasks = only_value(numbers, "scale"), numbers.groupby("task", sort=False)
    lines = dict(zip(sorted(numbers.seed.unique()), cycle(("-", "--", ":", "-."))))
    with style.house_style():
        figure, panels = panel_grid(len(tasks), len(tasks), (5.6 if len(tasks) == 1 else 3.4 * len(tasks), 3.0))
        for axes, (task, of_task) in zip(panels, tasks):
            for (method, seed), run in of_task.groupby(["method", "seed"]):
                name, colour = name_and_colour(method)
                label = f"seed {seed}" if len(names) == 1 else f"{name}, seed {seed}"
                axes.plot(
                    run.env_steps, run.return_mean, lines[seed], marker="o", markersize=3, color=colour, label=label
                )
            if not np.isnan(random := of_task.groupby(["method", "seed"]).random.mean().mean()):
                axes.axhline(random, color="grey", linewidth=1, label="random policy")
            axes.set_xlabel("agent steps")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            if of_task.return_mean.min() >= 0:
                axes.set_ylim(0, None)
            if len(tasks) > 1:
                axes.set_title(task, fontsize=10)
            style.tidy(axes, grid="y")
        panels[0].set_ylabel("test return")
        outside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(names) > 1 else {}
        named = {line.get_label(): line for axes in panels for line in axes.get_lines()}
        panels[-1].legend(handles=list(named.values()), frameon=False, fontsize=9, **outside)
    caption = (
        f"{naming.listed(names)} on {naming.listed(list(tasks.groups))}, scale {scale}: test returns, the last point "
        "by the final protocol; random policy for comparison."
    )
    return Drawing(figure, numbers, caption)


def loss_curves(runs: list[Path]) -> Drawing:
    """Losses of the world model on one task: a colour per method or variant, training solid, evaluation dashed."""
    losses = pd.concat([read_losses(run) for run in runs], ignore_index=True)
    task = f"{only_value(losses, 'task')}, scale {only_value(losses, 'scale')}"
    over_runs = losses.groupby(["method", "split", "epoch"]).loss
    numbers = over_runs.agg(mean="mean", deviation=lambda values: values.std(ddof=0), runs="size").reset_index()
    with style.house_style():
        figure, (axes,) = panel_grid(1, 1, (5.6, 3.2))
        for (method, split), curve in numbers.groupby(["method", "split"]):
            (name, colour), (line, what) = name_and_colour(method), SPLITS[split]
            draw_curve(axes, curve, "epoch", colour, line, label=f"{name}, {what}")
        axes.set(xlabel="epoch", ylabel="observation loss (nats a token)")
        axes.legend(frameon=False, fontsize=9)
        style.tidy(axes, grid="y")
    caption = (
        f"{task}: the world model's loss on observation tokens, mean and one standard deviation over "
        f"{naming.listed(sorted({str(count) for count in numbers.runs}))} runs; evaluation at the epochs that evaluate."
    )
    return Drawing(figure, numbers, caption)


CURVES = {"return": return_curves, "loss": loss_curves}
