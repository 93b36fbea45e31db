"""The block of docs/play.md runs."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import play
from tests.docs.blocks import run_blocks

FILM = Path("results/recordings/rem/atari/Pong/0/0001/recording.mp4")


def test_a_recording_is_repeated_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(run: Path) -> None:
        play.main([str(run), "--record", str(FILM), "--steps", "4", "--device", "cpu"])

    defined = run_blocks("play.md", 1, tmp_path, monkeypatch, prepare=record)
    defined["environment"].close()
    recorded = defined["episode"].observations
    assert defined["observation"].keys() == recorded.keys()
    assert all(np.array_equal(defined["observation"][name], frames[-1]) for name, frames in recorded.items())
