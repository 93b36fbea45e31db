"""Which experiment a run belongs to, and what happens to those that are made at once, old, or in the trash."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.support import TAGS, Server, assert_complete, record_epochs, tracked_runs
from tests.tracking.test_mlflow_objects import RUN, published_run
from tokenworlds.tracking import store
from tokenworlds.tracking.__main__ import main
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.shipper import Shipper
from tokenworlds.tracking.sync import sync

Capture = pytest.CaptureFixture[str]

# raised inside MLflow by its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def journal_of(folder: Path, suite: str) -> Journal:
    journal = Journal(folder / "metrics.jsonl")
    journal.append("tags", values={**TAGS, "suite": suite})
    return journal


def by_experiment(uri: str) -> dict[str, int]:
    """Number of runs in every experiment."""
    client = store.connect(uri)
    return {name: len(store.runs(client, each)) for name, each in store.experiments(client).items()}


def test_the_runs_of_a_suite_are_together(database: str, tmp_path: Path) -> None:
    for index, suite in enumerate(("smoke", "atari100k", "", "smoke")):
        record_epochs(journal_of(tmp_path / str(index), suite), 1, 2)
    for _ in range(2):
        sync([tmp_path], database)
    assert by_experiment(database) == {"tokenworlds": 1, "tokenworlds/atari100k": 1, "tokenworlds/smoke": 2}


def test_a_run_that_an_earlier_version_has_sent_goes_on_where_it_is(database: str, tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "run", "smoke")
    record_epochs(journal, 1, 3)
    records = [record for record in journal.read() if record["kind"] != "tags"]
    Shipper(journal.path, database, "run", TAGS).ship(records)  # which did not look at the suite
    record_epochs(journal, 4, 5)
    sync([tmp_path], database)
    assert_complete(database, 5)
    assert by_experiment(database) == {"tokenworlds": 1}


def test_an_experiment_in_the_trash_is_one_sentence(database: str, tmp_path: Path, capsys: Capture) -> None:
    client, experiment = store.prepare(database, "tokenworlds/smoke")
    client.delete_experiment(experiment)
    record_epochs(journal_of(tmp_path / "run", "smoke"), 1, 2)
    for command in (["sync", str(tmp_path / "run")], ["prepare", "smoke"]):
        assert main([*command, "--uri", database]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: MLflow's experiment tokenworlds/smoke is in its trash; restore it with")
        assert f"mlflow experiments restore -x {experiment}" in error and error.count("\n") == 1
    client.restore_experiment(experiment)
    assert main(["sync", str(tmp_path / "run"), "--uri", database]) == 0
    assert_complete(database, 2)


def test_another_process_that_is_faster_is_no_error(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    _, experiment = store.prepare(database, "tokenworlds/smoke")
    get, calls = MlflowClient.get_experiment_by_name, iter([True])
    monkeypatch.setattr(
        MlflowClient, "get_experiment_by_name", lambda *arguments: None if next(calls, False) else get(*arguments)
    )
    assert store.prepare(database, "tokenworlds/smoke")[1] == experiment


@pytest.mark.integration
def test_many_that_need_an_experiment_at_once_get_the_same(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        server.start()
        for name in ("tokenworlds", "tokenworlds/smoke", "tokenworlds-summary/smoke"):
            with ThreadPoolExecutor(8) as pool:
                found = {one for _, one in pool.map(lambda _, name=name: store.prepare(server.uri, name), range(8))}
            assert len(found) == 1, name
    finally:
        server.kill()


def test_the_best_seed_is_that_of_all_suites(database: str, tmp_path: Path) -> None:
    for seed, (suite, score) in enumerate((("", 1.0), ("smoke", 3.0), ("other", 2.0))):
        folder = published_run(tmp_path / str(seed), seed, score=score)
        Journal(folder / "metrics.jsonl").append("tags", values=RUN | {"seed": str(seed), "suite": suite})
        sync([folder], database)
    assert len(by_experiment(database)) == 3
    found = store.connect(database).get_registered_model("iris-atari-Pong").aliases
    assert found["paper-best"] == found["paper-seed-1"]


def test_the_addresses_are_of_every_experiment(database: str, capsys: Capture) -> None:
    arguments = ["views", "--server", "http://host:5000", "--uri", database]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[0] == "tokenworlds"
    assert main(["prepare", "smoke", "atari100k", "--uri", database]) == 0
    ids = {name: store.prepare(database, name)[1] for name in ("tokenworlds/smoke", "tokenworlds-summary/smoke")}
    store.prepare(database, "tokenworlds-analysis")
    capsys.readouterr()
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "tokenworlds", "tokenworlds/atari100k", "tokenworlds/smoke", "tokenworlds-summary/smoke",
    ]  # fmt: skip
    for name, experiment in ids.items():
        scores, curves = lines[lines.index(name) + 1 :][:2]
        assert f"http://host:5000/#/experiments/{experiment}/runs" in scores and scores.endswith("=scores")
        assert f"/experiments/{experiment}/" in curves and curves.endswith("=curves&compareRunsMode=CHART")


@pytest.mark.parametrize(
    ("suite", "kind", "expected"),
    [
        ("smoke", store.EXPERIMENT, "tokenworlds/smoke"),
        ("", store.EXPERIMENT, "tokenworlds"),
        (None, store.SUMMARIES, "tokenworlds-summary"),
    ],
)
def test_an_experiment_is_named_after_its_suite(suite: Any, kind: str, expected: str) -> None:
    assert store.of_suite(suite, kind) == expected


def test_summaries_are_no_experiments_of_runs(database: str) -> None:
    for name in ("tokenworlds-summary", "tokenworlds-summary/smoke", "tokenworlds-analysis", "tokenworlds/smoke"):
        store.prepare(database, name)
    assert tracked_runs(database) == [] and list(by_experiment(database)) == ["tokenworlds", "tokenworlds/smoke"]
