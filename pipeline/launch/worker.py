"""Make one attempt at a run on a node: ``python -m pipeline.launch.worker FOLDER NUMBER``; engines start it.

It runs the job's command in the snapshot of the code, and writes the attempt's files (``attempts``). SIGTERM, SIGINT,
the file ``cancelled`` and the end of the process that started it (a pipe at stdin closes) are passed on to the command
as SIGTERM, so that it closes its journal. Nothing of the command outlives the worker, not even one that is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from pipeline.launch import orphans
from pipeline.launch.attempts import BEAT_SECONDS, CANCELLED, Attempt, Job, attempts_at, this_machine
from tokenworlds.cli import STATUS_BUSY, exit_status

GRACE_SECONDS = 20.0
"""From SIGTERM to SIGKILL; Slurm leaves a job 30 seconds."""
ROOM = 4096
"""Bytes that an attempt occupies while it runs, so that its end can be recorded on a full disk."""
STOPPING = (signal.SIGTERM, signal.SIGINT)


def make(job: Job, attempt: Attempt) -> int:
    """Make the attempt and return the exit status of the command, which is recorded.

    Raises:
        UserError, OSError: the attempt's files cannot be written.
    """
    wakeup = _wakeup()
    mark = f"{socket.gethostname()}:{attempt.path('')}"
    attempt.path("ended.json").unlink(missing_ok=True)  # of a Slurm job that was requeued
    attempt.record(
        "started",
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        job=os.environ.get("SLURM_JOB_ID"),
        epoch=job.epoch,
    )
    if attempts_at(attempt.folder)[-1] != attempt:  # it was queued for so long that it seemed lost
        attempt.record("ended", status=STATUS_BUSY, epoch=job.epoch)
        return STATUS_BUSY
    room = attempt.path("room")
    room.write_bytes(bytes(ROOM))
    guard = subprocess.Popen(
        [sys.executable, "-m", orphans.__name__, mark], stdin=subprocess.PIPE, start_new_session=True
    )
    with attempt.path("log").open("ab") as log:
        process = subprocess.Popen(
            command(job, attempt),
            cwd=job.code,
            env={**os.environ, orphans.MARK: mark, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = _wait(process, attempt, wakeup)
    finally:
        guard.communicate()  # it kills what the command has left behind
        room.unlink(missing_ok=True)
    attempt.record("ended", status=status, epoch=job.epoch)
    return status


def command(job: Job, attempt: Attempt) -> list[str]:
    """The command of an attempt on this node, with the fraction of a GPU that it was given."""
    program, *arguments = job.command
    share = float((attempt.about("submitted") or {}).get("gpu_share", job.gpu_share))
    limit = [f"runtime.gpu_share={share:g}"] if 0 < share < 1 else []
    return [sys.executable if program == "python" else program, *arguments, *limit]


def _wakeup() -> int:
    """A descriptor from which the numbers of received signals can be read; they have no other effect."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (*STOPPING, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # also where the parent ignores it, as submitit's processes do
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # Ray blocks SIGINT in what it starts
    return reading


def _wait(process: subprocess.Popen[bytes], attempt: Attempt, wakeup: int) -> int:
    """Let the counter grow until the command ends, and stop it when that is asked for."""
    sources = [wakeup]
    if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
        sources.append(0)
    count, due, is_stopping, deadline = 0, 0.0, False, float("inf")
    while process.poll() is None:
        now = time.monotonic()
        if now >= due:
            count, due = count + 1, now + BEAT_SECONDS
            _write_beat(attempt.path("beat"), count)
            is_stopping |= (attempt.folder / CANCELLED).exists()
        if is_stopping and deadline == float("inf"):
            process.terminate()
            deadline = now + GRACE_SECONDS
        if now >= deadline:
            process.kill()
        ready, _, _ = select.select(sources, [], [], max(0.1, min(due, deadline) - now))
        if wakeup in ready:
            is_stopping |= any(number in STOPPING for number in os.read(wakeup, 256))
        if 0 in ready and not os.read(0, 256):  # whoever started this process is dead
            sources.remove(0)
            is_stopping = True
    return process.returncode


def _write_beat(path: Path, count: int) -> None:
    """Write the counter over the old one, which needs no room on a full disk; a failure is no reason to stop."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, f"{count:010d}".encode(), 0)
        finally:
            os.close(descriptor)


def main() -> int:
    folder = Path(sys.argv[1])
    make(Job.read(folder), Attempt(folder, int(sys.argv[2])))
    return 0  # the command's own status is on record


if __name__ == "__main__":
    sys.exit(exit_status(main))
