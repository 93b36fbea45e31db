"""The agents learn: at the small scale they beat the random policy on a grid world. The three seeds of each are in the
README."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ATTAINABLE = (
    1 - 0.9 * 5 / 100
)  # MiniGrid's reward 1 - 0.9 * steps / limit: five steps to the goal of Empty-5x5, 100 allowed


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("agent", ["method=iris", "method=rem", "method=rem variant=no-pop", "method=delta_iris"])
def test_the_small_agent_beats_the_random_policy(agent: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.train", *agent.split(), "task=minigrid/Empty-5x5", "scale=small"]
    places = ["seed=0", f"out={tmp_path / 'run'}", f"runtime.scratch={tmp_path / 'scratch'}", "runtime.tracking=false"]
    subprocess.run([*command, *places], cwd=PROJECT, check=True)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["random"]["score"] < ATTAINABLE / 2
    assert scores["score"] >= scores["random"]["score"] + 0.3 * ATTAINABLE
