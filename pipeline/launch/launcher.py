"""The loop of a launcher: submits runs, watches them, decides what follows, and hands over what is finished.

Everything it knows of a run is in files (``attempts``), so that one that was killed is followed by the next: what has
ended well is collected, what is running is watched, what is lost is tried again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pipeline.launch.attempts import CANCELLED, LOST_SECONDS, Attempt, Job, attempts_at
from pipeline.launch.engines import Engine
from pipeline.launch.verdicts import End, Next, judge
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import runs_folder

LONGEST_PAUSE = 6
Collect = Callable[[Sequence[Job]], None]
"""Brings finished runs into the workspace."""


class Journals(Protocol):
    """What sends journals to MLflow (``tokenworlds.tracking.many.ManyJournals``)."""

    def watch(self, path: Path, run_name: str, tags: dict[str, str], folder: Path) -> None: ...

    def ended(self, path: Path, status: str) -> None: ...

    def ship(self) -> bool: ...


@dataclass(frozen=True)
class Options:
    """How a launcher watches.

    Args:
        retries: how many attempts in a row may be interrupted without having finished an epoch.
        poll_seconds: between two looks at the engine and the files of attempts.
        lost_seconds: without a sign of life, after which an attempt is lost.
        retry_seconds: before an interrupted run is tried again, times the number of attempts (``LONGEST_PAUSE`` at
            most).
        busy_seconds: before a run is tried again that somebody else trains.
        summary_seconds: between two lines about all runs.
        hours: estimated, of each run, by its name.
        suite: of the runs, in MLflow.
    """

    retries: int = 3
    poll_seconds: float = 5.0
    lost_seconds: float = LOST_SECONDS
    retry_seconds: float = 10.0
    busy_seconds: float = 60.0
    summary_seconds: float = 600.0
    hours: Mapping[str, float] = field(default_factory=dict)
    suite: str = ""


@dataclass
class Outcome:
    """What came of the runs and tokenizers, by name.

    Attributes:
        finished: handed over to be collected.
        failed: why, by run; not tried again.
        cancelled: stopped by a person.
        waiting: runs that were not launched, because they begin with one of the others.
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    waiting: list[RunId] = field(default_factory=list)


@dataclass
class _Watched:
    """A run that is not done.

    Attributes:
        attempt: the latest, if it has not ended.
        is_same: it is one at this job, not at the same run with other code or settings.
        is_ours: this launcher has submitted it, so that the engine says when it ends.
        identifier: that the engine gave it; None where it is unknown, or another engine's.
        why: what the engine said of its end; None before.
        epoch: last checkpoint when the attempt was first seen.
        beat: last counter, and ``seen``, when it grew by this launcher's clock.
        not_before: when the next attempt may be submitted.
    """

    job: Job
    attempt: Attempt | None = None
    is_same: bool = True
    is_ours: bool = False
    is_started: bool = False
    is_cancelled: bool = False
    identifier: str | None = None
    why: str | None = None
    epoch: int = 0
    beat: int = 0
    seen: float = 0.0
    not_before: float = 0.0
    whole_gpu: bool = False
    ends: list[End] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.job.name


class Launcher:
    """The loop. One at a time may work in a launch folder.

    Args:
        engine: not yet checked; whoever made it closes it.
        collect: called at every poll, mostly with no run, so that it can work in batches.
        journals: of the runs, for MLflow.
    """

    def __init__(
        self,
        engine: Engine,
        collect: Collect,
        options: Options,
        journals: Journals | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine, self._collect, self._options, self._journals = engine, collect, options, journals
        self._clock, self._sleep = clock, sleep
        self._watched: dict[str, _Watched] = {}  # by name
        self._finished: list[Job] = []  # to be handed over
        self.outcome = Outcome()

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Train all runs and return what came of them.

        Raises:
            UserError: the engine cannot work, or the files about attempts cannot be written.
        """
        _say(self._engine.check(jobs))
        for job in jobs:
            self._begin(job)
        summary, next_summary = "", self._clock() + self._options.summary_seconds
        while True:
            self._submit()
            ended = self._engine.ended()
            for watched in list(self._watched.values()):
                self._look(watched, ended)
            finished, self._finished = self._finished, []
            self._collect(finished)
            if self._journals is not None:
                self._journals.ship()
            is_done = not self._watched
            if (is_done or self._clock() >= next_summary) and (line := self._summary()) != summary:
                summary, next_summary = line, self._clock() + self._options.summary_seconds
                _say(line)
            if is_done:
                return self.outcome
            self._sleep(self._options.poll_seconds)

    def _begin(self, job: Job) -> None:
        """Find out from the files what was done about a run before."""
        (job.folder / CANCELLED).unlink(missing_ok=True)  # it is asked for again
        watched = self._watched[job.name] = _Watched(job)
        if not (attempts := attempts_at(job.folder)):
            return
        self._watch(watched, attempts[-1])
        if watched.is_same:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                watched.job = replace(Job.read(job.folder), gpu_share=job.gpu_share, cpus=job.cpus)
        is_active = self._is_active(watched)
        if not is_active and watched.is_same and watched.job.is_made_in(watched.job.results):
            self._finish(watched)
        elif is_active or (is_active is None and attempts[-1].status is None):
            _say(f"{watched.name}: attempt {attempts[-1].number} was made by an earlier launcher, it is watched")
        else:
            watched.job, watched.attempt = job, None

    def _is_active(self, watched: _Watched) -> bool | None:
        """Whether an attempt of an earlier launcher is queued or runs; None where only its beat tells."""
        attempt, identifier = watched.attempt, watched.identifier
        known = None if identifier is None else self._engine.is_active(identifier)
        is_over = known is None and attempt is not None and (attempt.is_abandoned or attempt.is_dead)
        return False if is_over else known

    def _submit(self) -> None:
        """Submit an attempt at every run that waits for one."""
        count = 0
        for watched in self._watched.values():
            if watched.attempt is not None or self._clock() < watched.not_before:
                continue
            job = replace(watched.job, gpu_share=1.0) if watched.whole_gpu else watched.job
            attempts = attempts_at(job.folder)
            attempt = Attempt(job.folder, attempts[-1].number + 1 if attempts else 1)
            about = {"key": job.key, "gpu_share": job.gpu_share, "engine": self._engine.name}
            watched.job.write()
            if is_ours := attempt.claim(**about, id=None):
                attempt.record("submitted", **about, id=self._engine.submit(job, attempt))
                count += 1
            self._watch(watched, attempt, is_ours)
        if count:
            _say(f"submitted {count} run{'s' if count > 1 else ''}")

    def _watch(self, watched: _Watched, attempt: Attempt, is_ours: bool = False) -> None:
        job, submitted = watched.job, attempt.about("submitted") or {}
        watched.attempt, watched.is_ours, watched.is_started, watched.why = attempt, is_ours, False, None
        watched.is_same = submitted.get("key") == job.key
        watched.identifier = submitted.get("id") if submitted.get("engine") == self._engine.name else None
        watched.epoch, watched.beat, watched.seen = job.epoch, attempt.beat, self._clock()
        if self._journals is not None and watched.is_same:
            follow(self._journals, job, self._options.suite)

    def _look(self, watched: _Watched, ended: Mapping[str, str]) -> None:
        """Take notice of what has happened to a run."""
        if not watched.is_cancelled and (watched.job.folder / CANCELLED).exists():
            watched.is_cancelled = True
            if watched.identifier is not None:
                self._engine.cancel(watched.identifier)
        if watched.attempt is not None:
            end = self._end_of(watched, watched.attempt, ended)
            self._notice_start(watched, watched.attempt)  # also of one that has ended since the last look
            if end is not None:
                self._decide(watched, watched.attempt, end)
        elif watched.is_cancelled:
            self._cancel(watched)
        elif watched.not_before and watched.job.is_in_workspace:
            self._finish(watched)  # somebody else has trained it meanwhile

    def _notice_start(self, watched: _Watched, attempt: Attempt) -> None:
        if not watched.is_started and (started := attempt.about("started")) is not None:
            watched.is_started = True
            gpus = f", GPU {started['gpus']}" if started.get("gpus") else ""
            resumed = f", goes on after epoch {started['epoch']}" if started.get("epoch") else ""
            _say(f"{watched.name}: started on {started['host']}{gpus}{resumed}")

    def _end_of(self, watched: _Watched, attempt: Attempt, ended: Mapping[str, str]) -> End | None:
        """How an attempt has ended; None while it has not, as far as anybody knows."""
        if watched.identifier is not None and watched.identifier in ended:
            watched.why, watched.seen = ended[watched.identifier], self._clock()
        if watched.why is None:
            is_active = True if watched.is_ours else self._is_active(watched)
            if is_active:
                return None
            if is_active is False:
                watched.why, watched.seen = "its worker was killed" if attempt.is_dead else "", self._clock()
        status = attempt.status
        if attempt.beat != watched.beat:
            watched.beat, watched.seen = attempt.beat, self._clock()
        if status is None and not watched.why and self._clock() - watched.seen <= self._options.lost_seconds:
            return None  # a file system may show the exit status late
        reason = attempt.last_line if status is not None else watched.why or "no sign of life"
        share = float((attempt.about("submitted") or {}).get("gpu_share", watched.job.gpu_share))
        return End(status, reason, watched.job.epoch > watched.epoch, share)

    def _decide(self, watched: _Watched, attempt: Attempt, end: End) -> None:
        if end.status is None and watched.identifier is not None:
            self._engine.cancel(watched.identifier)
        watched.attempt, watched.is_started = None, False
        if not watched.is_same:
            return  # of other code or settings: now this job can begin
        watched.ends.append(end)
        verdict = judge(watched.ends, self._options.retries)
        if verdict.next is Next.COLLECT:
            self._finish(watched)
        elif watched.is_cancelled:
            self._cancel(watched)
        elif verdict.next is Next.FAIL:
            self._drop(watched, "FAILED")
            self.outcome.failed[watched.name] = verdict.reason
            _say(f"{watched.name}: failed: {verdict.reason} ({attempt.path('log')})")
        else:
            is_busy = verdict.next is Next.LATER
            pause = self._options.retry_seconds * min(len(watched.ends), LONGEST_PAUSE)
            wait = self._options.busy_seconds if is_busy else pause
            watched.not_before, watched.whole_gpu = self._clock() + wait, verdict.whole_gpu
            whole = " with a GPU of its own" if verdict.whole_gpu else ""
            _say(f"{watched.name}: {verdict.reason}; tried again{whole} in {wait:.0f} s")

    def _finish(self, watched: _Watched) -> None:
        _say(f"{watched.name}: finished")
        del self._watched[watched.name]
        self._finished.append(watched.job)
        self.outcome.finished.append(watched.name)

    def _cancel(self, watched: _Watched) -> None:
        _say(f"{watched.name}: cancelled")
        self._drop(watched, "KILLED")
        self.outcome.cancelled.append(watched.name)

    def _drop(self, watched: _Watched, status: str) -> None:
        del self._watched[watched.name]
        if self._journals is not None:
            self._journals.ended(watched.job.journal, status)

    def _summary(self) -> str:
        """One line about all runs."""
        running = sum(watched.is_started for watched in self._watched.values())
        counts = {
            "finished": len(self.outcome.finished),
            "running": running,
            "waiting": len(self._watched) - running,
            "failed": len(self.outcome.failed),
            "cancelled": len(self.outcome.cancelled),
        }
        text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        hours = sum(self._options.hours.get(name, 0.0) for name in self._watched)
        return f"{text}; about {hours / running:.1f} hours left" if hours and running else text


def follow(journals: Journals, job: Job, suite: str) -> None:
    """Send the journal of a run from now on, as one of the suite where MLflow does not have it yet; tokenizers are not
    tracked."""
    if job.tokenizer:
        return
    tags = {key: str(value) for key, value in asdict(job.run).items()}
    tags |= {"suite": suite, "git_revision": job.revision, "config_hash": job.config_hash}
    journals.watch(job.journal, job.run.name, tags, runs_folder() / job.run.name)


def _say(line: str) -> None:
    print(line, flush=True)
