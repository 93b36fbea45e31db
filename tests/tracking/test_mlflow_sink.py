"""MLflow gets every metric exactly once, and nothing it does reaches the training."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.support import TAGS, Server, assert_complete, free_port, record_epochs, tracked_runs
from tokenworlds.tracking.__main__ import main
from tokenworlds.tracking.journal import Journal, read_journal
from tokenworlds.tracking.mlflow_sink import MlflowSink
from tokenworlds.tracking.shipper import Shipper
from tokenworlds.tracking.sync import sync

# raised inside MLflow by its own dependencies
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def sink_for(journal: Journal, uri: str) -> MlflowSink:
    return MlflowSink(journal.path, uri, run_name="iris/minigrid/Empty-5x5/0", tags=TAGS)


def test_a_run_arrives_with_params_tags_metrics_artifacts_and_status(database: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    sink = sink_for(journal, database)
    journal.append("params", values={f"training.key_{index}": index for index in range(150)} | {"long": "x" * 7000})
    record_epochs(journal, 1, 20)
    (tmp_path / "run" / "media").mkdir()
    (tmp_path / "run" / "media" / "imagination.png").write_bytes(b"picture")
    run_scores = {"run": {**TAGS, "scale": "smoke"}, "score": 1.23456, "hours": 2, "random": None, "hardware": "T4"}
    (tmp_path / "run" / "scores.json").write_text(json.dumps(run_scores))
    journal.append("artifact", step=20, key="imagination", path="media/imagination.png")
    journal.append("artifact", step=20, key="scores", path="scores.json")
    journal.append("artifact", step=20, key="lost", path="media/lost.png")
    journal.append("status", value="FINISHED")
    assert sink.close()
    run = assert_complete(database, 20)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "iris/minigrid/Empty-5x5/0"
    assert run.data.params["training.key_149"] == "149"
    assert len(run.data.params["long"]) == 6000
    assert run.data.metrics.items() >= {"score": 1.2346, "hours": 2}.items()
    assert run.data.tags["hardware"] == "T4"
    assert TAGS.items() <= run.data.tags.items()
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "media" / "imagination.png").read_bytes() == b"picture"
    assert (artifacts / "scores.json").exists()


def wait_for_status(uri: str, status: str) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if [run.info.status for run in tracked_runs(uri)] == [status]:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_resumed_run_is_running_again_continues_and_repeats_nothing(
    status: str, database: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    sink = sink_for(journal, database)
    journal.append("params", values={"a": 1})
    record_epochs(journal, 1, 7)
    journal.append("status", value=status)
    assert sink.close()
    assert assert_complete(database, 7).info.status == status
    again = Journal(journal.path)
    sink = sink_for(again, database)
    assert wait_for_status(database, "RUNNING")
    again.truncate_after(4)
    record_epochs(again, 5, 9)
    again.append("status", value="FINISHED")
    assert sink.close()
    assert assert_complete(database, 9).info.status == "FINISHED"


def test_an_answer_that_got_lost_repeats_nothing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    journal = Journal(tmp_path / "metrics.jsonl")
    record_epochs(journal, 1, 5)
    log_batch: Callable[..., Any] = MlflowClient.log_batch
    failures = iter([ConnectionError("lost")])

    def log_and_lose_the_answer(client: Any, *arguments: Any, **named: Any) -> None:
        log_batch(client, *arguments, **named)
        for failure in failures:
            raise failure

    monkeypatch.setattr(MlflowClient, "log_batch", log_and_lose_the_answer)
    shipper = Shipper(journal.path, database, "run", TAGS)
    with pytest.raises(ConnectionError):
        shipper.ship(list(journal.read()))
    record_epochs(journal, 6, 8)
    shipper.ship(list(journal.read()))
    assert_complete(database, 8)


def test_large_journals_are_sent_in_batches(database: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    record_epochs(journal, 1, 3)
    journal.append("metrics", step=3, values={f"many/{index}": 1.0 for index in range(2500)})
    shipper = Shipper(journal.path, database, "run", TAGS)
    shipper.ship(list(journal.read()))
    assert shipper.metrics_sent == 2506
    assert len(assert_complete(database, 3).data.metrics) == 2502


@pytest.fixture
def hanging() -> Iterator[str]:
    """A socket that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["refused", "hanging"])
def test_a_dead_server_costs_one_warning_and_sync_sends_everything_later(
    kind: str,
    hanging: str,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    uri = hanging if kind == "hanging" else f"http://127.0.0.1:{free_port()}"
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    begin = time.monotonic()
    sink = sink_for(journal, uri)
    assert time.monotonic() - begin < 0.5
    for epoch in range(1, 31):
        begin = time.monotonic()
        record_epochs(journal, epoch, epoch)
        assert time.monotonic() - begin < 0.5, "training waits for the tracker"
        time.sleep(0.1)
    journal.append("status", value="FINISHED")
    begin = time.monotonic()
    assert not sink.close()
    assert time.monotonic() - begin < 7  # a hanging server is given five seconds at the end
    errors = capfd.readouterr().err
    assert errors.count("MLflow cannot be reached") == 1
    assert "python -m tokenworlds.tracking sync" in errors
    assert sync([tmp_path / "run"], database) == 60
    assert assert_complete(database, 30).info.status == "FINISHED"
    assert sync([tmp_path / "run"], database) == 0


def test_a_server_killed_in_the_middle_gets_the_rest_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr("tokenworlds.tracking.mlflow_sink._POLL_SECONDS", 0.3)
    server = Server(tmp_path)
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    try:
        server.start()
        sink = sink_for(journal, server.uri)
        record_epochs(journal, 1, 10)
        deadline = time.monotonic() + 60
        while not any(run.data.metrics.get("eval/return_mean") == 10.1 for run in tracked_runs(server.uri)):
            assert time.monotonic() < deadline, "nothing arrives"
            time.sleep(0.2)
        server.kill()
        record_epochs(journal, 11, 20)
        time.sleep(1)
        journal.append("status", value="FINISHED")
        assert not sink.close(timeout=20)
        assert sync([tmp_path / "run"], server.database) == 20  # the database it left; a second start would take long
        assert assert_complete(server.database, 20).info.status == "FINISHED"
    finally:
        server.kill()


def test_a_slow_server_is_waited_for_as_long_as_it_answers(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr("tokenworlds.tracking.mlflow_sink._PATIENCE", 0.5)
    monkeypatch.setattr("tokenworlds.tracking.mlflow_sink.is_local", lambda uri: False)
    log_artifact: Callable[..., Any] = MlflowClient.log_artifact

    def log_slowly(client: Any, *arguments: Any, **named: Any) -> None:
        time.sleep(0.2)
        log_artifact(client, *arguments, **named)

    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    sink = sink_for(journal, database)
    record_epochs(journal, 1, 1)
    assert wait_for_status(database, "RUNNING")
    monkeypatch.setattr(MlflowClient, "log_artifact", log_slowly)
    for index in range(6):
        (tmp_path / "run" / f"{index}.png").write_bytes(b"picture")
        journal.append("artifact", step=1, key="picture", path=f"{index}.png")
    assert sink.close()


def test_no_password_reaches_the_server_or_the_screen(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even from the journal of an earlier version, which held addresses as they were given."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    address = f"http://me:hunter2@127.0.0.1:{free_port()}"
    record = {"kind": "params", "time": 1.0, "values": {"runtime.tracking_uri": address}}
    with journal.path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    sink = sink_for(journal, address)
    journal.append("status", value="FINISHED")
    assert not sink.close()
    assert main(["sync", str(tmp_path / "run"), "--uri", address]) == 2
    assert main(["prepare", "--uri", address]) == 2
    assert main(["sync", str(tmp_path / "run"), "--uri", database]) == 0
    captured = capfd.readouterr()
    assert "hunter2" not in captured.err + captured.out and "***@127.0.0.1" in captured.err
    (run,) = tracked_runs(database)
    assert run.data.params["runtime.tracking_uri"].startswith("http://***@127.0.0.1")


WORKER = """
import sys
from pathlib import Path
from tests.tracking.support import TAGS, record_epochs
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.mlflow_sink import MlflowSink
journal = Journal(Path(sys.argv[1]))
sink = MlflowSink(journal.path, sys.argv[2], run_name=sys.argv[1], tags=TAGS)
record_epochs(journal, 1, 12)
journal.append("status", value="FINISHED")
sys.exit(0 if sink.close(timeout=200) else 1)
"""


def test_processes_that_start_together_on_a_fresh_database_all_arrive(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'fresh.db'}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    journals = [tmp_path / f"run-{index}" / "metrics.jsonl" for index in range(3)]
    commands = [[sys.executable, "-c", WORKER, str(journal), uri] for journal in journals]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, "")
    runs = tracked_runs(uri)
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.data.metrics["eval/return_mean"] == 12.1 for run in runs)
    assert len({run.info.run_name for run in runs}) == 3
    assert all(len(list(read_journal(journal))) == 14 for journal in journals)
