"""Every ablation of the papers trains through the command."""

import csv
import json
from collections.abc import Callable

import pytest

from tests.conftest import Checkout
from tests.pipeline.support import TINY, ablations_of, overrides, shrink

pytestmark = pytest.mark.integration

TASKS = {"rem": "minigrid/Empty-5x5", "delta_iris": "crafter/Reward", "m3": "minigrid/Empty-5x5"}
every_method = pytest.mark.parametrize("method", TASKS)


@every_method
def test_every_ablation_trains_to_its_scores(method: str, make_checkout: Callable[[], Checkout]) -> None:
    """One after the other in one process, as a sweep over the variant."""
    checkout, variants, task = make_checkout(), sorted(ablations_of(method)), TASKS[method]
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
        rows = [(row["method"], row["trained_variant"]) for row in csv.DictReader(file)]
    assert rows == [(method, variant) for variant in variants]


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


def train_and_draw(checkout: Checkout, *tasks: str, items: tuple[str, ...], variant: str | None = None) -> str:
    """Train M3, and one of its variants, on these tasks, collect, and make some items; the scores and these items."""
    shrink(checkout.folder)
    for chosen in ([], [f"variant={variant}"] if variant else []):
        identity = ("method=m3", f"task={','.join(tasks)}", "scale=smoke", *chosen)
        checkout.train("-m", *identity, "runtime.tracking=false")
    checkout.run("python", "-m", "pipeline.collect")
    checkout.run("python", "analysis/make_figures.py", "--only", *items, "--repetitions", "20", "--out", "made")
    made = {path.stem for path in (checkout.folder / "made").iterdir()}
    assert set(items) <= made  # an item without data leaves a file of its reason, NAME.missing.txt
    return (checkout.folder / "results" / "collected" / "scores.csv").read_text()


def test_m3_learns_from_every_modality_and_its_items_take_these_runs(make_checkout: Callable[[], Checkout]) -> None:
    """Vectors and continuous actions, symbols, and everything at once."""
    tasks = ("dmc/cartpole-balance", "minigrid_mixed/Empty-5x5", "minigrid_symbolic/Empty-5x5")
    items = ("M3-T-dmc", "M3-F-dmc", "M3-T-cost", "OURS-T", "OURS-F-tasks", "R9-T-cost", "R10-F-curves")
    checkout = make_checkout()
    collected = train_and_draw(checkout, *tasks, items=items, variant="no-extras")
    rows = list(csv.DictReader(collected.splitlines()))
    assert sorted((row["variant"], row["task"]) for row in rows) == [
        (v, task) for v in ("", "no-extras") for task in tasks
    ]
    numbers = (checkout.folder / "made" / "OURS-F-tasks.csv").read_text()
    assert all(task in numbers for task in tasks) and "M3+no-extras (ours, smoke)" in numbers


@pytest.mark.slow
def test_m3_trains_on_craftax(make_checkout: Callable[[], Checkout]) -> None:
    """Compiling the game takes minutes."""
    pytest.importorskip("craftax")
    checkout = make_checkout()
    items = ("M3-F-craftax", "M3-T-craftax", "M3-T-cost", "OURS-T", "OURS-F-tasks")
    (row,) = csv.DictReader(train_and_draw(checkout, "craftax/Symbolic", items=items).splitlines())
    assert row["task"] == "craftax/Symbolic" and row["crafter_score"] == ""
    achievements = (checkout.folder / "results" / "collected" / "achievements.csv").read_text().splitlines()
    assert len(achievements) == 1 + 67
    assert "M3 (ours, smoke)" in (checkout.folder / "made" / "M3-T-craftax.csv").read_text()
