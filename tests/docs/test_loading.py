"""The blocks of docs/loading.md run."""

from pathlib import Path

import pytest
from PIL import Image

from tests.docs.blocks import run_blocks

LIMIT = 20  # steps of an episode


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defined = run_blocks("loading.md", 7, tmp_path, monkeypatch, f"environment.test.max_episode_steps={LIMIT}")
    defined["vector"].close()
    with Image.open("imagined.png") as strip:
        assert strip.size == (6 * 32, 32)
    assert defined["expected"].shape == (64,) and defined["best_action"] in range(7)
    assert len(defined["played"].returns) == 4 and max(defined["played"].lengths) <= LIMIT
