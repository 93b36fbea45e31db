"""Address of the MLflow server or database, and its preparation before several processes use it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from tokenworlds.config import workspace_root
from tokenworlds.errors import UserError
from tokenworlds.files import require_room, shortened
from tokenworlds.redaction import redact
from tokenworlds.tracking.database import ensure
from tokenworlds.tracking.views import KIND, experiment_tags

EXPERIMENT = "tokenworlds"
_SQLITE = "sqlite:///"
_PREPARE_SECONDS = 300.0  # creating a database takes seconds; on a loaded machine with many waiting, more


def resolve_uri(uri: str | None = None) -> str:
    """The given address, else ``MLFLOW_TRACKING_URI``, else a database in the project; paths made absolute."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{workspace_root() / 'mlflow.db'}"
    if uri.startswith(_SQLITE):
        return f"{_SQLITE}{(workspace_root() / uri.removeprefix(_SQLITE)).absolute()}"
    return uri


def is_local(uri: str | None = None) -> bool:
    """Whether the address is a database file of this machine, not a server."""
    return resolve_uri(uri).startswith(_SQLITE)


def describe_error(error: Exception) -> str:
    """An exception of MLflow in one line, passwords masked. A long text loses its middle: the reason of a failed
    request is at its end."""
    text = " ".join(redact(str(error)).split())
    return f"{type(error).__name__}: {text if len(text) <= 160 else f'{text[:80]} ... {text[-75:]}'}"


def configure_client() -> None:
    """Configure MLflow's client, before it is imported, to give up soon and to print nothing."""
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    for name, level in (
        ("mlflow", logging.WARNING),
        ("alembic", logging.WARNING),
        ("urllib3.connectionpool", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)


def prepare(uri: str | None = None, experiment: str = EXPERIMENT) -> tuple[Any, str]:
    """A client for the address, and the id of the experiment, both created when they do not exist yet.

    Raises:
        UserError: the file at the address is no MLflow database.
    """
    uri = resolve_uri(uri)
    configure_client()
    if not uri.startswith(_SQLITE):
        return _client(uri), _experiment(_client(uri), experiment, None)
    database = Path(uri.removeprefix(_SQLITE)).resolve()  # not a link to it, which a rename would replace
    _make_folder(database.parent)
    lock = FileLock(database.with_name(f"{database.name}.lock"), timeout=_PREPARE_SECONDS)
    with lock:
        if ensure(database, lambda path: f"{_SQLITE}{path}"):
            configure_client()  # the migrations reset the log levels
            _forget_connections(uri)
        client = _client(uri)
        return client, _experiment(client, experiment, (database.parent / "mlartifacts" / experiment).as_uri())


def _make_folder(folder: Path) -> None:
    remedy = (
        "name another place for the tracking database with $MLFLOW_TRACKING_URI or runtime.tracking_uri, for example "
        "sqlite:////path/mlflow.db"
    )
    require_room(folder, remedy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {shortened(folder)} ({error.strerror}); {remedy}.") from error


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    for handler in logging.getLogger("mlflow").handlers:
        if _redact_record not in handler.filters:
            handler.addFilter(_redact_record)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _redact_record(record: logging.LogRecord) -> bool:
    """Mask passwords in a log message; a filter that keeps every record."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def _forget_connections(uri: str) -> None:
    """Close MLflow's cached connections, which would continue with the file that was replaced."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.get(uri)
    if engine is not None:
        engine.dispose()


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    """Id of the experiment. Its artifact folder is fixed on creation: absolute for a local database, else the
    server's."""
    from mlflow.exceptions import MlflowException

    tags = experiment_tags() if name == EXPERIMENT else KIND
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=tags))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    for key in tags.keys() - found.tags.keys():  # made by an earlier version; what a person has edited stays
        client.set_experiment_tag(found.experiment_id, key, tags[key])
    return str(found.experiment_id)
