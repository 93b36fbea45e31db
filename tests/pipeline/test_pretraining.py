"""Tokenizers that are trained before the runs that begin with them, through DVC."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import Checkout
from tests.pipeline.support import quicken

pytestmark = pytest.mark.integration

TASK = "minigrid/Empty-5x5"
VARIANTS = ["tokenizer-same-game", "tokenizer-random-policy", "tokenizer-random-policy-trained"]
STAGES = "pipeline/iris/dvc.yaml"


@pytest.fixture(scope="module")
def reproduced(make_checkout: Callable[[], Checkout]) -> Iterator[Checkout]:
    """A checkout in which the runs of a suite that begin with tokenizers are trained."""
    checkout = quicken(make_checkout(), 2)
    groups = {
        "minigrid": {"tasks": ["Empty-5x5"], "seeds": [0]},
        "minigrid_variants": {"variants": ["block-causal", *VARIANTS], "tasks": ["Empty-5x5"], "seeds": [0]},
    }
    suite = {"scale": "smoke", "iris": groups}
    (checkout.folder / "pipeline" / "suites" / "begin.yaml").write_text(yaml.safe_dump(suite))
    checkout.run(sys.executable, "-m", "pipeline.suite", "begin")
    checkout.commit()
    checkout.dvc("repro", STAGES)
    yield checkout


def scores(checkout: Checkout, variant: str) -> dict[str, Any]:
    path = checkout.folder / "results" / "scores" / f"iris+{variant}" / TASK / "0.json"
    return dict(json.loads(path.read_text()))


def test_a_run_waits_for_its_tokenizer_and_both_are_made_once(reproduced: Checkout) -> None:
    grid = yaml.safe_load((reproduced.folder / "pipeline" / "grid.yaml").read_text())["grid"]["iris"]
    assert grid["minigrid_variants"]["variants"] == ["block-causal"]
    assert grid["same_game_variants"] == {"variants": VARIANTS[:1], "tasks": [TASK], "seeds": [0]}
    assert grid["random_policy_variants"] == {"variants": VARIANTS[1:], "tasks": [TASK], "seeds": [0]}
    folder = reproduced.folder / "results" / "tokenizers" / "random_policy" / "iris" / TASK / "0"
    made = (folder / "agent.safetensors").stat().st_mtime_ns
    again = reproduced.dvc("repro", STAGES).stdout
    assert "Running stage" not in again and "didn't change" in again
    assert (folder / "agent.safetensors").stat().st_mtime_ns == made
    assert reproduced.run("git", "status", "--porcelain", "results/tokenizers").stdout == ""


def test_scores_say_which_frames_count(reproduced: Checkout) -> None:
    same, fixed, trained = (scores(reproduced, variant) for variant in VARIANTS)
    base = json.loads((reproduced.folder / "results" / "scores" / "iris" / TASK / "0.json").read_text())
    begun = {variant: found["budget"]["trained_on"]["tokenizer"] for variant, found in zip(VARIANTS, (same, fixed))}
    assert begun[VARIANTS[0]] == {
        "source": f"iris/{TASK}/0", "frames": base["budget"]["env_steps"], "counts_toward_budget": False
    }  # fmt: skip
    assert begun[VARIANTS[1]]["source"] == "random_policy" and begun[VARIANTS[1]]["counts_toward_budget"]
    assert same["budget"]["env_steps"] == base["budget"]["env_steps"]
    own = fixed["budget"]["env_steps"] - begun[VARIANTS[1]]["frames"]
    assert own > 0 and trained["budget"]["env_steps"] == fixed["budget"]["env_steps"]
    assert "tokenizer" not in fixed["budget"]["agent_updates"] and trained["budget"]["agent_updates"]["tokenizer"]
    assert all(found["overrides"] == {} for found in (same, fixed, trained))  # what its variant says is no change
    assert fixed["initialization"]["tokenizer"]["weights"] == trained["initialization"]["tokenizer"]["weights"]


def test_a_run_without_its_tokenizer_says_what_makes_it(reproduced: Checkout) -> None:
    for variant, remedy in (
        ("tokenizer-random-policy", "python -m pipeline.pretrain method=iris variant=tokenizer-random-policy"),
        ("tokenizer-same-game", f"results/runs/iris/{TASK}/7"),
    ):
        run = ("method=iris", f"variant={variant}", f"task={TASK}", "seed=7", "scale=smoke", "runtime.tracking=false")
        done = reproduced.train(*run, status=2)
        assert remedy in done.stderr and done.stderr.count("\n") == 1
