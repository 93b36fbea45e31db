"""Curves of some runs, published folders or not, outside the pipeline's own tables and figures.

    python analysis/learning.py results/runs/iris/minigrid/Empty-5x5/* --out docs/learning
    python analysis/learning.py results/runs/m3/{minigrid,dmc}/*/* --out docs/learning_m3
    python analysis/learning.py results/runs/rem*/atari/Pong/* --curve loss --out /tmp/losses

return: test returns against agent steps, a line a run and a panel a task, from ``evaluations.csv``; the last point is
the final protocol. The grey line is the random policy of the same runs (``scores.json``).
loss: of one task, the world model's loss on observation tokens against epochs, from ``metrics.jsonl``; mean and one
standard deviation (population) over the runs of each method or variant.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from analysis.data.identity import NAMES  # noqa: E402
from analysis.data.scores import read_table  # noqa: E402
from analysis.draw import style  # noqa: E402
from analysis.draw.artefacts import Drawing  # noqa: E402
from tokenworlds.cli import exit_status  # noqa: E402
from tokenworlds.errors import UserError  # noqa: E402
from tokenworlds.runs.settings import read_settings  # noqa: E402
from tokenworlds.tracking.journal import read_journal  # noqa: E402

LOSS = "world_model/{}/loss_observations"
SPLITS = {"train": ("-", "training"), "eval": ("--", "evaluation")}


def identity(run: Path, *needed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Who made a published run folder (with a label where its settings deviate from the shipped ones), and its
    ``scores.json``; ``needed`` are further files that it must have."""
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
    """Evaluations of a run, with its identity, and its random policy's score where there is one."""
    who, scores = identity(run, "evaluations.csv")
    baseline = scores["random"]["score"] if scores["random"] else float("nan")
    columns = ("epoch", "env_steps", "return_mean")
    read_table(run / "evaluations.csv", columns, columns)  # or a sentence about what is wrong
    return pd.read_csv(run / "evaluations.csv").assign(**who, random=baseline)


def read_losses(run: Path) -> pd.DataFrame:
    """The world model's loss on observation tokens: a row per epoch and split."""
    who, _ = identity(run, "metrics.jsonl")
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


def the_only(numbers: pd.DataFrame, column: str) -> str:
    """The one task or scale of all runs."""
    values = sorted(numbers[column].unique())
    if len(values) != 1:
        raise UserError(f"the runs differ in {column} ({', '.join(values)}); give those of one.")
    return str(values[0])


def look(method: str) -> tuple[str, str]:
    """Name (``rem+no-pop`` -> ``REM+no-pop``) and colour; a variant has its own colour."""
    base, _, variant = method.partition("+")
    name = NAMES.get(base, base)
    return name + method.removeprefix(base), style.colour(style.SAME_ABLATIONS.get(variant, variant) or name)


def learning_curves(runs: list[Path]) -> Drawing:
    """Runs of one scale, a panel a task."""
    numbers = pd.concat([read_returns(run) for run in runs], ignore_index=True)
    scale, names = the_only(numbers, "scale"), [look(method)[0] for method in dict.fromkeys(numbers.method)]
    tasks = numbers.groupby("task", sort=False)
    with style.house_style():
        size = (5.6 if len(tasks) == 1 else 3.4 * len(tasks), 3.0)
        figure, panels = plt.subplots(1, len(tasks), figsize=size, layout="constrained", squeeze=False)
        lines = dict(zip(sorted(numbers.seed.unique()), cycle(("-", "--", ":", "-."))))
        for axes, (task, of_task) in zip(panels[0], tasks):
            for (method, seed), run in of_task.groupby(["method", "seed"]):
                name, colour = look(method)
                label = f"seed {seed}" if len(names) == 1 else f"{name}, seed {seed}"
                mark = {"marker": "o", "markersize": 3, "color": colour, "label": label}
                axes.plot(run.env_steps, run.return_mean, lines[seed], **mark)
            if of_task.random.notna().any():
                axes.axhline(of_task.random.mean(), color="grey", linewidth=1, label="random policy")
            axes.set_xlabel("agent steps")
            if of_task.return_mean.min() >= 0:
                axes.set_ylim(0, None)
            if len(tasks) > 1:
                axes.set_title(task, fontsize=10)
            style.tidy(axes, grid="y")
        panels[0, 0].set_ylabel("test return")
        outside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(names) > 1 else {}
        named = {line.get_label(): line for axes in panels[0] for line in axes.get_lines()}
        panels[0, -1].legend(handles=list(named.values()), frameon=False, fontsize=9, **outside)
    caption = (
        f"{style.listed(names)} on {style.listed(list(tasks.groups))}, scale {scale}: test returns, the last point by "
        "the final protocol; random policy for comparison."
    )
    return Drawing(figure, numbers, caption)


def loss_curves(runs: list[Path]) -> Drawing:
    """REM-F-wmloss of our runs: a colour per method or variant, training solid, evaluation dashed."""
    losses = pd.concat([read_losses(run) for run in runs], ignore_index=True)
    task = f"{the_only(losses, 'task')}, scale {the_only(losses, 'scale')}"
    over_runs = losses.groupby(["method", "split", "epoch"]).loss
    numbers = over_runs.agg(mean="mean", deviation=lambda values: values.std(ddof=0), runs="size").reset_index()
    with style.house_style():
        figure, axes = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
        for (method, split), curve in numbers.groupby(["method", "split"]):
            (name, colour), (line, what) = look(method), SPLITS[split]
            axes.plot(curve.epoch, curve["mean"], line, color=colour, label=f"{name}, {what}")
            low, high = curve["mean"] - curve.deviation, curve["mean"] + curve.deviation
            axes.fill_between(curve.epoch, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel="epoch", ylabel="observation loss (nats a token)")
        axes.legend(frameon=False, fontsize=9)
        style.tidy(axes, grid="y")
    caption = (
        f"{task}: the world model's loss on observation tokens, mean and one standard deviation over "
        f"{style.listed(sorted({str(count) for count in numbers.runs}))} runs; evaluation at the epochs that evaluate."
    )
    return Drawing(figure, numbers, caption)


CURVES = {"return": learning_curves, "loss": loss_curves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="run folders")
    parser.add_argument("--curve", choices=CURVES, default="return", help="what to draw (default: return)")
    parser.add_argument("--out", type=Path, required=True, metavar="STEM", help="files to write, without their endings")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    CURVES[options.curve](options.runs).write(options.out)


if __name__ == "__main__":
    sys.exit(exit_status(main))
