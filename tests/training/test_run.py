"""Around a training: what is already there, what it is called, how long it took. Whole runs: test_resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenworlds.config import load
from tokenworlds.training.progress import Clock, duration, progress
from tokenworlds.training.run import run_training, scratch_folder

SMOKE = ("method=iris", "task=atari/Pong", "scale=smoke")


def test_scores_that_a_kill_kept_from_the_collection_are_copied_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publication is a rename of the run folder and then a copy of its scores; a kill may fall in between."""
    config = load([*SMOKE])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "pipeline").mkdir()
    config.out_dir.mkdir(parents=True)
    (config.out_dir / "scores.json").write_text(json.dumps({"config_hash": config.hash()}))
    run_training(config)
    assert "holds this run already" in capsys.readouterr().out
    copy = tmp_path / "results" / "scores" / "iris" / "atari" / "Pong" / "0.json"
    assert json.loads(copy.read_text()) == {"config_hash": config.hash()}


def test_scratch_is_named_by_identity_and_configuration(tmp_path: Path) -> None:
    first = load([*SMOKE, f"runtime.scratch={tmp_path}"])
    other = load([*SMOKE, f"runtime.scratch={tmp_path}", "training.epochs=9"])
    assert scratch_folder(first) == tmp_path / "iris" / "atari" / f"Pong/0-{first.hash()}"
    assert scratch_folder(first) != scratch_folder(other)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (12.4, "12s"), (60, "1m00s"), (185, "3m05s"), (7620, "2h07m"), (4 * 86400 + 3 * 3600, "4d03h")],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_clock_goes_on_from_earlier_sessions_and_estimates_from_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(seconds_before=50)
    now = 130.0
    assert clock.seconds == 80 and clock.remaining(done=3, left=2) == 20


def test_nothing_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("collect", 3) as bar:
        bar.step()
        bar.to(3)
    assert capsys.readouterr().err == ""
