"""A prepared tracking database for every test, copied from one that is made once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.support import Server
from tokenworlds.tracking import store


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracking")
    store.prepare(f"sqlite:///{folder / 'mlflow.db'}")
    return folder


@pytest.fixture
def database(_template: Path, tmp_path: Path) -> str:
    """Address of an empty, ready database."""
    for name in ("mlflow.db", "mlflow.db.version"):
        shutil.copy(_template / name, tmp_path / name)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(params=["database", pytest.param("server", marks=pytest.mark.integration)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a tracking database, then of a server."""
    if request.param == "database":
        yield request.getfixturevalue("database")
        return
    server = Server(tmp_path)
    try:
        server.start()
        yield server.uri
    finally:
        server.kill()
