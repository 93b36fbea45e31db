"""Learning curves of some runs of one task, published folders or not, outside the pipeline's own tables and figures.

    python analysis/learning.py results/runs/iris/minigrid/Empty-5x5/* --out docs/learning

Test returns against agent steps, a line a run, from ``evaluations.csv``; the last point is the final protocol. The
dashed line is the random policy of the same runs (``scores.json``).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from analysis import style  # noqa: E402
from analysis.artefacts import Drawing  # noqa: E402
from pipeline.console import exit_status  # noqa: E402
from tokenworlds.errors import UserError  # noqa: E402


def read(run: Path) -> pd.DataFrame:
    """Evaluations of a published run folder, with the run's identity, and its random policy's score where there is
    one."""
    for name in ("evaluations.csv", "scores.json"):
        if not (run / name).is_file():
            raise UserError(f"{run} is no published run: it has no {name}.")
    scores = json.loads((run / "scores.json").read_text())
    evaluations = pd.read_csv(run / "evaluations.csv")
    baseline = scores["random"]["score"] if scores["random"] else float("nan")
    return evaluations.assign(
        **{key: scores["run"][key] for key in ("method", "task", "scale", "seed")}, random=baseline
    )


def learning_curves(runs: list[Path]) -> Drawing:
    """One panel for runs of one task and scale."""
    numbers = pd.concat([read(run) for run in runs], ignore_index=True)
    tasks = sorted({f"{row.task}, scale {row.scale}" for row in numbers.itertuples()})
    if len(tasks) != 1:
        raise UserError(f"the runs differ in task or scale ({'; '.join(tasks)}); give those of one.")
    with style.house_style():
        figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
        for (seed, run), line in zip(numbers.groupby("seed"), ("-", "--", ":", "-.", "-")):
            axes.plot(
                run.env_steps,
                run.return_mean,
                line,
                marker="o",
                markersize=3,
                color=style.colour("IRIS"),
                label=f"seed {seed}",
            )
        if numbers.random.notna().any():
            axes.axhline(numbers.random.mean(), color="grey", linewidth=1, label="random policy")
        axes.set_xlabel("agent steps")
        axes.set_ylabel("test return")
        axes.set_ylim(0, None)
        axes.legend(frameon=False, fontsize=9)
        style.tidy(axes, grid="y")
    return Drawing(
        figure,
        numbers,
        f"IRIS on {tasks[0]}: test returns, the last point by the final protocol; random policy for comparison.",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="run folders")
    parser.add_argument("--out", type=Path, required=True, metavar="STEM", help="files to write, without their endings")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    learning_curves(options.runs).write(options.out)


if __name__ == "__main__":
    sys.exit(exit_status(main))
