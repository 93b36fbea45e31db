"""Where runs are tracked: the MLflow address, and its preparation, once, before several processes use it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from tokenworlds.config import workspace_root

EXPERIMENT = "tokenworlds"
_SQLITE = "sqlite:///"
_PREPARE_SECONDS = 300.0  # creating a database takes seconds; on a loaded machine with many waiting, more


def resolve_uri(uri: str | None = None) -> str:
    """The given address, else ``MLFLOW_TRACKING_URI``, else a database in the project; paths made absolute."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{workspace_root() / 'mlflow.db'}"
    if uri.startswith(_SQLITE):
        return f"{_SQLITE}{(workspace_root() / uri.removeprefix(_SQLITE)).absolute()}"
    return uri


def configure_client() -> None:
    """Settings of MLflow's client, to be made before it is imported: it must give up soon, and be quiet."""
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

    The tables of a new SQLite database are made under a file lock: several processes doing it at once destroy each
    other's migrations.
    """
    uri = resolve_uri(uri)
    configure_client()
    if not uri.startswith(_SQLITE):
        return _client(uri), _experiment(_client(uri), experiment, None)
    database = Path(uri.removeprefix(_SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(database.with_name(f"{database.name}.lock"), timeout=_PREPARE_SECONDS)
    with lock:
        _upgrade(uri, database)
        client = _client(uri)
        return client, _experiment(client, experiment, (database.parent / "mlartifacts" / experiment).as_uri())


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _upgrade(uri: str, database: Path) -> None:
    """``mlflow db upgrade``, once per MLflow version, which a small file beside the database remembers."""
    import mlflow
    from mlflow.db import upgrade

    marker = database.with_name(f"{database.name}.version")
    if database.exists() and marker.exists() and marker.read_text() == mlflow.__version__:
        return
    cast(Any, upgrade.callback)(uri)
    configure_client()  # the migrations reset the log levels
    marker.write_text(mlflow.__version__)


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    """The artifact folder is fixed on creation: absolute for a local database, the server's own otherwise."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
