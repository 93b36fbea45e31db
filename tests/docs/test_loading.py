"""The blocks of docs/loading.md run."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import PROJECT
from tests.methods.support import configure
from tests.test_loading import begun

PAGE = PROJECT / "docs" / "loading.md"
LIMIT = 20  # steps of an episode


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    runs = set(re.findall(r'"(results/runs/[^"]+)"', "".join(blocks)))
    assert len(blocks) == 7 and len(runs) == 1
    folder = tmp_path / runs.pop()
    folder.mkdir(parents=True)
    limits = (f"environment.test.max_episode_steps={LIMIT}", "collection.train.parallel=false")
    begun(folder, configure("rem", *limits))
    monkeypatch.chdir(tmp_path)
    defined: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), defined)
        if "vector" in defined:
            defined["vector"].close()
    with Image.open("imagined.png") as strip:
        assert strip.size == (6 * 32, 32)
    assert defined["expected"].shape == (64,) and defined["best_action"] in range(7)
    assert len(defined["played"].returns) == 4 and max(defined["played"].lengths) <= LIMIT
