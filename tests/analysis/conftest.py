"""Shared material: golden aggregates, published suites (read once), and fake runs."""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis import context
from analysis.data import runs
from analysis.data.published import published_suites
from analysis.data.scores import References, Suite, read_references

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
PAPER_GAMES = 26
# Whatever was trained in this checkout, and whoever's scores lie in it
runs.COLLECTED = Path(__file__).with_name("nothing-collected.csv")
context.contributed_files = list


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
    """Two games with two seeds, tasks without references, and what is collected beside the scores."""
    rows = [("atari/Breakout", 0, 1.5), ("atari/Breakout", 1, 0.5), ("atari/Pong", 0, -20.0), ("atari/Pong", 1, -21.0)]
    others = [("minigrid/Empty-5x5", 0, 0.9), ("crafter/Reward", 0, 1.1), ("crafter/Reward", 1, 2.1)]
    path = write_runs([*rows, *others], episodes=4, score_std=0.5)
    write_beside(path, [("iris", "", "smoke", seed, 200.0, {"wake_up": 25.0, "eat_cow": 50.0}) for seed in (0, 1)])
    return path


@pytest.fixture
def small_runs(smoke_runs: Path) -> Path:
    """The same runs of whole episodes."""
    for path in smoke_runs.parent.glob("*.csv"):
        path.write_text(path.read_text().replace("smoke", "small"))
    return smoke_runs


# method, variant, scale, seed, frames, success rates
CrafterRun = tuple[str, str, str, int, float, dict[str, float]]


def write_beside(path: Path, runs: list[CrafterRun]) -> None:
    """Evaluations and achievements of runs on Crafter, beside the scores in ``path``: a test at half of the frames with
    return 1 + seed, one at the end with 99, and there the final one with 3 + seed."""
    evaluations, achievements = [], []
    for method, variant, scale, seed, frames, rates in runs:
        who = {"method": method, "variant": variant, "task": "crafter/Reward", "seed": seed, "scale": scale}
        for epoch, split, value in ((1, "test", 1.0 + seed), (2, "test", 99.0), (2, "final", 3.0 + seed)):
            steps = frames * epoch / 2
            evaluations.append(
                who | {"epoch": epoch, "env_steps": steps, "split": split, "return_mean": value, "hours": steps / 36000}
            )
        achievements += [who | {"achievement": name, "success_rate": rate} for name, rate in rates.items()]
    pd.DataFrame(evaluations).to_csv(path.with_name("evaluations.csv"), index=False)
    pd.DataFrame(achievements).to_csv(path.with_name("achievements.csv"), index=False)


@pytest.fixture
def paper_runs(write_runs: Callable[..., Path], suites: dict[str, Suite]) -> Path:
    """Complete runs at paper scale: the published ones of IRIS, slightly worse."""
    raw = suites["atari100k"].raw["IRIS"]
    games = suites["atari100k"].tasks
    rows = [(f"atari/{game}", run, raw[run, m] - 1.0) for m, game in enumerate(games) for run in range(len(raw))]
    return write_runs(rows, scale="paper")


@pytest.fixture
def run_files(tmp_path: Path) -> Path:
    """A ``results`` folder with scores.json files and run folders of three smoke runs and a small one."""
    return write_run_files(tmp_path / "results")


def write_run_files(results: Path) -> Path:
    """The content of that folder."""
    for task, seed, scale, returns in (
        ("atari/Breakout", 0, "smoke", [0.0, 2.0]),
        ("atari/Pong", 0, "smoke", [-21.0, -20.0]),
        ("minigrid/Empty-5x5", 0, "small", [0.9, 0.8]),
        ("crafter/Reward", 0, "smoke", [1.1, 2.1]),
    ):
        folder = results / "runs" / "iris" / task / str(seed)
        media = folder / "media"
        media.mkdir(parents=True)
        on_crafter = {"achievements": {"eat_cow": 50.0, "wake_up": 0.0}, "crafter_score": math.sqrt(51.0) - 1.0}
        scores = write_scores(
            results / "scores", task, seed, scale, returns, **(on_crafter if "crafter" in task else {})
        )
        (folder / "scores.json").write_bytes(scores.read_bytes())
        (folder / "evaluations.csv").write_text(
            "epoch,env_steps,split,episodes,return_mean,return_std,length_mean,hours\n2,100,test,2,0.5,0.1,10,0.01\n"
        )
        (media / "imagination.png").write_bytes(b"\x89PNG not looked into")
        (media / "episode.mp4").write_bytes(b"not looked into either")
    return results


def write_scores(root: Path, task: str, seed: int, scale: str, scores: list[float], **changes: Any) -> Path:
    """One run's scores.json as training writes it; ``changes`` replace top-level fields."""
    record: dict[str, Any] = {
        "schema": 1,
        "run": {"method": "iris", "variant": None, "task": task, "seed": seed, "scale": scale, "suite": scale},
        "budget": {"epochs": 3, "env_steps": 150, "agent_updates": {"tokenizer": 6}},
        "protocol": {
            "episodes": len(scores),
            "num_envs": 2,
            "temperature": 0.5,
            "final": True,
            "max_episode_steps": None,
        },
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
