"""The tutorial of docs/any_environment.md, from its environment to its curve: its files, and all of its commands."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Checkout
from tests.docs.recipes import blocks
from tests.pipeline.support import repeat_seldom

BLOCKS = blocks((PROJECT / "docs" / "any_environment.md").read_text())
COMMANDS = [line for block in BLOCKS if block.language == "sh" and not block.title for line in block.body.splitlines()]
FILES = [block for block in BLOCKS if block.title and block.language != "sh"]


def run(folder: Path, command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command.replace("make ", f"make VENV={sys.prefix} "), shell=True, cwd=folder, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_settings_of_the_environment_are_shown(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    for block in FILES:
        block.apply(checkout.folder)
    shown = [run(checkout.folder, line, checkout.environment) for line in COMMANDS if "--cfg" in line]
    assert len(shown) == 2 and "separate_critic: true" in shown[0] and "epochs: 60" in shown[1]


@pytest.mark.integration
def test_the_tutorial_ends_with_curves_and_a_film(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    for block in FILES:
        block.apply(checkout.folder)
    repeat_seldom(checkout.folder)
    checkout.commit()
    for line in COMMANDS:
        run(checkout.folder, line, checkout.environment)
    for name in ("results/report/index.html", "outputs/river_curves.png", "outputs/river.mp4"):
        assert (checkout.folder / name).stat().st_size > 1000, name
    assert "River-v0" in (checkout.folder / "results/report/index.html").read_text()
