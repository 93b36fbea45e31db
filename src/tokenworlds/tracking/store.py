"""Address of the MLflow server or database, and the preparation of it and of its experiments, which several processes
may do at once.

A run belongs to the experiment of the suite that it was trained for, ``tokenworlds/<suite>``, or to ``tokenworlds``: so
do runs of no suite, and all runs that earlier versions have sent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from tokenworlds.config import workspace_root
from tokenworlds.errors import UserError
from tokenworlds.files import require_room, shortened
from tokenworlds.redaction import redact
from tokenworlds.tracking.database import ensure
from tokenworlds.tracking.views import KIND, run_views, summary_views

EXPERIMENT = "tokenworlds"
SUMMARIES = "tokenworlds-summary"
"""Of runs that summarise others, by suite as those: nothing that lists runs finds them."""
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
    """Import MLflow, so configured that its client gives up soon and prints nothing."""
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (sets levels of its own)

    for name, level in (
        ("mlflow", logging.WARNING),
        ("alembic", logging.WARNING),
        ("urllib3.connectionpool", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)


def of_suite(suite: str | None, experiments: str = EXPERIMENT) -> str:
    """Name of the experiment with the runs of a suite, ``tokenworlds/atari100k``; of no suite, ``tokenworlds``."""
    return f"{experiments}/{suite}" if suite else experiments


def prepare(uri: str | None = None, experiment: str = EXPERIMENT) -> tuple[Any, str]:
    """A client for the address, and the id of the experiment, both created when they do not exist yet.

    Raises:
        UserError: the file at the address is no MLflow database, or the experiment is in MLflow's trash.
    """
    with _ready(uri) as (client, artifacts):
        return client, _experiment(client, experiment, artifacts and f"{artifacts}/{quote(experiment)}")


def connect(uri: str | None = None) -> Any:
    """A client for the address, as ``prepare`` gives it, without an experiment."""
    with _ready(uri) as (client, _):
        return client


def experiments(client: Any, kind: str = EXPERIMENT) -> dict[str, str]:
    """Ids of the experiments with runs of all suites, by name; those in MLflow's trash are left out."""
    found = _pages(lambda page: client.search_experiments(filter_string=f"name LIKE '{kind}%'", page_token=page))
    names = {each.name: str(each.experiment_id) for each in found}
    return {name: names[name] for name in sorted(names) if name == kind or name.startswith(f"{kind}/")}


def runs(client: Any, experiment: str) -> list[Any]:
    """All runs of an experiment that are not in MLflow's trash."""
    return _pages(lambda page: client.search_runs([experiment], page_token=page))


def _pages(search: Callable[[str | None], Any]) -> list[Any]:
    """What a search finds, however many answers it takes."""
    found: list[Any] = []
    page = None
    while page is None or page.token:
        page = search(page and page.token)
        found += page
    return found


@contextmanager
def _ready(uri: str | None) -> Iterator[tuple[Any, str | None]]:
    """A client, and the folder of artifacts unless a server decides it. While the context lasts, no other process
    prepares the same database."""
    uri = resolve_uri(uri)
    configure_client()
    if not uri.startswith(_SQLITE):
        yield _client(uri), None
        return
    database = Path(uri.removeprefix(_SQLITE)).resolve()  # not a link to it, which a rename would replace
    _make_folder(database.parent)
    with FileLock(database.with_name(f"{database.name}.lock"), timeout=_PREPARE_SECONDS):
        if ensure(database, lambda path: f"{_SQLITE}{path}"):
            configure_client()  # the migrations reset the log levels
            _forget_connections(uri)
        yield _client(uri), (database.parent / "mlartifacts").as_uri()


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

    tags = _tags(name)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=tags))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"MLflow's experiment {name} is in its trash; restore it with `MLFLOW_TRACKING_URI={client.tracking_uri} "
            f"mlflow experiments restore -x {found.experiment_id}`, or empty the trash with `mlflow gc`."
        )
    for key in tags.keys() - found.tags.keys():  # made by an earlier version; what a person has edited stays
        client.set_experiment_tag(found.experiment_id, key, tags[key])
    return str(found.experiment_id)


def _tags(experiment: str) -> dict[str, str]:
    kind = experiment.partition("/")[0]
    return run_views() if kind == EXPERIMENT else summary_views() if kind == SUMMARIES else KIND
