"""The report in MLflow: once, complete, and never a reason to fail."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.data.aggregates import RESAMPLED
from pipeline import publish
from tests.tracking.support import Server, free_port
from tests.tracking.test_over_seeds import finished_run
from tokenworlds.tracking import store

Capture = pytest.CaptureFixture[str]

# raised inside MLflow by its own dependencies
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What `make report` leaves, in small."""
    folder = tmp_path / "results"
    point = {"point": 0.5, "low": None, "high": None, "runs": 1, "tasks": 26}
    aggregates = {
        "atari100k": {"IRIS": {"iqm": point, "mean": point}, "DrQ(eps)": {"iqm": point}},
        "atari100k_2_games": {"IRIS (ours, smoke, 2 games x 2 seeds)": {"iqm": point}},
        "probability_of_improvement": {"IRIS": {"SPR": point}},
        RESAMPLED: {"engine": "FastEngine", "seed": 0},
    }
    for name, text in {
        "aggregated/aggregates.json": json.dumps(aggregates),
        "collected/scores.csv": "method\n",
        "collected/losses.csv": "large\n",
        "tables/IRIS-T1.md": "| IRIS |",
        "figures/IRIS-F-agg.svg": "<svg/>",
        "report/index.html": "<p>report</p>",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def published(uri: str) -> list[Any]:
    client, experiment = store.prepare(uri, publish.EXPERIMENT)
    return list(client.search_runs([experiment]))


def send(results: Path, uri: str) -> int:
    return publish.main(["--results", str(results), "--uri", uri])


def test_a_report_arrives_once_with_aggregates_and_files(database: str, results: Path, capsys: Capture) -> None:
    assert send(results, database) == send(results, database) == 0
    assert "has this report already" in capsys.readouterr().out
    (run,) = published(database)
    assert (run.info.run_name, run.info.status) == ("analysis", "FINISHED")
    assert run.data.tags["git_revision"] == publish.git_revision()
    assert run.data.metrics == {
        "atari100k/iqm/IRIS": 0.5,
        "atari100k/mean/IRIS": 0.5,
        "atari100k/iqm/DrQ eps": 0.5,
        "atari100k_2_games/iqm/IRIS ours smoke 2 games x 2 seeds": 0.5,
    }
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    sent = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert sent == {path.relative_to(results).as_posix() for path in results.rglob("*.*")} - {"collected/losses.csv"}


def test_another_report_is_another_run_beside_the_training_runs(database: str, results: Path) -> None:
    assert send(results, database) == 0
    (results / "report" / "index.html").write_text("<p>another</p>")
    assert send(results, database) == 0
    assert len(published(database)) == 2
    client, experiment = store.prepare(database)
    assert not client.search_runs([experiment])


def test_a_server_that_dies_on_the_way_gets_the_rest_later(
    database: str, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from mlflow import MlflowClient

    def refuse(*arguments: Any) -> None:
        raise ConnectionError("gone\naway")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", refuse)
        assert send(results, database) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: MLflow at ") and captured.err.count("\n") == 1
    assert "gone away" in captured.err and "send it later with: python -m pipeline.publish" in captured.err
    assert not captured.out
    assert send(results, database) == 0
    (run,) = published(database)
    assert run.info.status == "FINISHED"
    client, _ = store.prepare(database)
    assert len(client.get_metric_history(run.info.run_id, "atari100k/iqm/IRIS")) == 1


def test_a_server_takes_the_report(tmp_path: Path, results: Path) -> None:
    server = Server(tmp_path)
    try:
        server.start()
        assert send(results, server.uri) == 0
        (run,) = published(server.uri)
        assert run.info.status == "FINISHED" and run.data.metrics["atari100k/iqm/IRIS"] == 0.5
        client, _ = store.prepare(server.uri)
        assert [entry.path for entry in client.list_artifacts(run.info.run_id, "report")] == ["report/index.html"]
    finally:
        server.kill()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("is_silent", [False, True])
def test_no_server_costs_a_sentence(
    is_silent: bool, silent_port: int, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    before = publish.content(results)
    assert send(results, f"http://127.0.0.1:{silent_port if is_silent else free_port()}") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: MLflow at http://127.0.0.1:") and captured.err.count("\n") == 1
    assert publish.content(results) == before


@pytest.mark.parametrize(
    ("name", "sentence"), [("report/index.html", "no report in"), ("aggregated/aggregates.json", "holds no aggregates")]
)
def test_without_a_report_it_says_how_to_make_one(
    name: str, sentence: str, database: str, results: Path, capsys: Capture
) -> None:
    (results / name).unlink()
    assert send(results, database) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and "`make report`" in error


def test_runs_are_summarised_over_their_seeds(database: str, results: Path, capsys: Capture) -> None:
    for seed in (0, 1):
        finished_run(results / "runs", seed)
    assert send(results, database) == 0
    assert "1 summaries over seeds are at" in capsys.readouterr().out
    finished_run(results / "runs" / "again", 1)
    assert send(results, database) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: seed 1 of iris/atari/Pong is there twice") and error.count("\n") == 1
