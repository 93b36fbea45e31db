"""Shared material: golden aggregates, published suites (read once), and fake runs."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis.published import published_suites
from analysis.scores import References, Suite, read_references

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
PAPER_GAMES = 26


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Figures that a test looked at and did not write."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN_DIR / "analysis" / "aggregates.json").read_text())


@pytest.fixture(scope="session")
def suites() -> dict[str, Suite]:
    return published_suites()


@pytest.fixture(scope="session")
def references() -> References:
    return read_references()


@pytest.fixture
def write_runs(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV of our runs; keyword arguments are overrides for all rows."""

    def write(rows: list[tuple[str, int, object]], **columns: object) -> Path:
        frame = pd.DataFrame(rows, columns=["task", "seed", "score"])
        for name, value in {"method": "iris", "scale": "smoke", **columns}.items():
            frame[name] = value
        path = tmp_path / "runs.csv"
        frame.to_csv(path, index=False)
        return path

    return write


@pytest.fixture
def smoke_runs(write_runs: Callable[..., Path]) -> Path:
    """Two games with two seeds, and a task without references."""
    rows = [("atari/Breakout", 0, 1.5), ("atari/Breakout", 1, 0.5), ("atari/Pong", 0, -20.0), ("atari/Pong", 1, -21.0)]
    return write_runs([*rows, ("minigrid/Empty-5x5", 0, 0.9)], episodes=4, score_std=0.5)


@pytest.fixture
def paper_runs(write_runs: Callable[..., Path], suites: dict[str, Suite]) -> Path:
    """Complete runs at paper scale: the published ones of IRIS, slightly worse."""
    raw = suites["atari100k"].raw["IRIS"]
    games = suites["atari100k"].tasks
    rows = [(f"atari/{game}", run, raw[run, m] - 1.0) for m, game in enumerate(games) for run in range(len(raw))]
    return write_runs(rows, scale="paper")


@pytest.fixture
def run_files(tmp_path: Path) -> Path:
    """A ``results`` folder with scores.json files and media of two smoke runs and a small one."""
    results = tmp_path / "results"
    for task, seed, scale, returns in (
        ("atari/Breakout", 0, "smoke", [0.0, 2.0]),
        ("atari/Pong", 0, "smoke", [-21.0, -20.0]),
        ("minigrid/Empty-5x5", 0, "small", [0.9, 0.8]),
    ):
        write_scores(results / "scores", task, seed, scale, returns)
        media = results / "runs" / "iris" / task / str(seed) / "media"
        media.mkdir(parents=True)
        (media / "imagination.png").write_bytes(b"\x89PNG not looked into")
        (media / "episode.mp4").write_bytes(b"not looked into either")
    return results


def write_scores(root: Path, task: str, seed: int, scale: str, scores: list[float], **changes: Any) -> Path:
    """One run's scores.json as training writes it; ``changes`` replace top-level fields."""
    record: dict[str, Any] = {
        "schema": 1,
        "run": {"method": "iris", "variant": None, "task": task, "seed": seed, "scale": scale, "suite": scale},
        "budget": {"epochs": 3, "env_steps": 150, "agent_updates": {"tokenizer": 6}},
        "protocol": {"episodes": len(scores), "num_envs": 2, "temperature": 0.5, "final": True},
        "returns": scores,
        "lengths": [10] * len(scores),
        "score": sum(scores) / len(scores),
        "random": {"returns": [0.1, 0.3], "score": 0.2} if scale == "small" else None,
        "config_hash": "c0ffee",
        "git_revision": "0123456789abcdef",
        "hardware": "cpu x2",
        "hours": 0.01,
    }
    path = root / "iris" / task / f"{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**record, **changes}))
    return path
