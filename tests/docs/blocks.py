"""Pages whose Python blocks a test runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.methods.support import configure
from tests.test_loading import begun


def run_blocks(
    name: str,
    count: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *overrides: str,
    prepare: Callable[[Path], None] = lambda run: None,
) -> dict[str, Any]:
    """What the blocks of a page define, run in a folder that has the one run that they name, and what ``prepare`` adds
    to it."""
    page = PROJECT / "docs" / name
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    runs = set(re.findall(r'"(results/runs/[^"]+)"', "".join(blocks)))
    assert len(blocks) == count and len(runs) == 1
    run = folder / runs.pop()
    run.mkdir(parents=True)
    begun(run, configure("rem", "collection.train.parallel=false", *overrides))
    monkeypatch.chdir(folder)
    prepare(run)
    defined: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec", dont_inherit=True), defined)
    return defined
