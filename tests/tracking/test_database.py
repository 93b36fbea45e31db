"""The tracking database: whole or not there, whatever kills its making; what cannot be used is named and left alone."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.support import TAGS, assert_complete, record_epochs, tracked_runs
from tokenworlds.errors import UserError
from tokenworlds.tracking import database as databases
from tokenworlds.tracking import store
from tokenworlds.tracking.__main__ import main
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.mlflow_sink import MlflowSink
from tokenworlds.tracking.shipper import Shipper

# raised inside MLflow by its own dependencies
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

Capture = pytest.CaptureFixture[str]


def path_of(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///"))


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def half_made(path: Path) -> None:
    """What a kill among the first tables left."""
    execute(path, "create table experiments (experiment_id integer)", "create table runs (run_uuid text)")


def half_migrated(path: Path) -> None:
    """What a kill between two statements of the last migration but some left: the next one finds its table there."""
    execute(path, "update alembic_version set version_num = '451aebb31d03'")  # the second, of 2019


def foreign(path: Path) -> None:
    execute(path, "create table bookmarks (url text)")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "it has no tables"),
    "half made": (half_made, "it lacks the table alembic_version"),
    "text": (lambda path: path.write_text("not a database, but long enough to be read as one" * 9), "not a database"),
    "foreign": (foreign, "it lacks the table alembic_version"),
    "folder": (lambda path: path.mkdir(), "unable to open"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_whole_database_is_named_and_left_alone(kind: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "mlflow.db"
    make, reason = BROKEN[kind]
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    record_epochs(Journal(tmp_path / "run" / "metrics.jsonl"), 1, 2)
    for command in (["prepare"], ["sync", str(tmp_path / "run")]):
        assert main([*command, "--uri", f"sqlite:///{path}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {path} is no complete MLflow database") and error.count("\n") == 1
        assert reason in error and "Move it away" in error and "tokenworlds.tracking sync" in error
        assert len(error.replace(str(path), "mlflow.db")) < 300 and "later" not in error
    assert path.is_dir() or path.read_bytes() == before


def test_experiments_are_made_of_suites_that_exist(database: str, capsys: Capture) -> None:
    assert main(["prepare", "smok", "--uri", database]) == 2
    assert "unknown suite 'smok': did you mean smoke" in capsys.readouterr().err


def test_a_half_migrated_database_is_named_and_left_alone(database: str, capsys: Capture) -> None:
    half_migrated(path_of(database))
    before = path_of(database).read_bytes()
    assert main(["prepare", "--uri", database]) == 2
    error = capsys.readouterr().err
    assert "cannot upgrade it" in error and "Move it away" in error and len(error) < 400
    assert path_of(database).read_bytes() == before


def test_a_running_training_says_what_is_wrong_and_goes_on_when_it_is_mended(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("tokenworlds.tracking.mlflow_sink._POLL_SECONDS", 0.05)
    path, good = path_of(database), tmp_path / "good.db"
    path.rename(good)
    foreign(path)
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    sink = MlflowSink(journal.path, database, run_name="run", tags=TAGS)
    record_epochs(journal, 1, 3)
    deadline = time.monotonic() + 30
    while not sink._has_warned and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sink._has_warned
    path.rename(tmp_path / "moved.db")
    good.rename(path)
    assert sink.close()
    assert_complete(database, 3)
    error = capsys.readouterr().err
    assert error.startswith(f"warning: MLflow: {path} is no complete MLflow database: it lacks the table alembic_v")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["prepare", "sync"])
def test_a_place_that_cannot_be_written_is_one_sentence(command: str, tmp_path: Path, capsys: Capture) -> None:
    record_epochs(Journal(tmp_path / "run" / "metrics.jsonl"), 1, 2)
    (tmp_path / "file").touch()
    folder = [str(tmp_path / "run")] if command == "sync" else []
    assert main([command, *folder, "--uri", f"sqlite:///{tmp_path}/file/mlflow.db"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/file is no folder; name another place for the tracking database")
    assert "$MLFLOW_TRACKING_URI" in error and error.count("\n") == 1


def test_a_failed_making_leaves_nothing_in_its_place_and_the_next_start_succeeds(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = tmp_path / "fresh" / "mlflow.db"

    def fail(uri: str) -> None:
        half_made(path_of(uri))
        path_of(uri).with_name("mlflow.db-journal").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(databases, "_migrate", fail)
        with pytest.raises(KeyboardInterrupt):
            store.prepare(f"sqlite:///{fresh}")
    assert not fresh.exists()
    monkeypatch.setattr(databases, "_migrate", lambda uri: shutil.copy(path_of(database), path_of(uri)))
    assert tracked_runs(f"sqlite:///{fresh}") == []
    assert files(fresh.parent) == {"mlflow.db", "mlflow.db.version", "mlflow.db.lock"}


def test_something_else_where_it_is_made_is_left_alone(tmp_path: Path) -> None:
    making = tmp_path / "mlflow.db.new"
    making.mkdir()
    (making / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"thesis\.tex.*move it away"):
        store.prepare(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert files(making) == {"thesis.tex"}


def outdate(uri: str) -> None:
    """As an earlier version of MLflow would have left it: its marker says so."""
    path_of(uri).with_name("mlflow.db.version").write_text("3.0.0 earlier")
    execute(path_of(uri), "update alembic_version set version_num = 'earlier'")


def renew(uri: str) -> None:
    execute(path_of(uri), f"update alembic_version set version_num = '{databases._newest_revision()}'")


def test_an_upgrade_that_is_interrupted_leaves_a_usable_database(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    record_epochs(journal, 1, 3)
    Shipper(journal.path, database, "run", TAGS).ship(list(journal.read()))
    outdate(database)
    before = path_of(database).read_bytes()

    def fail(uri: str) -> None:
        execute(path_of(uri), "drop table metrics")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(databases, "_migrate", fail)
        with pytest.raises(KeyboardInterrupt):
            store.prepare(database)
    assert path_of(database).read_bytes() == before
    monkeypatch.setattr(databases, "_migrate", renew)
    record_epochs(journal, 4, 5)
    Shipper(journal.path, database, "run", TAGS).ship(list(journal.read()))  # not to the file that was replaced
    assert_complete(database, 5)


def test_a_link_to_a_database_stays_a_link(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path_of(database))
    outdate(database)
    monkeypatch.setattr(databases, "_migrate", renew)
    store.prepare(f"sqlite:///{link}")
    assert link.is_symlink() and link.resolve() == path_of(database)


def test_a_ready_database_is_not_migrated_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_migrate", lambda uri: pytest.fail("migrated again"))
    store.prepare(database)
    path_of(database).with_name("mlflow.db.version").write_text("3.17.2")  # as earlier revisions wrote it
    store.prepare(database)
    assert path_of(database).with_name("mlflow.db.version").read_text().endswith(databases._newest_revision())


# Kills itself at the n-th statement that changes tables (of some 1,200), or just before or after the rename.
KILLED = """
import os, signal, sys
import sqlalchemy
from tokenworlds.tracking import database, store

when = sys.argv[2]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
count = 0
def on_statement(connection, cursor, statement, *_):
    global count
    count += not statement.lstrip().lower().startswith(("select", "pragma"))
    if when.isdigit() and count == int(when):
        die()
sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", on_statement)
replace = os.replace
def strike(source, target):
    if str(target) == sys.argv[1]:
        when == "before the rename" and die()
        replace(source, target)
        when == "after the rename" and die()
    return replace(source, target) if os.path.exists(source) else None
os.replace = strike
store.prepare(f"sqlite:///{sys.argv[1]}")
print(count)
"""


@pytest.mark.parametrize(
    "when",
    [
        pytest.param("1", marks=pytest.mark.slow),
        pytest.param("7", marks=pytest.mark.slow),
        "150",
        pytest.param("280", marks=pytest.mark.slow),
        pytest.param("before the rename", marks=pytest.mark.slow),
        pytest.param("after the rename", marks=pytest.mark.slow),
    ],
)
def test_a_database_whose_making_is_killed_is_made_by_the_next_start(when: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), when], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    assert path.exists() == (when == "after the rename")
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    record_epochs(journal, 1, 3)
    Shipper(journal.path, f"sqlite:///{path}", "run", TAGS).ship(list(journal.read()))
    assert_complete(f"sqlite:///{path}", 3)
    assert "mlflow.db.new" not in files(tmp_path)
