"""The blocks of docs/world_model_env.md run."""

from pathlib import Path

import pytest

from tests.docs.blocks import run_blocks


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defined = run_blocks("world_model_env.md", 4, tmp_path, monkeypatch)
    assert defined["picture"].shape == (32, 32, 3)
    assert len(defined["rewards"]) == 16 and defined["vector"].num_envs == 4
