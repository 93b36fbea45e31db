"""One process sends the journals of many runs, each value once, whatever happens to it, to them, or to the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.support import KEYS, TAGS, free_port, record_epochs, tracked_runs, tracked_steps
from tokenworlds.tracking import many, store
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.many import ManyJournals
from tokenworlds.tracking.sync import sync

Capture = pytest.CaptureFixture[str]

# raised inside MLflow by its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

RUN = TAGS | {"scale": "smoke", "suite": "smoke", "config_hash": "abc"}


def begin(path: Path, **tags: str) -> Journal:
    journal = Journal(path / "metrics.jsonl")
    journal.append("tags", values=RUN | tags)
    return journal


def finish(journal: Journal, folder: Path) -> None:
    """Publish a run as a training does, and remove its scratch folder."""
    (journal.path.parent / "scores.json").write_text('{"run": {"task": "minigrid/Empty-5x5"}, "score": 1.5}')
    journal.append("artifact", step=99, key="scores", path="scores.json")
    journal.append("status", value="FINISHED")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(journal.path.parent, folder)
    for name in ("agent.safetensors", "agent.json", "config.yaml"):
        (folder / name).write_text(name)
    shutil.rmtree(journal.path.parent)


def assert_once(uri: str, last: dict[str, int]) -> dict[str, Any]:
    """A run for each name, with every metric of its epochs exactly once; returns them."""
    found = tracked_runs(uri)
    assert sorted(run.info.run_name for run in found) == sorted(last)
    for run in found:
        for key in KEYS:
            assert tracked_steps(uri, run, key) == list(range(1, last[run.info.run_name] + 1)), run.info.run_name
    return {run.info.run_name: run for run in found}


def status(uri: str) -> str:
    (run,) = tracked_runs(uri)
    return str(run.info.status)


def models(uri: str) -> list[Any]:
    return list(store.connect(uri).search_model_versions("name = 'iris-minigrid-Empty-5x5'"))


def test_the_status_is_how_the_last_session_ended(database: str, tmp_path: Path) -> None:
    journals, path = ManyJournals(database), tmp_path / "scratch" / "metrics.jsonl"
    journals.watch(path, "run", RUN, tmp_path / "out")
    journals.ended(path, "FAILED")  # before it has begun
    assert journals.ship() and not tracked_runs(database)
    journal = begin(path.parent)
    record_epochs(journal, 1, 3)
    assert journals.ship() and status(database) == "RUNNING"
    journal.append("status", value="FAILED")
    journals.ship()
    assert status(database) == "FAILED"
    journal.truncate_after(3)  # what resuming does first
    journals.ship()
    assert status(database) == "RUNNING"
    record_epochs(journal, 4, 6)
    journal.truncate_after(5)
    record_epochs(journal, 6, 7)
    journals.ended(path, "KILLED")
    journals.ship()
    journals.ended(path, "KILLED")
    journals.ship()
    assert status(database) == "KILLED"
    record_epochs(journal, 8, 8)  # tried again after all
    journals.ship()
    assert status(database) == "RUNNING"
    finish(journal, tmp_path / "out")
    journals.ended(path, "FAILED")
    assert journals.close()
    journals.ended(path, "FAILED")
    journals.ship()
    assert assert_once(database, {"run": 8})["run"].info.status == "FINISHED"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_published_run_is_sent_to_its_end_and_its_agent_once(
    is_restarted: bool, database: str, tmp_path: Path
) -> None:
    journal, out = begin(tmp_path / "scratch"), tmp_path / "out"
    finish(begin(tmp_path / "earlier", config_hash="other"), out)  # which this run replaces
    journals = ManyJournals(database)
    journals.watch(journal.path, "run", RUN, out)
    record_epochs(journal, 1, 3)
    journals.ship()
    assert not models(database)
    record_epochs(journal, 4, 5)
    finish(journal, out)
    if is_restarted:
        journals = ManyJournals(database)
        journals.watch(journal.path, "run", RUN, out)
    for _ in range(3):
        assert journals.ship()
    run = assert_once(database, {"run": 5})["run"]
    (version,) = models(database)
    assert (run.info.status, version.run_id, run.data.metrics["score"]) == ("FINISHED", run.info.run_id, 1.5)
    assert [entry.path for entry in store.connect(database).list_artifacts(run.info.run_id)] == ["scores.json"]
    assert sync([out], database) == 0
    assert_once(database, {"run": 5})


def test_a_published_run_of_other_settings_is_not_taken_for_one_that_has_not_begun(
    database: str, tmp_path: Path
) -> None:
    finish(begin(tmp_path / "earlier", config_hash="other"), tmp_path / "out")
    journals = ManyJournals(database)
    journals.watch(tmp_path / "scratch" / "metrics.jsonl", "run", RUN, tmp_path / "out")
    assert journals.ship() and not tracked_runs(database)
    record_epochs(begin(tmp_path / "scratch"), 1, 2)
    assert journals.ship()
    assert_once(database, {"run": 2})


def test_a_journal_of_another_run_in_the_same_place_is_another_run(database: str, tmp_path: Path) -> None:
    """As after a scratch folder was removed; its file is empty for a moment."""
    journals, path = ManyJournals(database), tmp_path / "metrics.jsonl"
    journals.watch(path, "run", RUN, tmp_path / "out")
    record_epochs(begin(tmp_path), 1, 2)
    journals.ship()
    path.rename(tmp_path / "moved")
    path.touch()
    assert journals.ship()
    record_epochs(begin(tmp_path), 1, 2)
    assert journals.ship()
    assert len({run.data.tags["tokenworlds.journal"] for run in tracked_runs(database)}) == 2
    assert all(tracked_steps(database, run, KEYS[0]) == [1, 2] for run in tracked_runs(database))


def watched(uri: str, folder: Path, count: int) -> tuple[ManyJournals, list[Journal]]:
    journals, written = ManyJournals(uri), []
    for index in range(count):
        written.append(begin(folder / str(index)))
        journals.watch(written[-1].path, f"run-{index}", RUN, folder / f"out-{index}")
    return journals, written


def test_no_server_costs_one_warning_and_a_pause(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(many, "_FIRST_PAUSE", 3600.0)
    journals, written = watched(f"http://me:hunter2@127.0.0.1:{free_port()}", tmp_path, 3)
    assert not journals.ship()
    record_epochs(written[0], 1, 2)
    began = time.monotonic()
    assert not any(journals.ship() for _ in range(100))
    assert time.monotonic() - began < 1
    assert not journals.close()
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: MLflow cannot be reached (") and "hunter2" not in first
    assert last.startswith("warning: MLflow lacks") and "python -m tokenworlds.tracking sync" in last
    again, _ = watched(database, tmp_path, 3)
    assert again.close()
    assert_once(database, {"run-0": 2, "run-1": 0, "run-2": 0})


def test_a_run_that_is_refused_and_a_damaged_journal_hold_up_no_other(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from mlflow import MlflowClient

    log_batch: Callable[..., Any] = MlflowClient.log_batch
    refused = True

    def refuse(client: Any, run_id: str, **named: Any) -> None:
        if refused and client.get_run(run_id).info.run_name == "run-0":
            raise RuntimeError("refused")
        log_batch(client, run_id, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    monkeypatch.setattr(many, "_FIRST_PAUSE", 0.0)
    journals, written = watched(database, tmp_path, 4)
    for journal in written:
        record_epochs(journal, 1, 2)
    whole = written[1].path.read_bytes()
    written[1].path.write_bytes(whole + b"damaged\n")
    for _ in range(3):
        assert not journals.ship()
    assert_once(database, {"run-0": 0, "run-2": 2, "run-3": 2})
    refused = False
    written[1].path.write_bytes(whole)
    assert journals.ship()
    assert_once(database, {f"run-{index}": 2 for index in range(4)})
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2 and any(f"line 5 of the journal {written[1].path} is damaged" in one for one in warnings)


COUNT = 20
SHIPPER = f"""
import sys, time
from pathlib import Path
from tests.tracking.test_many import RUN
from tokenworlds.tracking.many import ManyJournals
folder, journals = Path(sys.argv[1]), ManyJournals(sys.argv[2])
for index in range({COUNT}):
    journals.watch(folder / str(index) / "metrics.jsonl", f"run-{{index}}", RUN, folder / f"out-{{index}}")
while not (folder / "stop").exists():
    journals.ship()
    time.sleep(0.05)
sys.exit(0 if journals.close() else 1)
"""


def _start(folder: Path, address: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-c", SHIPPER, str(folder), address]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.integration
def test_twenty_journals_arrive_once_although_the_process_that_sends_them_is_killed(
    address: str, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    written = [begin(folder / str(index), seed=str(index)) for index in range(COUNT)]
    process = _start(folder, address)
    for epoch in range(1, 41):
        for index, journal in enumerate(written):
            record_epochs(journal, epoch, epoch)
            if epoch == 20 and index % 3 == 0:  # killed, and resumed from an earlier checkpoint
                journal.truncate_after(16)
                record_epochs(journal, 17, 20)
        if epoch in (15, 30):
            deadline = time.monotonic() + 120
            while len(tracked_runs(address)) < COUNT and time.monotonic() < deadline:
                time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = _start(folder, address)
    for index, journal in enumerate(written):
        if index % 4 == 0:
            journal.append("status", value="FAILED")
        elif index % 4 == 1:
            finish(journal, folder / f"out-{index}")
    (folder / "stop").touch()
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    found = assert_once(address, {f"run-{index}": 40 for index in range(COUNT)})
    expected = ["FAILED", "FINISHED", "RUNNING", "RUNNING"]
    assert [found[f"run-{index}"].info.status for index in range(COUNT)] == expected * (COUNT // 4)
    assert len(models(address)) == COUNT // 4
