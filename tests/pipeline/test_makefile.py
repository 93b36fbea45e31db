"""The Makefile, with programs that only say how they were called: in a folder with a blank, and without git."""

import os
import shutil
import subprocess
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


CALLS = {
    "suite": ["python -m pipeline.suite"],
    "repro": ["python -m pipeline.preflight --missing", "python -m pipeline.repro"],
    "report": ["python -m pipeline.repro --report"],
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


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def program(folder: Path, version: str) -> Path:
    """An interpreter that says which version it is, makes environments of itself, and records what is installed."""
    path = folder / f"python{version}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"""#!/bin/sh
case "$1 $2" in
  "-c "*) for known in "$@"; do [ "$known" = {version} ] && exit 0; done; exit 1;;
  "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
  "--version ") echo Python {version};;
  *) echo {version} "$@" >> "{folder}/calls";;
esac
""")
    path.chmod(0o755)
    return path


def setup(bare: Path, programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (programs / "calls").unlink(missing_ok=True)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", "setup", *words], cwd=bare, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_setup_takes_every_supported_python(bare: Path, tmp_path: Path, version: str) -> None:
    python = program(tmp_path / "programs", version)
    done = setup(bare, python.parent, f"PYTHON={python}")
    assert done.returncode == 0, done.stderr
    assert f"environment in {bare}/.venv, with Python {version}" in done.stdout
    pip = f"{version} -m pip install --disable-pip-version-check -c constraints.txt"
    assert (python.parent / "calls").read_text().splitlines() == [
        f"{pip} torch==2.13.0",
        f"{pip} -e .[dev,cluster,crafter,dmc,examples,hub,minari,pretrained]",
        f"{pip} --no-deps dm-control==1.0.50",
    ]


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_setup_refuses_other_pythons(bare: Path, tmp_path: Path, version: str) -> None:
    python = program(tmp_path / "programs", version)
    done = setup(bare, python.parent, f"PYTHON={python}")
    assert done.returncode == 2 and not (bare / ".venv").exists()
    expected = f"error: no Python 3.11, 3.12 or 3.13 with venv and pip was found as PYTHON={python}; install one"
    assert expected in done.stderr


def test_setup_keeps_the_python_of_its_environment(bare: Path, tmp_path: Path) -> None:
    older, newer = (program(tmp_path / "programs", version) for version in ("3.11", "3.13"))
    assert setup(bare, newer.parent, f"PYTHON={newer}").returncode == 0
    (bare / ".venv" / ".installed").unlink()
    assert "with Python 3.13" in setup(bare, newer.parent).stdout
    (bare / ".venv" / ".installed").unlink()
    refused = setup(bare, older.parent, f"PYTHON={older}")
    assert refused.returncode == 2
    assert "error: .venv holds Python 3.13, not Python 3.11: remove it first" in refused.stderr


def test_setup_from_a_kit_asks_no_index(bare: Path, tmp_path: Path) -> None:
    python = program(tmp_path / "programs", "3.12")
    done = setup(bare, python.parent, f"PYTHON={python}", "KIT=my kit", "EXTRAS=dev")
    assert done.returncode == 0, done.stderr
    check, *installs = (python.parent / "calls").read_text().splitlines()
    assert check == "3.12 -m pipeline.kit check my kit --extras dev"
    assert len(installs) == 2 and all("--no-index --find-links my kit " in call for call in installs)


def test_a_kit_needs_a_folder(bare: Path) -> None:
    done = subprocess.run(["make", "kit"], cwd=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: say where: make kit KIT=folder" in done.stderr
