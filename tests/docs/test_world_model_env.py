"""The blocks of docs/world_model_env.md run."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.methods.support import configure
from tests.test_loading import begun

PAGE = PROJECT / "docs" / "world_model_env.md"


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    runs = set(re.findall(r'"(results/runs/[^"]+)"', "".join(blocks)))
    assert len(blocks) == 4 and len(runs) == 1
    folder = tmp_path / runs.pop()
    folder.mkdir(parents=True)
    begun(folder, configure("rem", "collection.train.parallel=false"))
    monkeypatch.chdir(tmp_path)
    defined: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), defined)
    assert defined["picture"].shape == (32, 32, 3)
    assert len(defined["rewards"]) == 16 and defined["vector"].num_envs == 4
