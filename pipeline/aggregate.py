"""Stage ``aggregate``: all aggregates with intervals, once, for the stages that draw them; DVC's metrics and plots.

python -m pipeline.aggregate [--runs results/collected/scores.csv] [--out results/aggregated]
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.context import Context, make_context
from analysis.data import aggregates
from analysis.draw.artefacts import check_folder
from analysis.stats import metrics
from analysis.stats.engines import ENGINES
from analysis.stats.metrics import Matrix
from pipeline.plots import REMEDY, check_plots, write_plots
from tokenworlds.cli import exit_status
from tokenworlds.files import refuse_foreign, remove_own, require_file, write_atomic

DIGITS = 6
COMPARED = ("iqm", "mean")  # of experiments; aggregates.json holds all of them, also of published scores
METHOD_FILES = ("*/*/*.json",)  # <scale>/<method>/<benchmark>


def our_metrics(context: Context) -> dict[str, dict[str, float]]:
    """Mean scores by task of each group of our runs and, over several games, aggregates. Published scores, which no
    experiment changes, are left out."""
    result = {}
    for group in context.groups:
        found = [suite.scores[group.label] for suite in context.suites.values() if group.label in suite.scores]
        scores = {str(task): float(rows.score.mean()) for task, rows in group.rows.groupby("task")}
        numbers = (_aggregates(found[0]) if found else {}) | scores
        result[group.short_label] = {name: round(value, DIGITS) for name, value in numbers.items()}
    return result


def method_metrics(context: Context, of_groups: Iterable[dict[str, float]]) -> dict[str, dict[str, float]]:
    """``smoke/rem+no-pop/atari`` -> a row of `dvc metrics show`: numbers of runs and tasks, mean hours of a run where
    they are known, mean score over tasks, and over several Atari games with a human score the
    human-normalised aggregates, which ``of_groups`` holds (the values of ``our_metrics``)."""
    result = {}
    for group, numbers in zip(context.groups, of_groups, strict=True):
        method = "+".join(filter(None, (group.id.method, group.id.variant)))
        for benchmark, rows in group.rows.groupby(group.rows.task.str.partition("/")[0]):
            scores = rows.groupby("task")["score"].mean()
            means = {"hours": rows.hours.mean(), "score": scores.mean()}
            if benchmark == "atari":
                means |= {name: numbers[name] for name in COMPARED if name in numbers}
            result[f"{group.scale}/{method}/{benchmark}"] = {
                "runs": len(rows),
                "tasks": len(scores),
                **{name: round(float(value), DIGITS) for name, value in means.items() if not math.isnan(value)},
            }
    return result


def write_methods(rows: dict[str, dict[str, float]], folder: Path) -> None:
    """Replace the files of an earlier call: one for each method and benchmark, of which DVC makes a row."""
    remove_own(folder, METHOD_FILES)
    for name, values in rows.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())


def _aggregates(scores: Matrix) -> dict[str, float]:
    """Aggregates and the number of ``games``; none over a single game, whose score they would repeat."""
    if scores.shape[1] == 1:
        return {}
    points = metrics.points(scores)
    return {"games": scores.shape[1]} | {name: points[name] for name in COMPARED}


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
        whole, ours = options.out / aggregates.FILE, options.out / "metrics.json"
        require_file(whole, aggregates.is_own, REMEDY)
        require_file(ours, lambda _: whole.is_file(), REMEDY)  # written together
        check_plots(options.out / "plots")
        refuse_foreign(options.out / "methods", METHOD_FILES, REMEDY)
        context = make_context(options.runs, options.engine, options.repetitions)
        aggregates.write(context.aggregates, whole, context.engine, context.options)
        numbers = our_metrics(context)
        write_atomic(ours, (json.dumps(numbers, indent=1) + "\n").encode())
        write_methods(method_metrics(context, numbers.values()), options.out / "methods")
        write_plots(context, options.out / "plots")
        print(f"{len(context.suites)} suites -> {options.out}")
        if games := sorted({game for group in context.groups for game in group.without_human}):
            print(f"without a human score, so in no human-normalised aggregate: {', '.join(games)}")

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
