"""Send the report with its aggregates, tables and figures to MLflow, as a run of an experiment of its own; then means
over the seeds of the runs, which are compared there.

python -m pipeline.publish [--results results] [--uri ADDRESS]

No stage, because nothing depends on it. The same report is sent once; what was sent in part is completed.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.data.aggregates import RESAMPLED
from analysis.stats.metrics import METRICS
from tokenworlds.cli import exit_status
from tokenworlds.errors import UserError
from tokenworlds.redaction import redact
from tokenworlds.runs.layout import RUN_SCORES
from tokenworlds.runs.settings import LABEL
from tokenworlds.tracking import store
from tokenworlds.tracking.batches import batches
from tokenworlds.tracking.over_seeds import summarise
from tokenworlds.tracking.revision import git_revision

EXPERIMENT = "tokenworlds-analysis"
RUN = "analysis"
CONTENT_TAG = "tokenworlds.report"  # hash of what was sent
SENT = (
    "collected/scores.csv", "aggregated/aggregates.json", "aggregated/metrics.json", "tables", "figures", "report",
)  # fmt: skip
NOT_IN_A_NAME = re.compile(r"[^\w\-. ]+")  # a slash parts suite, metric and method
COMMAND = "python -m pipeline.publish"


def metrics(results: Path) -> dict[str, float]:
    """``atari100k/iqm/IRIS`` -> 0.501: the aggregates of every suite and method."""
    path = results / "aggregated" / "aggregates.json"
    try:
        suites: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            _metric_name(suite, metric, method): float(value["point"])
            for suite, methods in suites.items()
            if suite != RESAMPLED
            for method, values in methods.items()
            for metric, value in values.items()
            if metric in METRICS  # the others are of pairs of methods
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} holds no aggregates ({error}); make them with `make report`.") from error


def _metric_name(*parts: str) -> str:
    """A name that MLflow accepts: ``DrQ(eps)`` -> ``DrQ eps``."""
    return "/".join(" ".join(NOT_IN_A_NAME.sub(" ", part).split()) for part in parts)


def content(results: Path) -> str:
    """A hash of everything that is sent."""
    digest = hashlib.sha256()
    for path in _files(results):
        digest.update(f"{path.relative_to(results).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def _files(results: Path) -> list[Path]:
    places = [results / name for name in SENT]
    found = [path for place in places for path in (place, *sorted(place.rglob("*")))]
    return [path for path in found if path.is_file()]


def tags(results: Path) -> dict[str, str]:
    """Tags of the MLflow run: this checkout's revision, and the hash of the report by which it is found again."""
    return {"git_revision": git_revision(), "stage": RUN, CONTENT_TAG: content(results)}


def send(results: Path, uri: str | None, values: Mapping[str, float]) -> str:
    """Send what MLflow lacks; return a sentence about it. Can be repeated after any exception of MLflow."""
    client, experiment = store.prepare(uri, EXPERIMENT)
    described = tags(results)
    found = client.search_runs([experiment], f"tags.`{CONTENT_TAG}` = '{described[CONTENT_TAG]}'", max_results=1)
    if found and found[0].info.status == "FINISHED":
        return f"{store.resolve_uri(uri)} has this report already."
    run = found[0] if found else client.create_run(experiment, run_name=RUN, tags=described)
    _send_metrics(client, run, values)
    for path in map(results.joinpath, SENT):
        if path.is_dir():
            client.log_artifacts(run.info.run_id, str(path), path.name)
        elif path.is_file():
            client.log_artifact(run.info.run_id, str(path), path.parent.name)
    client.set_terminated(run.info.run_id, "FINISHED")
    return f"{store.resolve_uri(uri)} has the report: experiment {EXPERIMENT}, run {run.info.run_id}."


def _send_metrics(client: Any, run: Any, values: Mapping[str, float]) -> None:
    """Send the metrics that the run lacks: MLflow would keep a second value beside the first."""
    from mlflow.entities import Metric

    time = run.info.start_time
    batch = [Metric(name, value, time, 0) for name, value in values.items() if name not in run.data.metrics]
    for request in batches(batch):
        client.log_batch(run.info.run_id, **request)


def publish(results: Path, uri: str | None = None) -> None:
    """Send the report and the summaries over seeds, or warn in one sentence that MLflow did not take them."""
    if not (results / "report" / "index.html").is_file():
        raise UserError(f"no report in {results / 'report'}: make one with `make report`.")
    values = metrics(results)
    try:
        print(redact(send(results, uri, values)))
    except Exception as error:  # as in training, a failing tracker must not fail the command
        address = redact(store.resolve_uri(uri))
        reason = str(error) if isinstance(error, UserError) else store.describe_error(error)
        print(
            f"warning: MLflow at {address} did not take the report ({reason}); it is complete in "
            f"{results / 'report'}, send it later with: {COMMAND}",
            file=sys.stderr,
            flush=True,
        )
        return
    runs = results / "runs"
    if any(runs.rglob(RUN_SCORES)):
        try:
            print(summarise([runs], uri, LABEL))
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of report, tables, figures")
    parser.add_argument("--uri", help="MLflow's address (default: $MLFLOW_TRACKING_URI, else the project's database)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: publish(options.results, options.uri))


if __name__ == "__main__":
    raise SystemExit(main())
