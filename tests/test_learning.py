"""The agents learn: at the small scale they beat the random policy by a wide margin. What several seeds reach is in
docs/learning.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
GRID, SYMBOLS, CART = "minigrid/Empty-5x5", "minigrid_symbolic/Empty-5x5", "dmc/cartpole-balance"
POLE = "gym/CartPole-v1"
# MiniGrid's reward is 1 - 0.9 * steps / limit: five steps to the goal of Empty-5x5, 100 allowed. The cart gets at most
# 1 a step of the simulator, 200 in the first two seconds; the pole 1 a step until it falls, 500 at most.
ATTAINABLE = {GRID: 1 - 0.9 * 5 / 100, SYMBOLS: 1 - 0.9 * 5 / 100, CART: 200.0, POLE: 500.0}
MARGIN = {GRID: 0.3, SYMBOLS: 0.3, CART: 0.25, POLE: 0.25}  # over the random policy, of what is attainable


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("agent", "task"),
    [
        ("method=iris", GRID),
        ("method=rem", GRID),
        ("method=rem variant=no-pop", GRID),
        ("method=delta_iris", GRID),
        ("method=m3", GRID),
        ("method=m3", SYMBOLS),
        ("method=m3", CART),
        ("method=m3", POLE),
    ],
)
def test_the_small_agent_beats_the_random_policy(agent: str, task: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.train", *agent.split(), f"task={task}", "scale=small"]
    places = ["seed=0", f"out={tmp_path / 'run'}", f"runtime.scratch={tmp_path / 'scratch'}", "runtime.tracking=false"]
    subprocess.run([*command, *places], cwd=PROJECT, check=True)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["random"]["score"] <= 0.55 * ATTAINABLE[task]
    assert scores["score"] >= scores["random"]["score"] + MARGIN[task] * ATTAINABLE[task]
