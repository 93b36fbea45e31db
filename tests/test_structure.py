"""Imports go one way, and dependencies are declared where they are used."""

import subprocess
import sys

from importlinter.cli import lint_imports

from tests.conftest import PROJECT


def test_imports_keep_their_contracts() -> None:
    """The contracts are in pyproject.toml; ``lint-imports`` prints what breaks them."""
    assert lint_imports(config_filename=str(PROJECT / "pyproject.toml"), no_cache=True) == 0


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    command = [sys.executable, "-m", "deptry", "src", "pipeline", "analysis", "benchmarks", "examples"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
