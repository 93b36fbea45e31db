"""The table of what has become of runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import status
from pipeline.launch.attempts import CANCELLED, LOST_SECONDS, Attempt, Job, launch_folder, this_machine
from pipeline.launch.jobs import input_hashes
from pipeline.plan import Plan, active_plan, scores_of
from pipeline.status import State
from tests.conftest import PROJECT
from tests.launch.conftest import TOKENIZER, run_of
from tokenworlds import cli
from tokenworlds.files import write_atomic
from tokenworlds.locks import locked
from tokenworlds.runs.identity import RunId
from tokenworlds.tracking.journal import Journal
from tokenworlds.training.run_folder import scratch_root

PONG, KRULL = run_of("Pong"), run_of("Krull")
CODE = "results/inputs/iris/code.txt"
ENDED = {"epoch": 4}


@pytest.fixture(autouse=True)
def in_project(project: Path) -> Iterator[Path]:
    write_atomic(Path(CODE), b"one\n")
    yield project


def make_job(run: RunId = PONG) -> Job:
    job = Job(
        run, "stage", ("python",), str(Path("snapshot").absolute()), "revision", input_hashes([CODE]), "hash",
        str(scratch_root() / f"{run.name}-0123456789ab"), 1.0, 1,
    )  # fmt: skip
    job.write()
    return job


def begin(job: Job, number: int = 1, **ended: object) -> Attempt:
    """An attempt that was begun after epoch 3 and, with a status, has ended after epoch 4."""
    attempt = Attempt(job.folder, number)
    attempt.record("submitted", key=job.key, gpu_share=1.0, engine="ray", id="7")
    attempt.record("started", host="node1", pid=1, gpus="2", job=None, epoch=3)
    write_atomic(attempt.path("beat"), b"1")
    if ended:
        attempt.record("ended", **ENDED | ended)
    return attempt


def ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def train(run: RunId, config_hash: str = "hash", scale: str = "smoke") -> None:
    content = {"config_hash": config_hash, "run": {"scale": scale}}
    write_atomic(scores_of(run), json.dumps(content).encode())


def write_journal(folder: Path, run: RunId, epoch: int, epochs: int = 600, left: float | None = 3600.0) -> None:
    journal = Journal(folder / "metrics.jsonl")
    about = {"method": run.method, "variant": None, "task": run.task, "seed": run.seed, "scale": run.scale}
    journal.append("params", values=about | {"training.epochs": epochs})
    for number in range(1, epoch + 1):
        values = {"loss": 1.0} | ({} if left is None else {"seconds/left": left + epoch - number})
        journal.append("metrics", step=number, values=values)


def row_of(run: RunId = PONG) -> status.Row:
    return next(row for row in status.rows(active_plan()) if row.run == run)


def test_untouched_runs_wait() -> None:
    assert [(row.run, row.state) for row in status.rows(active_plan())] == [
        (PONG, State.WAITING),
        (KRULL, State.WAITING),
    ]


def test_scores_of_the_scale_make_a_run_done() -> None:
    train(PONG)
    train(KRULL, scale="paper")
    assert (row_of(PONG).state, row_of(KRULL).state) == (State.DONE, State.WAITING)


def test_a_tokenizer_is_shown_until_it_is_there(project: Path) -> None:
    """Its run, whose scratch folder has the same journal, goes on waiting."""
    run = run_of("Pong", variant="tokenizer-random-policy")
    job = replace(make_job(run), tokenizer=TOKENIZER)
    (launch_folder() / "runs" / run.name / "job.json").unlink()
    job.write()
    write_journal(Path(job.scratch), run, epoch=4)
    attempt = begin(job)
    rows = [row for row in status.rows(Plan("test", "smoke", (run,))) if row.run == run]
    assert [(row.name, row.state) for row in rows] == [(run.name, State.WAITING), (job.name, State.RUNNING)]
    assert (rows[1].epoch, rows[1].record()["run"]) == (4, job.name) and "tokenizer" not in rows[1].record()
    assert f"  {job.name}      4/600" in status.table(None, rows)
    attempt.record("ended", status=2, epoch=4)
    assert status.rows(None)[-1].state is State.FAILED
    attempt.record("ended", status=0, epoch=4)
    write_atomic(job.results / "agent.json", b"{}")
    assert status.rows(None)[-1].state is State.FINISHED
    (job.results / "agent.json").unlink()
    write_atomic(project / TOKENIZER / "agent.json", b'{"config_hash": "hash"}')
    assert not any(row.name == job.name for row in status.rows(None))


@pytest.mark.parametrize(("engine", "alone"), [("slurm", State.QUEUED), ("ray", State.WAITING)])
def test_submitted_run_is_queued_until_its_worker_begins(engine: str, alone: State) -> None:
    """A task of Ray can never begin when its launcher has ended."""
    job = make_job()
    Attempt(job.folder, 1).record("submitted", key=job.key, engine=engine, id=None)
    with locked(launch_folder() / "lock", "a launcher"):
        assert row_of().state is State.QUEUED
    assert row_of().state is alone
    (job.folder / CANCELLED).touch()
    assert row_of().state is State.CANCELLED


def test_attempt_that_can_never_begin_leaves_the_end_of_the_one_before() -> None:
    job = make_job()
    begin(job, status=-9)
    for number in (2, 3):
        Attempt(job.folder, number).record("submitted", key=job.key, engine="ray", id=None)
    row = row_of()
    assert (row.state, row.attempts, row.reason) == (
        State.INTERRUPTED, 1, "ended by SIGKILL (is the memory exhausted?)",
    )  # fmt: skip


def test_run_whose_worker_was_killed_on_this_machine_is_interrupted_at_once() -> None:
    attempt = begin(make_job())
    started = attempt.about("started") or {}
    for pid, machine, state in (
        (os.getpid(), this_machine(), State.RUNNING),
        (ended_process(), this_machine(), State.INTERRUPTED),
        (ended_process(), "another", State.RUNNING),
    ):
        attempt.record("started", **started | {"pid": pid, "machine": machine})
        assert row_of().state is state


def test_running_run_has_epoch_time_and_place() -> None:
    job = make_job()
    begin(job)
    write_journal(Path(job.scratch), PONG, epoch=12)
    row = row_of()
    assert (row.state, row.epoch, row.epochs, row.left) == (State.RUNNING, 12, 600, 3600.0)
    assert (row.host, row.gpus, row.attempts) == ("node1", "2", 1)


def test_epoch_is_found_at_the_end_of_a_long_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "PIECE", 400)
    job = make_job()
    begin(job)
    write_journal(Path(job.scratch), PONG, epoch=100)
    with (Path(job.scratch) / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "metrics", "step": 101')  # is being written
    assert (row_of().epoch, row_of().epochs) == (100, 600)


def test_run_whose_worker_is_silent_is_interrupted() -> None:
    """By the clock of the file system alone."""
    attempt = begin(make_job())
    for path in (attempt.path("beat"), attempt.path("started.json")):
        time = path.stat().st_mtime - 2 * LOST_SECONDS
        os.utime(path, (time, time))
    row = row_of()
    assert row.state is State.INTERRUPTED
    assert row.reason == "no sign of life for 3 minutes"


@pytest.mark.parametrize(
    ("exit_status", "line", "state", "reason"),
    [
        (cli.STATUS_ERROR, "error: training has diverged", State.FAILED, "training has diverged"),
        (cli.STATUS_BUG, "KeyError: 'x'", State.FAILED, "KeyError: 'x'"),
        (cli.STATUS_TERMINATED, "terminated", State.INTERRUPTED, "ended by SIGTERM"),
        (-9, "", State.INTERRUPTED, "ended by SIGKILL (is the memory exhausted?)"),
        (cli.STATUS_MEMORY, "error: out of memory", State.FAILED, "out of memory"),  # with a whole GPU
        (cli.STATUS_BUSY, "error: another trainer", State.INTERRUPTED, "another trainer"),
    ],
)
def test_end_of_the_last_attempt_decides(exit_status: int, line: str, state: State, reason: str) -> None:
    attempt = begin(make_job(), status=exit_status)
    write_atomic(attempt.path("log"), f"epoch 1\n{line}\n".encode())
    row = row_of()
    assert (row.state, row.reason, row.log) == (state, reason, str(attempt.path("log")))


def test_attempts_without_progress_are_a_failure() -> None:
    job = make_job()
    for number in range(1, 4):
        begin(job, number, status=143, epoch=3)
    assert row_of().state is State.FAILED


def test_job_of_new_settings_before_its_first_attempt_waits() -> None:
    begin(make_job(), status=2)
    replace(make_job(), config_hash="other").write()
    assert row_of().state is State.WAITING


def test_cancelled_run_says_so() -> None:
    job = make_job()
    begin(job, status=143)
    (job.folder / CANCELLED).touch()
    assert row_of().state is State.CANCELLED


def test_finished_run_is_outdated_when_code_has_changed(in_project: Path) -> None:
    job = make_job()
    begin(job, status=0)
    assert row_of().state is State.WAITING  # somebody has removed the results
    write_atomic(job.results / "scores.json", b"{}")
    assert row_of().state is State.FINISHED
    (in_project / CODE).write_text("two\n")
    status._digest.cache_clear()
    assert row_of().state is State.OUTDATED


def test_run_that_failed_and_was_then_trained_by_hand_is_done() -> None:
    job = make_job()
    train(PONG)  # with the code of before
    attempt = begin(job, status=2)
    os.utime(scores_of(PONG), (1.0, 1.0))
    assert row_of().state is State.FAILED
    time = attempt.path("ended.json").stat().st_mtime + 1
    os.utime(scores_of(PONG), (time, time))
    assert row_of().state is State.DONE


def test_training_by_hand_is_seen_by_its_lock_and_stays_undisturbed() -> None:
    folder = scratch_root() / f"{KRULL.name}-0123456789ab"
    write_journal(folder, KRULL, epoch=2, epochs=3, left=None)
    row = row_of(KRULL)
    assert (row.state, row.epoch, row.epochs) == (State.INTERRUPTED, 2, 3)
    with locked(folder / "lock", "a trainer"):
        row = row_of(KRULL)
    assert (row.state, row.left, row.host) == (State.RUNNING, None, socket.gethostname())
    assert row_of(KRULL).state is State.INTERRUPTED


def test_run_elsewhere_that_has_kept_its_scratch_is_done(project: Path) -> None:
    folder, out = scratch_root() / f"{KRULL.name}-0123456789ab", project / "elsewhere"
    write_journal(folder, KRULL, epoch=2)
    write_atomic(folder / "config.yaml", f"out: {out}\nruntime: {{keep_scratch: true}}".encode())
    write_atomic(folder / "scores.json", b"{}")
    assert row_of(KRULL).state is State.INTERRUPTED
    write_atomic(out / "scores.json", b"{}")
    assert row_of(KRULL).state is State.DONE


def test_runs_of_no_suite_are_listed_after_it() -> None:
    other = replace(PONG, seed=7, scale="paper")
    write_journal(scratch_root() / f"{other.name}-0123456789ab", other, epoch=1)
    assert [row.run for row in status.rows(active_plan())] == [PONG, KRULL, other]
    assert [row.run for row in status.rows(None)] == [other]


def test_table_and_record(capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job()
    begin(job)
    write_journal(Path(job.scratch), PONG, epoch=12)
    failed = make_job(KRULL)
    write_atomic(begin(failed, status=2).path("log"), b"error: training has diverged\n")
    assert status.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "suite test, smoke scale: 2 runs, 1 running, 1 failed"
    assert lines[2].split() == ["running", "failed"]
    assert lines[3].split() == ["iris/atari", "1", "1"]
    assert lines[6].split() == [PONG.name, "12/600", "left", "1h00m", "node1", "GPU", "2"]
    assert lines[9].split()[0] == KRULL.name
    assert [line.strip() for line in lines[10:]] == ["training has diverged", str(failed.folder / "001.log")]
    assert status.main(["--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["counts"] == {"running": 1, "failed": 1}
    assert record["runs"][0] | {"log": None} == {
        "run": PONG.name, "method": "iris", "variant": "", "task": "atari/Pong", "seed": 0, "scale": "smoke",
        "state": "running", "epoch": 12, "epochs": 600, "left": 3600.0, "host": "node1", "gpus": "2", "job": None,
        "attempts": 1, "reason": None, "log": None,
    }  # fmt: skip


def test_long_lists_are_cut_to_a_screen() -> None:
    found = [status.Row(run_of("Pong", seed), State.FAILED, reason="diverged") for seed in range(500)]
    text = status.table(Plan("test", "smoke", ()), found, room=24)
    assert len(text.splitlines()) <= 24
    assert text.splitlines()[-1].strip().endswith("more")


def test_watch_prints_only_changes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([lambda: None, lambda: train(PONG)])

    def sleep(_: float) -> None:
        try:
            next(looks)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(status.time, "sleep", sleep)
    assert status.main(["--watch"]) == 0
    assert capsys.readouterr().out.count("suite test") == 2


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m pipeline.status --json | true"
    done = subprocess.run(["sh", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
