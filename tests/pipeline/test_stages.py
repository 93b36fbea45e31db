"""What makes a training stage stale, and what does not.

Nothing is trained: outputs are put there by hand and registered with DVC.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT, Checkout
from tests.pipeline.support import choose, edit_yaml, prefix_of
from tokenworlds.config import known_methods
from tokenworlds.tracking.revision import HARMLESS

pytestmark = pytest.mark.integration

STAGE = "pipeline/iris/dvc.yaml:atari@Pong-0"
PLURALS = (("variant", "variants"), ("task", "tasks"), ("seed", "seeds"))


@pytest.fixture(scope="module")
def trained(make_checkout: Callable[[], Checkout]) -> Checkout:
    """A checkout in which IRIS on Pong counts as trained."""
    checkout = make_checkout()
    choose(checkout.folder, "Pong")
    run = checkout.folder / "results" / "runs" / "iris" / "atari" / "Pong" / "0"
    run.mkdir(parents=True)
    (run / "agent.json").write_text("{}")
    scores = checkout.folder / "results" / "scores" / "iris" / "atari" / "Pong" / "0.json"
    scores.parent.mkdir(parents=True)
    scores.write_text("{}")
    checkout.dvc("commit", "--force", STAGE)
    checkout.commit()
    return checkout


@pytest.fixture
def checkout(trained: Checkout) -> Iterator[Checkout]:
    yield trained
    trained.run("git", "reset", "--quiet", "--hard")
    trained.run("git", "clean", "--quiet", "--force", "-d")


def changes(checkout: Checkout) -> dict[str, str]:
    """The dependencies of the stage that DVC finds changed, with what it says of them."""
    status = json.loads(checkout.dvc("status", "--json", "pipeline/iris/dvc.yaml").stdout)
    assert set(status) <= {STAGE}
    found: dict[str, str] = {}
    for change in status.get(STAGE, []):
        found |= change["changed deps"] if isinstance(change, dict) else {change: "changed"}
    return found


def append(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as file:
        file.write("# a remark\n")


def test_a_fresh_clone_shows_its_plan(make_checkout: Callable[[], Checkout]) -> None:
    """Nothing was trained, so nothing that a stage depends on was made."""
    checkout = make_checkout()
    plan = checkout.dvc("repro", "--dry").stdout
    steps = [line for line in plan.splitlines() if line.startswith("> ")]
    assert sum("pipeline.train" in step for step in steps) == 14  # the smoke suite
    assert [step.split()[2:5] for step in steps[-5:]] == [
        ["-m", "pipeline.collect"],
        ["-m", "pipeline.aggregate"],
        ["analysis/make_figures.py", "--kind", "table"],
        ["analysis/make_figures.py", "--kind", "figure"],
        ["-m", "pipeline.report"],
    ]
    assert checkout.run("git", "status", "--porcelain").stdout == ""


def test_what_cannot_change_a_result_trains_nothing(checkout: Checkout) -> None:
    assert not changes(checkout)
    for name in (
        "README.md",
        "analysis/stats/metrics.py",
        "analysis/params.yaml",
        "dvc.yaml",
        "pipeline/collect.py",
        "pipeline/rem/params.yaml",
        "src/tokenworlds/checkpoints/iris.py",
        "src/tokenworlds/methods/other_method.py",
        "src/tokenworlds/tracking/mlflow_sink.py",
        "src/tokenworlds/training/__pycache__/trainer.cpython-311.pyc",
    ):
        append(checkout.folder, name)
    assert not changes(checkout)


def test_code_that_can_change_a_result_makes_the_stage_stale(checkout: Checkout) -> None:
    for name in ("envs/atari.py", "methods/token.py", "training/trainer.py", "agents/imagination.py"):
        append(checkout.folder, f"src/tokenworlds/{name}")
    wanted = {"envs", "methods/token.py", "training", "agents"}
    assert changes(checkout) == {f"src/tokenworlds/{name}": "modified" for name in wanted}


def test_hyper_parameters_of_the_method_make_it_stale(checkout: Checkout) -> None:
    edit_yaml(
        checkout.folder / "pipeline" / "iris" / "params.yaml", {"training": {"tokenizer": {"learning_rate": 2.0e-4}}}
    )
    assert set(changes(checkout)) == {"pipeline/iris/params.yaml"}


@pytest.mark.parametrize("settings", [{"model": {"backbone": "transformer"}}, {"training": {"epochs": 1}}])
def test_settings_for_all_runs_make_it_stale(checkout: Checkout, settings: dict[str, Any]) -> None:
    """Sections that the committed file lacks, too."""
    edit_yaml(checkout.folder / "params.yaml", settings)
    assert set(changes(checkout)) == {"params.yaml"}
    assert "method=iris " in checkout.dvc("repro", "--dry", "pipeline/iris/dvc.yaml").stdout


def test_activating_a_suite_that_holds_the_same_run_trains_it_not_again(checkout: Checkout) -> None:
    edit_yaml(checkout.folder / "pipeline" / "grid.yaml", {"grid": {"suite": "another"}})
    assert not changes(checkout)


def test_another_scale_makes_it_stale(checkout: Checkout) -> None:
    choose(checkout.folder, "Pong", scale="paper")
    assert set(changes(checkout)) == {"changed command"}


def test_another_seed_leaves_the_trained_one_alone(checkout: Checkout) -> None:
    choose(checkout.folder, "Pong", seeds=(0, 1))
    plan = checkout.dvc("repro", "--dry", "pipeline/iris/dvc.yaml").stdout
    assert "seed=1" in plan and "seed=0" not in plan


@pytest.mark.parametrize("method", known_methods())
def test_every_module_that_training_imports_is_a_dependency(checkout: Checkout, method: str) -> None:
    """A new package must not change results behind DVC's back."""
    program = (
        "import sys, pipeline.train, tokenworlds.training.run, tokenworlds.envs.atari, tokenworlds.envs.craftax,"
        "tokenworlds.envs.crafter, tokenworlds.envs.dmc, tokenworlds.envs.minigrid;"
        f"from tokenworlds import methods; print(methods.get('{method}').__name__);"
        "print(*(n for n in sys.modules if n.startswith('tokenworlds.')))"
    )
    own_module, *imported = checkout.run("python", "-c", program).stdout.split()
    stages = (checkout.folder / "pipeline" / method / "dvc.yaml").read_text()
    assert f"src/{own_module.replace('.', '/')}.py\n" in stages
    # What cannot change a result, and the registry that every new method edits.
    harmless = tuple(name for name in HARMLESS if name != "tokenworlds.config")
    for name in imported:
        if name.startswith(harmless) or name == "tokenworlds.methods":
            continue
        top = name.split(".")[1]
        assert any(f"src/{listed}\n" in stages for listed in (f"tokenworlds/{top}", f"{name.replace('.', '/')}.py")), (
            f"{name} is no dependency"
        )


@pytest.mark.parametrize("method", known_methods())
def test_every_dependency_exists(method: str) -> None:
    """DVC would say so only when the stage runs."""
    stages = yaml.safe_load((PROJECT / "pipeline" / method / "dvc.yaml").read_text())["stages"]
    missing = {name for stage in stages.values() for name in stage["deps"] if not (PROJECT / name).exists()}
    assert not missing


def test_every_group_trains_what_its_name_says() -> None:
    """The stages of a method differ in a few words that are easily forgotten in a copy."""
    for method in known_methods():
        stages = yaml.safe_load((PROJECT / "pipeline" / method / "dvc.yaml").read_text())["stages"]
        for group, stage in stages.items():
            prefix, has_variants = prefix_of(group), group.endswith("_variants")
            variant = "+${item.variant}" if has_variants else ""
            name = f"{method}{variant}/{prefix}${{item.task}}/${{item.seed}}"
            assert stage["outs"] == [f"results/runs/{name}", f"results/scores/{name}.json"]
            assert f"method={method} " in stage["cmd"] and f"task={prefix}${{item.task}} " in stage["cmd"]
            assert ("variant=${item.variant} " in stage["cmd"]) == has_variants
            assert f"pipeline/{method}/params.yaml" in stage["deps"] and stage["params"] == [{"params.yaml": None}]
            axes = set(stage["matrix"])
            assert axes == {"task", "seed"} | ({"variant"} if has_variants else set())
            assert stage["matrix"] == {
                axis: f"${{grid.{method}.{group}.{plural}}}" for axis, plural in PLURALS if axis in axes
            }
