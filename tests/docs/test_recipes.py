"""Every recipe of docs/extending.md is applied to a copy of the project, and every command of the page runs there."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.docs.recipes import blocks, edited

BLOCKS = blocks((PROJECT / "docs" / "extending.md").read_text())
COMMANDS = [line for block in BLOCKS if block.language == "sh" for line in block.body.splitlines()]
TESTS = [command for command in COMMANDS if "pytest" in command]
TRAINING = [command for command in COMMANDS if "pipeline.train" in command and "--cfg" not in command]
QUICK = [command for command in COMMANDS if command.startswith("python") and command not in {*TESTS, *TRAINING}]
LINKED = ("tests/golden", "results/data")  # large, and read only


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with every recipe applied."""
    root = tmp_path_factory.mktemp("recipes") / "project"
    linked = [PROJECT / name for name in LINKED]
    for name in ("analysis", "pipeline", "src", "tests"):
        skipped = shutil.ignore_patterns("__pycache__", *(path.name for path in linked if path.parent.name == name))
        shutil.copytree(PROJECT / name, root / name, ignore=skipped)
    for name in ("dvc.yaml", "params.yaml", "pyproject.toml"):
        shutil.copy(PROJECT / name, root)
    for path in linked:
        (root / path.relative_to(PROJECT)).parent.mkdir(exist_ok=True)
        (root / path.relative_to(PROJECT)).symlink_to(path)
    for block in BLOCKS:
        if block.title:
            block.apply(root)
    for command in COMMANDS:
        if shlex.split(command)[0] != "python":
            run(root, command)
    return root


def run(root: Path, *commands: str) -> str:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
    }
    done = subprocess.run(
        " && ".join(commands), shell=True, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_tests_of_the_recipes_pass(copy: Path) -> None:
    """In one process: each would spend its time on imports."""
    written = [block.title for block in BLOCKS if block.title and block.title.startswith("tests/")]
    assert f"{len(written)} passed" in run(copy, f"python -m pytest -p no:cacheprovider {shlex.join(written)}")


@pytest.mark.integration
@pytest.mark.parametrize("command", [*(command for command in TESTS if " -k " in command), *TRAINING])
def test_the_commands_of_minutes_run(copy: Path, command: str) -> None:
    run(copy, f"{command} runtime.tracking=false" if command in TRAINING else f"{command} -p no:cacheprovider")


@pytest.mark.parametrize("command", QUICK)
def test_the_commands_run(copy: Path, command: str) -> None:
    run(copy, command)


def test_a_variant_changes_what_it_says(copy: Path) -> None:
    shown = run(copy, next(command for command in COMMANDS if "variant=short-context" in command))
    assert "max_blocks: 10" in shown and "horizon: 10" in shown


def test_an_edit_fits_in_one_place() -> None:
    assert edited("a\nb\nc\n", "-b\n+d\n c\n") == "a\nd\nc\n"
    with pytest.raises(AssertionError, match="fits in 0 places"):
        edited("a\n", "-x\n+y\n")
    with pytest.raises(AssertionError, match="fits in 2 places"):
        edited("a\na\n", " a\n+b\n")
