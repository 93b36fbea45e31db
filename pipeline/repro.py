"""Train what the active suite asks for, then make tables, figures and report, also where runs fail.

python -m pipeline.repro            ``make repro``
python -m pipeline.repro --report   ``make report``: from the runs that are there, training nothing

DVC goes on past a failed run, but then skips the last floor of the pipeline, which depends on all of them. It is made
all the same, from what is there, stage by stage: a run that is trained later makes it stale again. The runs without a
result are named at the end and in the report; the status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import psutil

from pipeline import failures
from pipeline.plan import active_plan
from tokenworlds.cli import RESUME, STATUS_BUG, Terminated, exit_status, print_error, raise_on_sigterm
from tokenworlds.config import project_root
from tokenworlds.errors import excerpt
from tokenworlds.redaction import redact
from tokenworlds.runs.layout import scores_folder
from tokenworlds.tracking.store import resolve_uri

LAST_FLOOR = ("collect", "aggregate", "tables", "figures", "report")
MOST = 20  # runs that are named


def reproduce(only_report: bool) -> int:
    """Train, draw, send the report to MLflow, and name what has no result."""
    results = project_root() / "results"
    scores_folder().mkdir(parents=True, exist_ok=True)  # a dependency of the first stage of the last floor
    failures.keep(results, {})  # a report of the runs that fail from now on
    status = 0 if only_report else dvc("repro", "--all-pipelines", "--keep-going")
    plan = active_plan()
    absent = failures.absent(plan) if plan else {}
    if status and not (absent and is_readable()):
        return status  # not of a run: DVC has said which stage, or which mistake
    has_scores = any(scores_folder().rglob("*.json"))
    if only_report or (status and has_scores):
        failures.keep(results, absent)
        if floor := dvc("repro", "--single-item", *LAST_FLOOR):
            return floor
    if only_report or has_scores:
        for module in ("pipeline.publish", "pipeline.artifacts"):  # neither fails the command
            subprocess.run([sys.executable, "-m", module], check=False)
        print(f"\nreport    {results / 'report' / 'index.html'}")
        print(f"scores    {results / 'collected' / 'scores.csv'} (every run: {scores_folder()})")
        print(f"MLflow    {redact(resolve_uri())} (look at it: make ui)", flush=True)
    if plan and absent:
        print_error(f"{len(absent)} of {len(plan.runs)} runs of suite {plan.suite} have no result.")
        name(absent)
    return STATUS_BUG if absent and not only_report else 0


def name(absent: Mapping[str, str | None]) -> None:
    """Say of each run what ended it, or that nothing did: failed ones first."""
    ordered = sorted(absent.items(), key=lambda item: item[1] is None)
    for run, reason in ordered[:MOST]:
        print(f"  {run} failed: {excerpt(reason, 300)}" if reason else f"  {run} is not trained yet", file=sys.stderr)
    if len(ordered) > MOST:
        print(f"  and {len(ordered) - MOST} more", file=sys.stderr)


def dvc(*arguments: str) -> int:
    """Run DVC, whose output is shown as it is; return its exit status."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments])
    try:
        while process.poll() is None:  # after Ctrl-C `wait` would wait once more
            time.sleep(0.05)
    except KeyboardInterrupt as interruption:
        number = signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT
        stop(process, number, time.monotonic() - started)
        raise
    return process.returncode


def stop(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """End DVC, which ignores Ctrl-C while a stage runs and would go on with the next one, and wait for the stage.

    DVC is ended while it does nothing but wait. A stage that began before has got Ctrl-C from the terminal, but not
    SIGTERM.

    Args:
        seconds: between the start of DVC and the interruption.
    """
    began, stages = 0.0, []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        began = parent.create_time() + seconds  # `time.time` differs from such times by up to a second
        while process.poll() is None and not (stages := parent.children(recursive=True)):
            time.sleep(0.05)
    process.terminate()
    for stage in stages:
        with contextlib.suppress(psutil.NoSuchProcess):
            if number == signal.SIGTERM or stage.create_time() > began:
                stage.send_signal(number)
    psutil.wait_procs(stages)
    process.wait()


def is_readable() -> bool:
    """Whether DVC can read the pipeline, so that what failed is a stage."""
    asked = subprocess.run([sys.executable, "-m", "dvc", "dag", "--dot"], capture_output=True, check=False)
    return asked.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.repro", description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="only redraw, from the runs that are there")
    options = parser.parse_args(arguments)
    raise_on_sigterm()
    return exit_status(lambda: reproduce(options.report), remedy=RESUME)


if __name__ == "__main__":
    sys.exit(main())
