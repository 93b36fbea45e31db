"""Workers on this machine: their files, how they stop, and that nothing outlives them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.launch import orphans
from pipeline.launch.attempts import CANCELLED, Attempt, Job, this_machine, worker_environment
from pipeline.launch.worker import ROOM
from tests.launch.jobs import make_job
from tests.small_disk import small_disk_at
from tokenworlds.cli import STATUS_BUSY

SECONDS = 30.0
FAST = "import sys; from pipeline.launch import worker; worker.BEAT_SECONDS = 0.2; sys.exit(worker.main())"
FAMILY = """
import signal, subprocess, sys, time
for is_own in (True, False):  # one of them in a session of its own
    subprocess.Popen(["sleep", "1000"], start_new_session=is_own)
def leave(*_):
    print("in order", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path))


def start(job: Job, number: int = 1, **variables: str) -> tuple[Attempt, subprocess.Popen[bytes]]:
    """A worker as engines start it."""
    job.write()
    attempt = Attempt(job.folder, number)
    environment = {**os.environ, **worker_environment(job.code), **variables}
    command = [sys.executable, "-c", FAST, *attempt.worker[2:]]
    return attempt, subprocess.Popen(
        command, cwd=job.code, env=environment, stdin=subprocess.PIPE, start_new_session=True
    )


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def family(attempt: Attempt) -> list[int]:
    return [process.pid for process in orphans.marked(f"{socket.gethostname()}:{attempt.path('')}")]


@pytest.fixture
def running() -> Iterator[tuple[Attempt, subprocess.Popen[bytes]]]:
    """A worker whose command has two children."""
    attempt, worker = start(make_job("python", "-c", FAMILY))
    wait_until(lambda: "up" in attempt.last_line)
    assert len(family(attempt)) == 3 and attempt.beat >= 1
    yield attempt, worker
    worker.kill()
    worker.communicate()


def run(job: Job, number: int = 1, **variables: str) -> Attempt:
    attempt, worker = start(job, number, **variables)
    worker.wait(SECONDS)
    worker.communicate()
    assert worker.returncode == 0
    return attempt


@pytest.mark.parametrize("status", [0, 2, 143, -9])
def test_an_attempt_is_recorded(status: int) -> None:
    script = f"kill {status} $$" if status < 0 else f"echo last; exit {status}"
    attempt = run(make_job("sh", "-c", script), CUDA_VISIBLE_DEVICES="3", SLURM_JOB_ID="7")
    started = attempt.about("started")
    assert started is not None and started.pop("pid") > 0
    assert started == {"host": socket.gethostname(), "machine": this_machine(), "gpus": "3", "job": "7", "epoch": 0}
    assert attempt.status == status
    assert attempt.last_line == ("last" if status >= 0 else "")


def test_the_command_is_run_by_the_nodes_python_in_the_snapshot(tmp_path: Path) -> None:
    script = "import os, sys; print(sys.executable, os.getcwd(), os.environ['TOKENWORLDS_SCRATCH'])"
    attempt = run(make_job("python", "-c", script))
    assert attempt.last_line == f"{sys.executable} {make_job().code} {tmp_path}"


@pytest.mark.parametrize(("share", "limit"), [(0.0, ""), (0.25, "runtime.gpu_share=0.25"), (1.0, "")])
def test_a_run_is_told_its_share_of_a_gpu_at_this_attempt(share: float, limit: str) -> None:
    job = make_job("python", "-c", "import sys; print(*sys.argv[1:])", gpu_share=0.5)
    Attempt(job.folder, 1).claim(gpu_share=share)
    assert run(job).last_line == limit


def test_an_attempt_that_was_given_up_is_not_made() -> None:
    job = make_job("sh", "-c", "echo made")
    Attempt(job.folder, 2).claim()
    attempt = run(job)
    assert attempt.status == STATUS_BUSY and not attempt.path("log").exists()


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scratch folder on a file system of its own, in memory."""
    with small_disk_at(tmp_path / "disk", "1m") as folder:
        monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(folder))
        yield folder


def test_the_end_is_recorded_on_a_full_disk(small_disk: Path) -> None:
    fill = f"until ! echo x >> {small_disk}/filling; do cat /dev/zero > {small_disk}/filling; done; exit 2"
    attempt = run(make_job("sh", "-c", fill))
    assert attempt.status == 2
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(bytes(2 * ROOM))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "the starter died", "cancelled"])
def test_a_request_to_stop_reaches_the_command(how: str, running: tuple[Attempt, subprocess.Popen[bytes]]) -> None:
    attempt, worker = running
    if how.startswith("SIG"):
        worker.send_signal(signal.Signals[how])
    elif how == "cancelled":
        (attempt.folder / CANCELLED).touch()
    else:
        assert worker.stdin is not None
        worker.stdin.close()
    worker.wait(SECONDS)
    assert attempt.status == 143 and attempt.last_line == "in order"
    assert family(attempt) == []


@pytest.mark.parametrize("target", ["worker", "group", "command"])
def test_nothing_outlives_a_killed_worker(target: str, running: tuple[Attempt, subprocess.Popen[bytes]]) -> None:
    attempt, worker = running
    if target == "worker":
        worker.kill()
    elif target == "group":
        os.killpg(worker.pid, signal.SIGKILL)
    else:
        os.kill(min(family(attempt)), signal.SIGKILL)
    worker.wait(SECONDS)
    wait_until(lambda: not family(attempt))
    assert attempt.status == (-9 if target == "command" else None)


def test_signals_that_the_starter_ignores_or_blocks_are_obeyed() -> None:
    """Forked processes of submitit ignore SIGTERM, those of Ray block SIGINT."""
    job = make_job("python", "-c", FAMILY)
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        attempt, worker = start(job)
    finally:
        signal.signal(signal.SIGTERM, old)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    wait_until(lambda: "up" in attempt.last_line)
    worker.send_signal(signal.SIGINT)
    worker.wait(SECONDS)
    worker.communicate()
    assert attempt.status == 143


def test_the_worker_needs_no_torch() -> None:
    script = "import sys, pipeline.launch.worker; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=make_job().code)
