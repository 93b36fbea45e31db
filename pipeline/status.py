"""What has become of the runs of the active suite, and of all others that were begun: ``python -m pipeline.status``.

It reads files and asks nobody: scores, the launcher's files about attempts, and the scratch folders of trainings, also
of those that were started by hand or by DVC. ``--json`` prints an object with

* ``suite``, ``scale``: of the active suite, null without one
* ``is_launching``: whether a launcher is at work on this machine
* ``counts``: number of runs by state
* ``runs``: a list of objects, also for tokenizers that are pretrained: ``run`` (its name), ``method``, ``variant``,
  ``task``, ``seed``, ``scale``; ``state``; ``epoch`` (the last finished one), ``epochs``, ``left`` (estimated seconds
  from the end of that epoch on), ``host``, ``gpus``, ``job`` (of Slurm), ``attempts``, ``reason`` and ``log``, each
  null where it is unknown

States:

* ``done``: there are scores; whether code or settings have changed since, ``python -m pipeline.launch --dry`` says
* ``finished``: trained, and not yet registered with DVC
* ``outdated``: trained with code or settings that the workspace no longer has; not registered
* ``running``
* ``queued``: submitted, and not yet begun; for Ray only while a launcher is at work
* ``interrupted``: begun, at an end without a fault of its own; the next attempt goes on from the last checkpoint
* ``failed``: not tried again without a change
* ``cancelled``: by a person
* ``waiting``: nothing was done about it
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pipeline.clean import SCRATCH_NAME, run_folder_of
from pipeline.launch.attempts import CANCELLED, LOST_SECONDS, Attempt, Job, attempts_at, jobs, launch_folder, name_of
from pipeline.launch.jobs import input_hashes
from pipeline.launch.launcher import Options
from pipeline.launch.verdicts import End, Next, judge
from pipeline.plan import Plan, active_plan, recorded_hash, scores_of
from tokenworlds.cli import exit_status
from tokenworlds.config import project_root
from tokenworlds.errors import excerpt
from tokenworlds.locks import holder, is_held
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import JOURNAL, runs_folder
from tokenworlds.training.progress import duration
from tokenworlds.training.run_folder import is_scratch_of, scratch_root

PIECE = 1 << 16  # bytes at either end of a journal: a record of an epoch, or the parameters, has less


class State(StrEnum):
    """What has become of a run, in the order of the table."""

    DONE = "done"
    FINISHED = "finished"
    RUNNING = "running"
    QUEUED = "queued"
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OUTDATED = "outdated"


@dataclass(frozen=True)
class Row:
    """A run, or the tokenizer in the folder ``tokenizer``; what is unknown is None."""

    run: RunId
    state: State
    epoch: int | None = None
    epochs: int | None = None
    left: float | None = None
    host: str | None = None
    gpus: str | None = None
    job: str | None = None
    attempts: int | None = None
    reason: str | None = None
    log: str | None = None
    tokenizer: str = ""

    @property
    def name(self) -> str:
        """Of the run, or of the tokenizer."""
        return name_of(self.run, self.tokenizer)

    def record(self) -> dict[str, Any]:
        """For machines."""
        values = asdict(self)
        del values["tokenizer"]
        return {"run": self.name, **values.pop("run"), **values}


def rows(plan: Plan | None) -> list[Row]:
    """A row for every run of the suite, then for all others that were launched or that have a scratch folder, then for
    launched tokenizers that are not done."""
    known = [*jobs()]
    launched = {job.run: job for job in known if not job.tokenizer}
    tokenizers = [job for job in known if job.tokenizer]
    own = {Path(job.scratch) for job in tokenizers}
    begun = {run: folder for run, folder in trainings(scratch_root()).items() if folder not in own}
    wanted = dict.fromkeys([*(plan.runs if plan else ()), *launched, *begun])
    now, is_launching = _now(), is_held(launch_folder() / "lock")
    found = [_row(run, launched.get(run), begun.get(run), now, is_launching) for run in wanted]
    others = (_of_job(job, now, is_launching) for job in tokenizers)
    return [*found, *(row for row in others if row is not None and row.state is not State.DONE)]


def trainings(root: Path) -> dict[RunId, Path]:
    """Scratch folders of trainings, which a finished run has no more; of several of one run the one at work, or else
    the last that was changed."""
    found: dict[RunId, list[Path]] = defaultdict(list)
    for place, folders, _ in os.walk(root):
        if Path(place) == root and launch_folder().name in folders:
            folders.remove(launch_folder().name)
        for name in [name for name in folders if SCRATCH_NAME.fullmatch(name)]:
            folders.remove(name)
            if (run := _run_of(Path(place, name, JOURNAL))) is not None:
                found[run].append(Path(place, name))
    return {run: max(paths, key=_precedence) for run, paths in found.items()}


def _precedence(folder: Path) -> tuple[bool, float]:
    return is_held(folder / "lock"), _changed(folder)


def _row(run: RunId, job: Job | None, training: Path | None, now: float | None, is_launching: bool) -> Row:
    """What has become of a run: first what is going on, then how the last attempt ended, then what is there."""
    row = _of_job(job, now, is_launching) if job is not None else None
    if row is not None and row.state in (State.RUNNING, State.QUEUED):
        return row
    if training is not None and is_held(training / "lock"):  # by hand, by DVC, or by a worker that is thought lost
        return _with_progress(Row(run, State.RUNNING, **holder(training / "lock")), training)
    if row is not None:
        return row
    if recorded_hash(run) is not None or (training is not None and _is_published(training)):
        return Row(run, State.DONE)
    if training is not None:
        return _with_progress(Row(run, State.INTERRUPTED), training)
    return Row(run, State.WAITING)


def _is_published(training: Path) -> bool:
    """Whether a scratch folder is what a finished run has kept, also of one outside of ``results/runs``."""
    return is_scratch_of(training, run_folder_of(training, runs_folder()))


def _of_job(job: Job, now: float | None, is_launching: bool) -> Row | None:
    """What the last attempt at a run tells; None without one, or where somebody else has trained the run since."""
    attempts = attempts_at(job.folder)
    if not is_launching and not (job.folder / CANCELLED).exists():
        while attempts and attempts[-1].is_abandoned:
            attempts.pop()
    if not attempts or _is_trained_since(job, attempts[-1]):
        return None
    return _of_attempt(job, attempts[-1], now)


def _of_attempt(job: Job, attempt: Attempt, now: float | None) -> Row:
    """What the last attempt at a launched run tells."""
    started = attempt.about("started")
    row = Row(job.run, State.QUEUED, attempts=attempt.number, tokenizer=job.tokenizer)
    if started is not None:
        about: dict[str, Any] = {name: started.get(name) for name in ("host", "gpus", "job")}
        row = replace(row, **about, log=str(attempt.path("log")))
        row = _with_progress(row, Path(job.scratch))
    if attempt.status is not None:
        return _of_end(row, job, attempt)
    if started is None:
        return replace(row, state=State.CANCELLED) if (job.folder / CANCELLED).exists() else row
    if attempt.is_dead and attempt.status is None:  # it may have ended since it was asked
        return replace(row, state=State.INTERRUPTED, reason="its worker was killed")
    silence = 0.0 if now is None else now - _last_sign(attempt)
    if silence > LOST_SECONDS:
        return replace(row, state=State.INTERRUPTED, reason=f"no sign of life for {silence / 60:.0f} minutes")
    return replace(row, state=State.RUNNING)


def _of_end(row: Row, job: Job, attempt: Attempt) -> Row:
    if attempt.status == 0:
        if not job.is_published:
            is_there = job.is_in_workspace if job.tokenizer else recorded_hash(job.run)
            return replace(row, state=State.DONE if is_there else State.WAITING)
        is_current = all(_digest(path) == digest for path, digest in job.inputs.items())
        return replace(row, state=State.FINISHED if is_current else State.OUTDATED)
    if (job.folder / CANCELLED).exists():
        return replace(row, state=State.CANCELLED)
    if not (ends := list(_ends(job))):  # the job is of new code or settings; its first attempt is about to be submitted
        return Row(job.run, State.WAITING, tokenizer=job.tokenizer)
    verdict = judge(ends, Options.retries)
    return replace(row, state=State.FAILED if verdict.next is Next.FAIL else State.INTERRUPTED, reason=verdict.reason)


def _ends(job: Job) -> Iterator[End]:
    """How the attempts at a job have ended."""
    for attempt in attempts_at(job.folder):
        submitted, started, ended = (attempt.about(what) or {} for what in ("submitted", "started", "ended"))
        if submitted.get("key") == job.key and not attempt.is_abandoned:
            has_progressed = ended.get("epoch", 0) > started.get("epoch", 0)
            share = float(submitted.get("gpu_share", job.gpu_share))
            yield End(attempt.status, attempt.last_line or "no sign of life", has_progressed, share)


def _is_trained_since(job: Job, attempt: Attempt) -> bool:
    """Whether somebody else has made it after the last attempt did not end well. Both files are on the same disk."""
    made = project_root() / job.place if job.tokenizer else scores_of(job.run)
    return 0 < _changed(attempt.path("ended.json")) < _changed(made) and job.is_in_workspace


@cache
def _digest(path: str) -> str:
    return input_hashes([path])[path]


def _last_sign(attempt: Attempt) -> float:
    """When a worker last wrote something, by the clock of the file system."""
    return max(_changed(attempt.path(name)) for name in ("beat", "started.json")) or float("inf")


def _changed(path: Path) -> float:
    """When a file or folder was changed; 0 if it is gone meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _now() -> float | None:
    """Time by the clock of the file system that the workers write to; None where nothing can be written."""
    try:
        with TemporaryFile(dir=launch_folder()) as file:
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _with_progress(row: Row, training: Path) -> Row:
    """The row with epoch, number of epochs and time left, as the journal has them."""
    if not (training / JOURNAL).exists():
        return row
    epochs = [record for record in _records(training / JOURNAL, -1) if record["kind"] == "metrics"]
    last: dict[str, Any] = epochs[-1] if epochs else {"step": 0, "values": {}}
    number, left = _parameters(training / JOURNAL).get("training.epochs"), last["values"].get("seconds/left")
    return replace(row, epoch=last["step"], epochs=number, left=left)


def _run_of(journal: Path) -> RunId | None:
    """The run of a journal; None before it says so."""
    try:
        return RunId.of_record(_parameters(journal))
    except (KeyError, ValueError, TypeError):
        return None


def _parameters(journal: Path) -> Mapping[str, Any]:
    return next((record["values"] for record in _records(journal, 0) if record["kind"] == "params"), {})


def _records(journal: Path, end: int) -> list[dict[str, Any]]:
    """The records in the first (0) or last (-1) piece of a journal; parts of lines are left out."""
    try:
        with journal.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - PIECE) if end else 0
            file.seek(start)
            lines = file.read(PIECE).split(b"\n")[1 if start else 0 : -1]
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


# For people


def table(plan: Plan | None, found: Sequence[Row], room: int | None = None) -> str:
    """Counts by method and benchmark, then what runs, and what has ended badly.

    Args:
        room: lines that there are for the latter; None: as many as it takes.
    """
    counts = Counter(row.state for row in found)
    head = f"suite {plan.suite}, {plan.scale} scale" if plan else "no suite is active"
    lines = [f"{head}: {len(found)} runs, {_counted(counts)}"]
    if len(found) > counts[State.DONE]:
        lines += ["", *_matrix(found, counts)]
    sections = [state for state in _SECTIONS if counts[state]]
    for number, state in enumerate(sections):
        entries = list(_entries([row for row in found if row.state is state]))
        left = len(found) if room is None else (room - len(lines)) // (len(sections) - number) - 3
        shown = max(1, left // (entries[0].count("\n") + 1))
        more = [f"  and {len(entries) - shown} more"] if len(entries) > shown else []
        lines += ["", _SECTIONS[state], *entries[:shown], *more]
    return "\n".join(line.rstrip() for line in lines)


_SECTIONS = {
    State.RUNNING: "running",
    State.INTERRUPTED: "interrupted (python -m pipeline.launch goes on)",
    State.OUTDATED: "outdated (trained with other code or settings, not registered)",
    State.CANCELLED: "cancelled",
    State.FAILED: "failed",
}


def _counted(counts: Mapping[State, int]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "none"


def _matrix(found: Iterable[Row], counts: Mapping[State, int]) -> Iterator[str]:
    """A line for the runs of each method on each benchmark."""
    groups: dict[str, Counter[State]] = defaultdict(Counter)
    for row in found:
        groups[row.name.rsplit("/", 2)[0]][row.state] += 1
    states = [state for state in State if counts[state]]
    width = max(map(len, groups))
    yield " " * width + "".join(f"  {state}" for state in states)
    for name, numbers in groups.items():
        yield f"{name:<{width}}" + "".join(f"  {numbers[state] or '':>{len(state)}}" for state in states)


def _entries(chosen: Sequence[Row]) -> Iterator[str]:
    """A text for each of the rows, which are in one state."""
    width = max(len(row.name) for row in chosen)
    for row in chosen:
        if row.state is State.RUNNING:
            text = _running(row)
        else:
            text = f"after epoch {row.epoch} of {row.epochs or '?'}" if row.epoch else ""
        reasons = [excerpt(row.reason, 110)] if row.reason else []
        logs = [row.log] if row.log and row.state is State.FAILED else []
        yield "\n    ".join([f"  {row.name:<{width}}  {text}".rstrip(), *reasons, *logs])


def _running(row: Row) -> str:
    of = "" if row.epoch is None else f"{row.epoch}/{row.epochs or '?'}"
    left = "" if row.left is None else f"left {duration(row.left)}"
    where = f"{row.host or ''}" + (f" GPU {row.gpus}" if row.gpus else "") + (f" job {row.job}" if row.job else "")
    again = f" attempt {row.attempts}" if (row.attempts or 1) > 1 else ""
    return f"{of:>9}  {left:<11}  {where}{again}"


def show(as_json: bool, room: int | None = None) -> str:
    """The text for machines, or for people with so many lines."""
    _digest.cache_clear()
    plan = active_plan()
    found = rows(plan)
    if not as_json:
        return table(plan, found, room)
    content = {
        "suite": plan.suite if plan else None,
        "scale": plan.scale if plan else None,
        "is_launching": is_held(launch_folder() / "lock"),
        "counts": Counter(row.state for row in found),
        "runs": [row.record() for row in found],
    }
    return json.dumps(content, indent=2)


def watch(as_json: bool, seconds: float) -> None:
    """Print it again when it has changed, on a terminal in place of the last, until Ctrl-C."""
    last, is_terminal = "", sys.stdout.isatty()
    while True:
        if (text := show(as_json, shutil.get_terminal_size().lines - 1 if is_terminal else None)) != last:
            print(f"\x1b[H\x1b[2J{text}" if is_terminal else f"{text}\n", flush=True)
            last = text
        time.sleep(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    head, _, fields = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.status",
        description=head,
        epilog=fields,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--watch", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("--seconds", type=float, default=5.0, help="with --watch: between two looks (default: 5)")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)

    def command() -> None:
        try:
            if options.watch:
                watch(options.json, options.seconds)
            else:
                print(show(options.json), flush=True)
        except KeyboardInterrupt:
            if not options.watch:
                raise

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
