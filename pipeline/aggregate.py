"""Stage ``aggregate``: all aggregates with intervals, once, for the stages that draw them; DVC's metrics and plots.

python -m pipeline.aggregate [--runs results/collected/scores.csv] [--out results/aggregated]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.context import Context, make_context
from analysis.data import aggregates
from analysis.draw.artefacts import check_folder
from analysis.stats import metrics
from analysis.stats.engines import ENGINES
from analysis.stats.metrics import Matrix
from pipeline.plots import check_plots, write_plots
from tokenworlds.cli import exit_status
from tokenworlds.files import write_atomic

DIGITS = 6
COMPARED = ("iqm", "mean")  # of experiments; all aggregates, also of published scores, stand in aggregates.json


def our_metrics(context: Context) -> dict[str, dict[str, float]]:
    """What `dvc exp show` and `dvc metrics diff` compare, a column a number: of our groups mean scores by task and,
    over several games, aggregates. Published scores change with no experiment, so they are none of them."""
    result = {}
    for group in context.groups:
        found = [suite.scores[group.label] for suite in context.suites.values() if group.label in suite.scores]
        scores = {str(task): float(rows.score.mean()) for task, rows in group.rows.groupby("task")}
        result[group.short_label] = (_aggregates(found[0]) if found else {}) | _rounded(scores)
    return result


def _aggregates(scores: Matrix) -> dict[str, float]:
    """``games`` is how many the aggregates are over; over a single one they would repeat its score."""
    if scores.shape[1] == 1:
        return {}
    points = metrics.points(scores)
    return {"games": scores.shape[1], **_rounded({name: points[name] for name in COMPARED})}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in values.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.aggregate", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/collected/scores.csv"), help="CSV of our runs")
    parser.add_argument("--out", type=Path, default=Path("results/aggregated"), help="folder to write")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="fast", help="who resamples")
    parser.add_argument("--repetitions", type=int, help="at most so many repetitions (default: analysis/params.yaml)")
    options = parser.parse_args(arguments)

    def command() -> None:
        check_folder(options.out)
        check_plots(options.out / "plots")
        context = make_context(options.runs, options.engine, options.repetitions)
        aggregates.write(context.aggregates, options.out / "aggregates.json")
        write_atomic(options.out / "metrics.json", (json.dumps(our_metrics(context), indent=1) + "\n").encode())
        write_plots(context, options.out / "plots")
        print(f"{len(context.suites)} suites -> {options.out}")
        if games := sorted({game for group in context.groups for game in group.without_human}):
            print(f"without a human score, so in no human-normalised aggregate: {', '.join(games)}")

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
