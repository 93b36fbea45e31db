"""Slurm: one job an attempt, submitted by submitit.

A job that reaches its time limit ends its run in an orderly way and is queued again, as Slurm does with preempted jobs
and those of lost nodes: the same attempt goes on from the last checkpoint, also without a launcher. Jobs are recognised
by their names, so that Slurm's accounting database is not needed. What submitit and Slurm have to say of a job is in
``slurm/`` among the files about its run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.launch.attempts import CANCELLED, Attempt, Job, launch_folder, worker_environment
from tokenworlds.errors import UserError, brief, excerpt, installing, near_matches
from tokenworlds.files import shortened

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

COMMANDS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip
GPUS = re.compile(r"gpu(?::[^:,()]+)?:(\d+)")
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d\d))?(?::(?P<third>\d\d))?")
LOCAL = ("btrfs", "ext2", "ext3", "ext4", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
FORGOTTEN = "FORGOTTEN"  # Slurm no longer knows jobs that ended minutes ago
OWN_ENDS = range(128)  # exit statuses of a command that no signal has ended
ORDERLY_SECONDS = 90  # between the signal and the time limit
TIMEOUTS = 10**6  # after three, submitit would give up
STATE_SECONDS = 2.0  # an answer of squeue counts for so long


@dataclass(frozen=True)
class Node:
    """A node of the partition."""

    host: str
    gpus: int
    limit: str  # of a job's time, in one of Slurm's forms, or infinite


@dataclass(frozen=True)
class SlurmOptions:
    """What all jobs ask for. Without an answer the site's default counts.

    Args:
        time: limit of a job in one of Slurm's forms (``90`` minutes, ``24:00:00``, ``2-12``), after which it is queued
            again; None: the longest that the partition allows.
        max_jobs: jobs that wait in Slurm's queue or run at the same time; None: all.
        memory: of the host, a job: ``32G``.
    """

    partition: str | None = None
    time: str | None = None
    max_jobs: int | None = None
    account: str | None = None
    qos: str | None = None
    memory: str | None = None


class Work:
    """What a job runs: the worker of an attempt. Near the time limit, submitit calls ``checkpoint`` and then queues the
    job again."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._worker = 0

    def __call__(self) -> None:
        # Slurm may send the signal that is meant for submitit to all processes of a job
        command = f"trap '' USR1 USR2; exec {shlex.join([sys.executable, *self.attempt.worker])}"
        process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE)
        self._worker = process.pid
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())  # submitit's handler does nothing
        self._wait()

    def checkpoint(self) -> DelayedSubmission | None:
        """End the worker. None, so that nothing is queued again, where the run had ended by itself, was cancelled, or
        has not finished an epoch in this job: the launcher decides how often that may happen."""
        from submitit.helpers import DelayedSubmission

        self._terminate()
        self._wait()
        epochs = [(self.attempt.about(what) or {}).get("epoch", 0) for what in ("started", "ended")]
        is_over = self.attempt.status in OWN_ENDS or (self.attempt.folder / CANCELLED).exists()
        if is_over or epochs[0] >= epochs[1]:
            return None
        for what in ("started.json", "ended.json"):  # the attempt is queued now
            self.attempt.path(what).unlink(missing_ok=True)
        return DelayedSubmission(Work(self.attempt))

    def _terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._worker, signal.SIGTERM)

    def _wait(self) -> None:
        """Wait for the worker; also from a handler that interrupts this very method."""
        os.waitid(os.P_PID, self._worker, os.WEXITED | os.WNOWAIT)


class SlurmEngine:
    """Attempts as jobs of Slurm.

    Args:
        options: what all jobs ask for.
    """

    name = "slurm"

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options
        self._waiting: deque[tuple[str, Job, Attempt]] = deque()
        self._active: set[str] = set()  # in Slurm's queue, also those of an earlier launcher
        self._stopped: set[str] = set()  # by this launcher
        self._withdrawn: dict[str, str] = {}  # before Slurm had them
        self._states: Mapping[str, str] | None = None
        self._asked = -math.inf

    def check(self, jobs: Sequence[Job]) -> str:
        """Refuse a partition, an account, a time limit or resources that Slurm does not know or cannot give."""
        if importlib.util.find_spec("submitit") is None:
            raise UserError(f"Slurm needs the package submitit; {installing('cluster')}.")
        if absent := [name for name in COMMANDS if shutil.which(name) is None]:
            raise UserError(f"{absent[0]} was not found: launch on a machine from which jobs are submitted to Slurm.")
        nodes = self._nodes()
        for cpus, with_gpu in sorted({(job.cpus, job.gpu_share > 0) for job in jobs}):
            self._try(cpus, with_gpu)
        scratch, kind = launch_folder(), _file_system(launch_folder())
        is_here = {node.host for node in nodes} == {socket.gethostname().split(".")[0]}
        if kind in ("tmpfs", "ramfs") and not is_here:
            raise UserError(
                f"{shortened(scratch, 80)} is in the memory of this machine, where Slurm's nodes do not find it; "
                "name a folder that all share in $TOKENWORLDS_SCRATCH."
            )
        gpus = sum(node.gpus for node in nodes)
        limit = f", at most {self._options.max_jobs} at a time" if self._options.max_jobs else ""
        doubt = ": make sure that all nodes share it, or every job fails" if kind in LOCAL else ", taken to be shared"
        return (
            f"Slurm, {_many(len(nodes), 'node')} with {_many(gpus, 'GPU')}; one job a run{limit}; scratch folder on "
            + ("the only node" if is_here else f"{kind}{doubt}")
        )

    def submit(self, job: Job, attempt: Attempt) -> str:
        """Queue an attempt, in Slurm or, over ``max_jobs`` or a limit of the site, until there is room.

        Raises:
            UserError: Slurm takes no job at all.
        """
        place = hashlib.sha256(str(launch_folder()).encode()).hexdigest()[:6]
        identifier = f"{job.name}.{attempt.number:03d}.{place}"
        self._waiting.append((identifier, job, attempt))
        self._fill()
        return identifier

    def ended(self) -> Mapping[str, str]:
        """See ``Engine``. A job that was queued again has not ended."""
        found, self._withdrawn = self._withdrawn, {}
        if (states := self._ask()) is not None:
            for identifier in sorted(self._active):
                if (state := states.get(identifier, FORGOTTEN)) in (*ENDED, FORGOTTEN):
                    self._active.remove(identifier)
                    found[identifier] = self._reason(state, identifier)
        self._fill()
        return found

    def is_active(self, identifier: str) -> bool | None:
        """See ``Engine``; None while Slurm does not answer."""
        if any(identifier == waiting for waiting, _, _ in self._waiting):
            return True
        if (states := self._ask()) is None:
            return None
        if is_active := states.get(identifier, FORGOTTEN) not in (*ENDED, FORGOTTEN):
            self._active.add(identifier)
        return is_active

    def cancel(self, identifier: str) -> None:
        """See ``Engine``."""
        kept = [entry for entry in self._waiting if entry[0] != identifier]
        if len(kept) < len(self._waiting):
            self._waiting = deque(kept)
            self._withdrawn[identifier] = "CANCELLED"
        else:
            self._stopped.add(identifier)
            subprocess.run(["scancel", "--me", f"--name={identifier}"], capture_output=True, check=False)

    def close(self) -> None:
        """Forget what waits here; jobs in Slurm's queue go on."""
        self._waiting.clear()

    def _reason(self, state: str, identifier: str) -> str:
        """Why an attempt has ended. One whose job a person has taken out of Slurm's queue is not tried again."""
        name, number, _ = identifier.rsplit(".", 2)
        attempt = Attempt(launch_folder() / "runs" / name, int(number))
        if attempt.status in OWN_ENDS:
            return ""
        if state == "CANCELLED" and identifier not in self._stopped:
            (attempt.folder / CANCELLED).touch()
        return {FORGOTTEN: "", "COMPLETED": "", "FAILED": f"FAILED, see {attempt.folder / 'slurm'}"}.get(state, state)

    def _fill(self) -> None:
        """Give to Slurm what there is room for."""
        while self._waiting and len(self._active) < (self._options.max_jobs or math.inf):
            identifier, job, attempt = self._waiting[0]
            try:
                self._submit(identifier, job, attempt)
            except UserError:
                if not self._active:
                    self._waiting.popleft()
                    raise
                return  # a limit of the site
            self._waiting.popleft()
            self._active.add(identifier)
            self._asked = -math.inf

    def _submit(self, identifier: str, job: Job, attempt: Attempt) -> None:
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        variables = worker_environment(job.code).items()
        executor = AutoExecutor(attempt.folder / "slurm", cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
        executor.update_parameters(
            name=identifier,
            timeout_min=self.minutes,
            cpus_per_task=job.cpus,
            gpus_per_node=1 if job.gpu_share else None,
            slurm_partition=self._options.partition,
            slurm_account=self._options.account,
            slurm_qos=self._options.qos,
            slurm_mem=self._options.memory,
            slurm_signal_delay_s=min(ORDERLY_SECONDS, 30 * self.minutes or ORDERLY_SECONDS),
            slurm_srun_args=[f"--cpus-per-task={job.cpus}"],  # since 22.05 srun does not take it from sbatch
            slurm_setup=[
                f"cd {shlex.quote(job.code)} || exit 1",
                *(f"export {key}={shlex.quote(text)}" for key, text in variables),
            ],
            slurm_additional_parameters={"requeue": True},
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what the exception says
                executor.submit(Work(attempt))
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(f"Slurm refuses the job of {job.name}: {brief(_last_line(str(error)))}.") from error

    @cached_property
    def minutes(self) -> int:
        """Time limit of a job; 0: none.

        Raises:
            UserError: it is none of Slurm's forms, or longer than the partition allows.
        """
        longest, asked = _minutes(self._nodes()[0].limit), self._options.time
        if asked is None:
            return longest
        minutes = _minutes(asked)
        if longest and (minutes > longest or not minutes):
            raise UserError(
                f"--time {asked} is longer than the {longest} minutes that the partition allows; a shorter one costs "
                "at most an epoch a job, for runs go on in a job that is queued again."
            )
        return minutes

    def _nodes(self) -> list[Node]:
        """Nodes of the partition.

        Raises:
            UserError: Slurm does not answer, or knows no such partition.
        """
        rows = [line.split("|") for line in _slurm("sinfo", "--noheader", "--Node", "--format=%P|%n|%l|%G")]
        wanted = self._options.partition
        found = [row for row in rows if row[0].rstrip("*") == wanted or (wanted is None and row[0].endswith("*"))]
        if not found:
            known = near_matches(wanted or "", {row[0].rstrip("*") for row in rows})
            what = f"Slurm has no partition {excerpt(wanted)}" if wanted else "Slurm has no default partition"
            raise UserError(f"{what}: name one with --partition; {known}")
        return [Node(host, sum(map(int, GPUS.findall(gres))), limit) for _, host, limit, gres in found]

    def _try(self, cpus: int, with_gpu: bool) -> None:
        """Ask Slurm whether it would take such a job."""
        options = self._options
        chosen = {
            "partition": options.partition, "account": options.account, "qos": options.qos, "mem": options.memory,
            "time": self.minutes, "cpus-per-task": cpus, "gpus-per-node": 1 if with_gpu else None,
        }  # fmt: skip
        given = [f"--{name}={value}" for name, value in chosen.items() if value is not None]
        _slurm("sbatch", "--test-only", *given, "--wrap=true")

    def _ask(self) -> Mapping[str, str] | None:
        """State of every job of this user by its name, of the last one where there are several; None: no answer."""
        if time.monotonic() - self._asked > STATE_SECONDS:
            try:
                lines = _slurm("squeue", "--noheader", "--me", "--states=all", "--format=%i|%T|%j")
            except UserError:
                return None
            jobs = [line.split("|", 2) for line in lines]
            numbered = sorted((int(number), name, state) for number, state, name in jobs if number.isdigit())
            self._states, self._asked = {name: state for _, name, state in numbered}, time.monotonic()
        return self._states


def _slurm(*command: str) -> list[str]:
    """Lines that a command of Slurm prints.

    Raises:
        UserError: it fails; the message ends with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{command[0]} of Slurm says: {brief(_last_line(done.stderr))}.")
    return done.stdout.splitlines()


def _last_line(text: str) -> str:
    """The last line of what a command of Slurm printed, without the command's name."""
    lines = [line for line in text.splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: |fatal: )?", "", lines[-1]) if lines else ""


def _minutes(text: str) -> int:
    """Minutes of a time limit in one of Slurm's forms, rounded up; 0: none."""
    if text.lower() in ("infinite", "unlimited"):
        return 0
    if (found := TIME.fullmatch(text)) is None:
        raise UserError(
            f"--time {excerpt(text)} is no time of Slurm: write 90 (minutes), 24:00:00 or 2-12 (days-hours)."
        )
    days, first, second, third = (int(part or 0) for part in found.groups())
    with_hours = found["days"] is not None or found["third"] is not None  # else minutes:seconds
    seconds = first * 3600 + second * 60 + third if with_hours else first * 60 + second
    return days * 24 * 60 + math.ceil(seconds / 60)


def _file_system(path: Path) -> str:
    """Kind of the file system that holds a path, or will."""
    place = next(folder for folder in (path, *path.parents) if folder.exists()).resolve()
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return max((len(point), kind) for point, kind in mounts if place.is_relative_to(point))[1]


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
