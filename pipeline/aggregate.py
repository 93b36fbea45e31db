"""Stage ``aggregate``: all aggregates with intervals, once, for the stages that draw them; and a file of DVC metrics.

python -m pipeline.aggregate [--runs results/collected/scores.csv] [--out results/aggregated]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import aggregates, metrics
from analysis.context import Context, make_context
from analysis.published import ATARI
from pipeline.console import exit_status

SHOWN_PUBLISHED = "IRIS"
DIGITS = 6


def our_metrics(context: Context) -> dict[str, Any]:
    """What `dvc metrics diff` compares: our scores by task, our aggregates, and the published IRIS as a landmark."""
    result: dict[str, Any] = {
        "published": {SHOWN_PUBLISHED: _rounded(metrics.points(context.suites[ATARI].scores[SHOWN_PUBLISHED]))}
    }
    for group in context.groups:
        means = {str(task): float(rows.score.mean()) for task, rows in group.rows.groupby("task")}
        entry: dict[str, Any] = {"score": _rounded(means)}
        for suite in context.suites.values():
            if group.label in suite.scores:
                entry[f"human_normalised_{len(suite.tasks)}_games"] = _rounded(
                    metrics.points(suite.scores[group.label])
                )
        result[group.short_label] = entry
    return result


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in values.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.aggregate", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/collected/scores.csv"), help="CSV of our runs")
    parser.add_argument("--out", type=Path, default=Path("results/aggregated"), help="folder to write")
    parser.add_argument("--engine", choices=sorted(aggregates.ENGINES), default="fast", help="who resamples")
    parser.add_argument("--repetitions", type=int, help="at most so many repetitions (default: analysis/params.yaml)")
    options = parser.parse_args(arguments)

    def command() -> None:
        context = make_context(options.runs, options.engine, options.repetitions)
        aggregates.write(context.aggregates, options.out / "aggregates.json")
        (options.out / "metrics.json").write_text(json.dumps(our_metrics(context), indent=1) + "\n")
        print(f"{len(context.suites)} suites -> {options.out}")

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
