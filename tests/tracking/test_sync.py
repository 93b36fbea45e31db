"""The command that completes MLflow afterwards, and where MLflow is looked for."""

import json
from pathlib import Path

import pytest

from tests.tracking.support import TAGS, assert_complete, record_epochs, tracked_runs
from tokenworlds.config import project_root
from tokenworlds.errors import UserError
from tokenworlds.runs.settings import LABEL
from tokenworlds.tracking.__main__ import main
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.store import resolve_uri
from tokenworlds.tracking.sync import describe_run, describe_runs

Capture = pytest.CaptureFixture[str]

# raised inside MLflow by its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SCORES = {
    "run": {"method": "iris", "variant": "64-tokens", "task": "atari/Pong", "seed": 3, "scale": "smoke", "suite": None},
    "config_hash": "abc",
    "git_revision": "def",
}


def test_the_command_sends_offline_runs_and_does_nothing_the_second_time(
    database: str, tmp_path: Path, capsys: Capture
) -> None:
    journal = Journal(tmp_path / "runs" / "0" / "metrics.jsonl")
    record_epochs(journal, 1, 4)
    journal.append("artifact", step=4, key="scores", path="scores.json")
    journal.append("status", value="FINISHED")
    journal.path.with_name("scores.json").write_text(json.dumps(SCORES))
    before = journal.path.read_bytes()
    for expected in ("8 values were missing", "0 values were missing"):
        assert main(["sync", str(tmp_path / "runs"), "--uri", database]) == 0
        assert expected in capsys.readouterr().out
    run = assert_complete(database, 4)
    assert run.info.run_name == "iris+64-tokens/atari/Pong/3"
    assert run.data.tags["config_hash"] == "abc"
    assert run.data.tags["suite"] == ""
    assert journal.path.read_bytes() == before
    assert {path.name for path in journal.path.parent.iterdir()} == {"metrics.jsonl", "scores.json"}, (
        "runs stay as they are"
    )


def test_tags_in_the_journal_describe_the_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    assert describe_run(journal.path) == (tmp_path.name, {})
    journal.append("tags", values={**TAGS, "variant": ""})
    assert describe_run(journal.path) == ("iris/minigrid/Empty-5x5/0", {**TAGS, "variant": ""})


def runs_of_two_backbones(folder: Path) -> None:
    """Two runs of one name, the second with another backbone; their tags say nothing of it."""
    for seed, overrides in enumerate(({}, {"model.backbone": "retnet"})):
        journal = Journal(folder / str(seed) / "metrics.jsonl")
        journal.append("tags", values={**TAGS, "seed": str(seed), "variant": ""})
        record_epochs(journal, 1, 2)
        settings = {"settings_hash": str(seed) * 12, "overrides": overrides}
        journal.path.with_name("scores.json").write_text(json.dumps(SCORES | settings))


def test_several_settings_under_one_name_are_refused_or_labelled(
    database: str, tmp_path: Path, capsys: Capture
) -> None:
    runs_of_two_backbones(tmp_path / "runs")
    arguments = ["sync", str(tmp_path / "runs"), "--uri", database]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "1 run with the shipped settings and 1 run with model.backbone=retnet" in error and len(error) < 300
    assert main([*arguments, "--mixed", "label"]) == 0
    found = {run.info.run_name: run.data.tags["variant"] for run in tracked_runs(database)}
    assert found == {
        "iris/minigrid/Empty-5x5/0": "",
        "iris+model.backbone=retnet/minigrid/Empty-5x5/1": "model.backbone=retnet",
    }


def test_two_configurations_of_a_run_that_say_nothing_of_their_settings_are_refused_or_labelled(tmp_path: Path) -> None:
    journals = []
    for digest in ("abcdef012345", "fedcba543210"):
        journal = Journal(tmp_path / digest / "metrics.jsonl")
        journal.append("tags", values={**TAGS, "variant": "", "config_hash": digest})
        journals.append(journal.path)
    with pytest.raises(UserError, match="of two configurations"):
        describe_runs(journals)
    names = [name for name, _ in describe_runs(journals, LABEL)]
    assert names == ["iris+config=abcdef/minigrid/Empty-5x5/0", "iris+config=fedcba/minigrid/Empty-5x5/0"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"run": 3}'])
def test_damaged_scores_are_one_sentence(content: bytes, tmp_path: Path) -> None:
    record_epochs(Journal(tmp_path / "metrics.jsonl"), 1, 2)
    (tmp_path / "scores.json").write_bytes(content)
    with pytest.raises(UserError, match=r"scores\.json is damaged"):
        describe_runs([tmp_path / "metrics.jsonl"])


def test_the_same_run_made_twice_is_two_runs(database: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        record_epochs(Journal(tmp_path / name / "metrics.jsonl"), 1, 2)
    assert main(["sync", str(tmp_path), "--uri", database]) == 0
    assert len(tracked_runs(database)) == 2


@pytest.mark.parametrize(("folder", "message"), [("nowhere", "does not exist"), (".", "there is no metrics.jsonl in")])
def test_folders_without_runs_are_an_error(folder: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["sync", str(tmp_path / folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_a_server_that_refuses_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record_epochs(Journal(tmp_path / "metrics.jsonl"), 1, 2)
    assert main(["sync", str(tmp_path), "--uri", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: MLflow at http://127.0.0.1:9 did not take")
    assert error.count("\n") == 1


def test_the_address_is_given_or_from_the_environment_or_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri() == f"sqlite:///{project_root()}/mlflow.db"
    assert resolve_uri("sqlite:///other.db") == f"sqlite:///{project_root()}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert resolve_uri() == "http://127.0.0.1:5000"
    assert resolve_uri("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
