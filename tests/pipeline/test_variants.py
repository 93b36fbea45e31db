"""Every ablation of the papers trains through the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

import pytest
import yaml

from tests.conftest import PROJECT, Checkout
from tests.pipeline.support import TINY, overrides

ABLATIONS = {
    "rem": ("4x4-tokenizer", "no-action-input", "no-latent-ac", "no-pop", "separate-embeddings"),
    "delta_iris": ("1-token", "16-tokens", "no-frame-tokens", "no-worst-pixel"),
}
TASKS = {"rem": "minigrid/Empty-5x5", "delta_iris": "crafter/Reward"}
every_method = pytest.mark.parametrize("method", ABLATIONS)


@every_method
def test_these_are_all_variants_of_the_method(method: str) -> None:
    params = yaml.safe_load((PROJECT / "pipeline" / method / "params.yaml").read_text())
    assert sorted(params["variants"]) == sorted(ABLATIONS[method])


@every_method
def test_every_ablation_trains_to_its_scores(method: str, make_checkout: Callable[[], Checkout]) -> None:
    """One after the other in one process, as a sweep over the variant."""
    checkout, variants, task = make_checkout(), ABLATIONS[method], TASKS[method]
    identity = (f"method={method}", f"task={task}", "seed=3", "scale=smoke")
    checkout.train("-m", f"variant={','.join(variants)}", *identity, *overrides(TINY), "runtime.tracking=false")
    for variant in variants:
        name = f"{method}+{variant}/{task}/3"
        scores = json.loads((checkout.folder / "results" / "runs" / name / "scores.json").read_text())
        assert scores["run"]["variant"] == variant and len(scores["returns"]) == 1
        assert set(scores["budget"]["agent_updates"].values()) == {TINY["training"]["epochs"]}  # one an epoch
        assert scores == json.loads((checkout.folder / "results" / "scores" / f"{name}.json").read_text())
    checkout.run("python", "-m", "pipeline.collect")
    with (checkout.folder / "results" / "collected" / "scores.csv").open() as file:
        assert [(row["method"], row["variant"]) for row in csv.DictReader(file)] == [(method, v) for v in variants]


def test_crafter_runs_are_collected_with_achievements_and_evaluations(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    identity = ("method=delta_iris", "task=crafter/Reward", "scale=smoke")
    checkout.train(*identity, *overrides(TINY), "evaluation.every=1", "runtime.tracking=false")
    checkout.run("python", "-m", "pipeline.collect")
    collected = checkout.folder / "results" / "collected"
    (row,) = csv.DictReader((collected / "scores.csv").read_text().splitlines())
    achievements = list(csv.DictReader((collected / "achievements.csv").read_text().splitlines()))
    evaluations = list(csv.DictReader((collected / "evaluations.csv").read_text().splitlines()))
    assert len(achievements) == 22 and row["crafter_score"] != ""
    assert [(row["split"], row["epoch"]) for row in evaluations] == [("test", "1"), ("test", "2"), ("final", "2")]
    assert evaluations[-1]["crafter_score"] == row["crafter_score"]
    for kind in ("table", "figure"):
        ids = ["DIRIS-F-crafter", "DIRIS-F-success", "DIRIS-T-success"]
        checkout.run("python", "analysis/make_figures.py", "--only", *ids, "--kind", kind, "--out", "made")
    made = {path.name for path in (checkout.folder / "made").iterdir()}
    assert {"DIRIS-F-crafter.svg", "DIRIS-F-success.svg", "DIRIS-T-success.html"} <= made
