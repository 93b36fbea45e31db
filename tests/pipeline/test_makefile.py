"""The Makefile, with programs that only say how they were called: in a folder with a blank, and without git."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PROGRAMS = ("python", "dvc", "ruff", "mypy", "mlflow")


@pytest.fixture(params=[".venv", "another environment"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkout below a folder with a blank, with an environment in it or elsewhere, also with one."""
    folder = tmp_path / "my project"
    (folder / ".dvc").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, folder)
    (folder / "venv").write_text(request.param if request.param == ".venv" else str(tmp_path / request.param))
    programs = folder / (folder / "venv").read_text() / "bin"
    programs.mkdir(parents=True)
    for name in PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{folder}/calls"\n')
        (programs / name).chmod(0o755)
    (programs.parent / ".installed").touch()
    return folder


def make(checkout: Path, *targets: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    (checkout / "calls").unlink(missing_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV"))}
    done = subprocess.run(
        ["make", f"VENV={(checkout / 'venv').read_text()}", *targets],
        cwd=checkout, env=kept | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    calls = checkout / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


AFTERWARDS = ("python -m pipeline.publish", "python -m pipeline.artifacts")
CALLS = {
    "suite": ["python -m pipeline.suite"],
    "repro": ["python -m pipeline.preflight --missing", "dvc repro -P", *AFTERWARDS],
    "report": ["dvc repro --single-item collect aggregate tables figures report", *AFTERWARDS],
    "readme": ["python analysis/readme_tables.py"],
    "docs": ["python -m mkdocs build --strict --quiet --clean"],
    "test": ["python -m pytest -n auto --maxprocesses 8"],
    "lint": ["ruff format --check .", "ruff check .", "mypy"],
    "format": ["ruff format .", "ruff check --fix ."],
    "experiments": ["python -m pipeline.experiments"],
    "plots": ["python -m pipeline.vega", "dvc plots show"],
    "bench": ["python -m benchmarks"],
    "clean": ["python -m pipeline.clean --remove"],
}


@pytest.mark.parametrize("target", [*CALLS, "ui"])
def test_every_target_works_in_a_folder_with_a_blank(checkout: Path, target: str) -> None:
    (checkout / ".git").mkdir()
    done, calls = make(checkout, target)
    assert done.returncode == 0, done.stderr
    assert [call for call in calls if not call.startswith("python -c")] == CALLS.get(target, calls)
    if target == "ui":
        views, server = calls
        assert views == "python -m tokenworlds.tracking views --server http://127.0.0.1:5000"
        assert server.startswith("mlflow server --backend-store-uri") and "--port 5000" in server


@pytest.mark.parametrize("target", ["repro", "report"])
def test_without_git_dvc_is_told_so_once(checkout: Path, target: str) -> None:
    done, calls = make(checkout, target)
    assert done.returncode == 0 and calls[0] == "dvc config --local core.no_scm true"
    assert "git init" in done.stdout
    (checkout / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    done, calls = make(checkout, target)
    assert done.returncode == 0 and "no_scm" not in "".join(calls) and "git init" not in done.stdout


def test_the_preflight_can_be_left_out(checkout: Path) -> None:
    (checkout / ".git").touch()
    assert "python -m pipeline.preflight --missing" not in make(checkout, "repro", "PREFLIGHT=no")[1]


def test_the_address_of_mlflow_is_shown_without_its_password(checkout: Path) -> None:
    (checkout / ".git").touch()
    python = checkout / (checkout / "venv").read_text() / "bin" / "python"
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exec "{sys.executable}" "$@"; fi\n')
    (checkout / "src").symlink_to(PROJECT / "src")
    done, _ = make(checkout, "repro", MLFLOW_TRACKING_URI="http://me:hunter2@127.0.0.1:9")
    assert "MLflow    http://***@127.0.0.1:9 (look at it: make ui)" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
