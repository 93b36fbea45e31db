"""Dockerfile, compose.yaml and CITATION.cff agree with the project; docs/container.md says how they were tried."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.utils.build import exclude_paths

import tokenworlds
from tests.conftest import PROJECT

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(\S*)$", DOCKERFILE, re.MULTILINE))


def test_the_image_has_the_packages_that_are_declared() -> None:
    (torch,) = re.findall(r"pip install .*(torch==\S+)$", DOCKERFILE, re.MULTILINE)
    assert torch in DECLARED["dependencies"]
    assert set(ARGUMENTS["EXTRAS"].split(",")) <= DECLARED["optional-dependencies"].keys()
    assert "-c constraints.txt" in DOCKERFILE


def test_a_change_of_the_sources_installs_nothing_again() -> None:
    steps = re.findall(r"^(?:RUN|COPY|USER)[^\n]*(?:\\\n[^\n]*)*", DOCKERFILE, re.MULTILINE)
    (copied,) = (index for index, step in enumerate(steps) if step == "COPY . .")
    installing = [index for index, step in enumerate(steps) if "pip install" in step or "apt-get" in step]
    assert max(installing) < copied and steps[-1] != "USER root" and steps[-1].startswith("USER 1000")


def test_the_makefile_uses_the_environment_of_the_image() -> None:
    """``$VENV`` names it, so that no target depends on an installation."""
    (environment,) = re.findall(r"VENV=(\S+)", DOCKERFILE)
    command = ["make", "--dry-run", "repro"]
    done = subprocess.run(command, cwd=PROJECT, env={"PATH": "/usr/bin:/bin", "VENV": environment}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (
        f'"{environment}/bin/python" -m pipeline.preflight' in done.stdout.decode()
        and b"pip install" not in done.stdout
    )


@pytest.fixture
def context(tmp_path: Path) -> set[str]:
    """What Docker copies of a checkout in which runs were trained, and in which other files were left."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in [*listed.stdout.splitlines(), *LEFT_OUT]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    return exclude_paths(str(tmp_path), [line for line in lines if line and not line.startswith("#")])


LEFT_OUT = (
    *(".git/HEAD", ".venv/bin/python", "src/tokenworlds/__pycache__/cli.pyc", "src/tokenworlds.egg-info/PKG-INFO"),
    *("scratch/run/epoch.json", "mlflow.db", "mlflow.db.version", "mlartifacts/film.mp4", ".dvc/cache/files/00"),
    *(".dvc/tmp/lock", ".dvc/config.local", "results/runs/iris/scores.json", "results/scores/iris/0.json"),
    *("results/collected/scores.csv", "results/report/index.html", "site/index.html", "tests/test_files.py"),
)


def test_the_image_holds_what_the_commands_of_the_readme_read_and_no_results(context: set[str]) -> None:
    assert not context & set(LEFT_OUT)
    needed = {"Makefile", "dvc.yaml", "params.yaml", "pyproject.toml", "README.md", "results/data/SOURCES.md"}
    folders = {"docs/krull.gif", "src/tokenworlds/py.typed", "pipeline/grid.yaml", "analysis/make_figures.py"}
    assert needed | folders | {".dvc/config", "results/scores/.gitkeep"} <= context


def test_what_git_ignores_is_not_copied_into_the_image() -> None:
    def patterns(name: str) -> set[str]:
        lines = (PROJECT / name).read_text().splitlines()
        return {line.removeprefix("**/").strip("/") for line in lines if line and not line.startswith("#")}

    assert {line for line in patterns(".gitignore") if line[0] != "!"} <= patterns(".dockerignore")


def test_services_are_built_from_this_file_and_reached_from_this_machine_alone() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert service["build"]["args"].keys() <= ARGUMENTS.keys() and service["build"]["context"] == "."
        assert service["user"].startswith("${HOST_UID") and ".:/project" in service["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    (device,) = services["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and "deploy" not in services["train-cpu"]
    assert services["mlflow"]["ports"] and "127.0.0.1" not in services["mlflow"]["command"]


def test_the_citation_is_of_this_version_and_of_the_papers_of_the_methods() -> None:
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert cited["version"] == DECLARED["version"] == tokenworlds.__version__
    assert (cited["title"], cited["license"]) == (DECLARED["name"], DECLARED["license"]["text"])
    assert cited["authors"][0]["name"] in (PROJECT / "LICENSE").read_text()
    pages = "\n".join((PROJECT / "docs" / "methods" / f"{name}.md").read_text() for name in METHODS)
    assert len(cited["references"]) == len(METHODS)
    for reference in cited["references"]:
        assert reference["title"] in pages
        assert f"arXiv {reference['url'].rpartition('/')[2]}" in pages
        names = ", ".join(author["family-names"] for author in reference["authors"])
        assert f"{names}, " in " ".join(pages.split()) and str(reference["year"]) in pages


METHODS = ("iris", "rem", "delta_iris", "m3")
