"""Create and upgrade MLflow's SQLite database atomically: it is complete or absent, even after a kill.

Tables are made and upgraded in a copy in a folder beside the database, which is then renamed. A file that is no usable
database is reported, and neither removed nor overwritten.
"""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from tokenworlds.errors import UserError
from tokenworlds.files import refuse_foreign, remove_own, write_atomic

_TABLES = {"alembic_version", "experiments", "runs", "metrics"}  # some of those that every MLflow database has


def ensure(database: Path, uri: Callable[[Path], str]) -> bool:
    """Create the database, or upgrade it to the tables of this version of MLflow. The caller holds a lock: concurrent
    migrations destroy each other.

    Args:
        uri: the address of a database file.

    Returns:
        Whether the file was replaced, so that open connections are outdated.

    Raises:
        UserError: the file there is no complete MLflow database.
    """
    import mlflow

    making, own = database.with_name(f"{database.name}.new"), (f"{database.name}*",)
    marker = database.with_name(f"{database.name}.version")
    refuse_foreign(making, own, "move it away: the tracking database is made there")
    remove_own(making, own)  # left by a process that was killed
    found = _revision(database) if database.exists() else None
    if found is not None and marker.exists() and marker.read_text() == f"{mlflow.__version__} {found}":
        return False
    newest = _newest_revision()
    is_current = found == newest
    if not is_current:
        making.mkdir(parents=True)
        new = making / database.name
        if found is not None:
            _copy(database, new)
        try:
            _migrate(uri(new))
        except Exception as error:
            if found is None:
                raise
            reason = " ".join(str(error).split())[:80]
            raise _unusable(database, f"MLflow {mlflow.__version__} cannot upgrade it ({reason})") from error
        _close(new)
        os.replace(new, database)
        remove_own(making, own)
    write_atomic(marker, f"{mlflow.__version__} {newest}".encode())
    return not is_current


def has_current_tables(database: Path) -> bool:
    """Whether the tables are those of this version of MLflow, not of an older one; nothing is changed.

    Raises:
        UserError: the file there is no complete MLflow database, or a newer MLflow has made it.
    """
    found, migrations = _revision(database), _migrations()
    if found not in {each.revision for each in migrations.walk_revisions()}:
        raise _unusable(database, f"this version of MLflow does not know its revision {found}")
    return found == str(migrations.get_current_head())


def _revision(database: Path) -> str:
    """The revision of the tables, as MLflow's migrations record it."""
    try:
        # `rw`: a transaction that a kill left half done is rolled back by the first reader
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            if not tables:
                raise _unusable(database, "it has no tables")
            if missing := sorted(_TABLES - tables):
                raise _unusable(database, f"it lacks the table {missing[0]}")
            revisions = [str(row[0]) for row in connection.execute("select version_num from alembic_version")]
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):  # in use: passes
            raise
        raise _unusable(database, str(error)) from error
    if len(revisions) != 1:
        raise _unusable(database, "its tables were made in part only")
    return revisions[0]


def _unusable(database: Path, reason: str) -> UserError:
    return UserError(
        f"{database} is no complete MLflow database: {reason}. Move it away: a new one will be made, and "
        "`python -m tokenworlds.tracking sync` sends all runs again."
    )


def _newest_revision() -> str:
    return str(_migrations().get_current_head())


def _migrations() -> Any:
    """The migrations of the installed MLflow: a revision each, the newest is their head."""
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _migrate(uri: str) -> None:
    from mlflow.db import upgrade

    cast(Any, upgrade.callback)(uri)


def _copy(database: Path, target: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _close(database: Path) -> None:
    """Merge write-ahead logs and journals, which would not be renamed, into the database file."""
    gc.collect()  # MLflow leaves its connection to the garbage collector
    with closing(sqlite3.connect(database)) as connection:
        (mode,) = connection.execute("pragma journal_mode = delete").fetchone()
    if mode != "delete":
        raise RuntimeError(f"{database} is still in use (journal mode {mode})")
