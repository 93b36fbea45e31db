"""Every ablation of REM trains through the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

from tests.conftest import Checkout
from tests.pipeline.support import TINY, overrides

ABLATIONS = ("4x4-tokenizer", "no-action-input", "no-latent-ac", "no-pop", "separate-embeddings")


def test_every_ablation_trains_to_its_scores(make_checkout: Callable[[], Checkout]) -> None:
    """One after the other in one process, as a sweep over the variant."""
    checkout = make_checkout()
    identity = ("method=rem", "task=minigrid/Empty-5x5", "seed=3", "scale=smoke")
    checkout.train("-m", f"variant={','.join(ABLATIONS)}", *identity, *overrides(TINY), "runtime.tracking=false")
    for variant in ABLATIONS:
        name = f"rem+{variant}/minigrid/Empty-5x5/3"
        scores = json.loads((checkout.folder / "results" / "runs" / name / "scores.json").read_text())
        assert scores["run"]["variant"] == variant and len(scores["returns"]) == 1
        assert set(scores["budget"]["agent_updates"].values()) == {TINY["training"]["epochs"]}  # one an epoch
        assert scores == json.loads((checkout.folder / "results" / "scores" / f"{name}.json").read_text())
    checkout.run("python", "-m", "pipeline.collect")
    with (checkout.folder / "results" / "collected" / "scores.csv").open() as file:
        assert [(row["method"], row["variant"]) for row in csv.DictReader(file)] == [("rem", v) for v in ABLATIONS]
