"""What makes a training stage stale, and what does not.

Nothing is trained: outputs are put there by hand and registered with DVC.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from pipeline.inputs import files_of, pretraining_files_of
from tests.conftest import PROJECT, Checkout
from tests.pipeline.support import BEGINNINGS, choose, edit_yaml, prefix_of
from tokenworlds.config import known_methods, load
from tokenworlds.runs.identity import RunId

pytestmark = pytest.mark.integration

STAGE = "pipeline/iris/dvc.yaml:atari@Pong-0"
PLURALS = (("variant", "variants"), ("task", "tasks"), ("seed", "seeds"))


@pytest.fixture(scope="module")
def trained(make_checkout: Callable[[], Checkout]) -> Checkout:
    """A checkout in which IRIS on Pong counts as trained."""
    checkout = make_checkout()
    choose(checkout.folder, "Pong")
    checkout.dvc("repro", "--quiet", "pipeline/iris/dvc.yaml:inputs")
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


def stale(checkout: Checkout) -> set[str]:
    """The training stages of IRIS that DVC would run, after the stage `inputs` has run."""
    checkout.dvc("repro", "--quiet", "pipeline/iris/dvc.yaml:inputs")
    return {
        name.rpartition(":")[2]
        for name in json.loads(checkout.dvc("status", "--json", "pipeline/iris/dvc.yaml").stdout)
    }


def test_a_fresh_clone_shows_its_plan(make_checkout: Callable[[], Checkout]) -> None:
    """Nothing was trained, so nothing that a stage depends on was made."""
    checkout = make_checkout()
    plan = checkout.dvc("repro", "--dry").stdout
    steps = [line for line in plan.splitlines() if line.startswith("> ")]
    assert sum("pipeline.inputs" in step for step in steps) == len(known_methods())
    assert sum("pipeline.train" in step for step in steps) == 14  # the smoke suite
    assert [step.split()[2:5] for step in steps[-5:]] == [
        ["-m", "pipeline.collect"],
        ["-m", "pipeline.aggregate"],
        ["analysis/make_figures.py", "--kind", "table"],
        ["analysis/make_figures.py", "--kind", "figure"],
        ["-m", "pipeline.report"],
    ]
    assert checkout.run("git", "status", "--porcelain").stdout == ""


def test_what_changes_no_result_trains_nothing(checkout: Checkout) -> None:
    """A remark or more in files of all kinds; which runs an edit concerns: test_inputs."""
    assert not stale(checkout)
    for name in (
        "README.md",
        "analysis/stats/metrics.py",
        "analysis/params.yaml",
        "dvc.yaml",
        "params.yaml",
        "pipeline/collect.py",
        "pipeline/iris/params.yaml",
        "pipeline/rem/params.yaml",
        "src/tokenworlds/checkpoints/iris.py",
        "src/tokenworlds/envs/atari.py",
        "src/tokenworlds/methods/other_method.py",
        "src/tokenworlds/tracking/mlflow_sink.py",
        "src/tokenworlds/training/__pycache__/trainer.cpython-311.pyc",
    ):
        (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (checkout.folder / name).open("a") as file:
            file.write("# a remark\n")
    edit_yaml(checkout.folder / "pipeline" / "grid.yaml", {"grid": {"suite": "another"}})
    assert not stale(checkout)
    assert checkout.run("git", "status", "--porcelain", "results").stdout == ""  # with the files of inputs as they were


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("src/tokenworlds/training/trainer.py", "\nEXTRA = 1\n"),
        ("pipeline/iris/params.yaml", {"training": {"tokenizer": {"learning_rate": 2.0e-4}}}),
        ("params.yaml", {"training": {"epochs": 1}}),  # a section that the committed file lacks
    ],
)
def test_code_and_settings_that_can_change_a_result_make_the_stage_stale(
    checkout: Checkout, name: str, changes: str | dict[str, Any]
) -> None:
    path = checkout.folder / name
    if isinstance(changes, str):
        path.write_text(path.read_text() + changes)
    else:
        edit_yaml(path, changes)
    assert stale(checkout) == {"atari@Pong-0"}
    assert checkout.run("git", "diff", "--stat", "results/inputs").stdout
    assert "method=iris " in checkout.dvc("repro", "--dry", "pipeline/iris/dvc.yaml").stdout


def test_a_stage_that_is_repeated_without_its_inputs_says_so(checkout: Checkout) -> None:
    edit_yaml(checkout.folder / "params.yaml", {"training": {"epochs": 1}})
    done = checkout.dvc("repro", "--force", "--single-item", STAGE, status=None)
    assert done.returncode != 0 and "run `python -m pipeline.inputs iris`" in done.stdout + done.stderr
    checkout.dvc("checkout", "--quiet", STAGE)


def test_another_scale_makes_it_stale(checkout: Checkout) -> None:
    choose(checkout.folder, "Pong", scale="laptop")
    assert stale(checkout) == {"atari@Pong-0"}


def test_another_seed_leaves_the_trained_one_alone(checkout: Checkout) -> None:
    choose(checkout.folder, "Pong", seeds=(0, 1))
    assert stale(checkout) == {"atari@Pong-1"}
    plan = checkout.dvc("repro", "--dry", "pipeline/iris/dvc.yaml").stdout
    assert "seed=1" in plan and "seed=0" not in plan


@pytest.mark.parametrize("method", known_methods())
def test_every_dependency_of_inputs_exists(method: str) -> None:
    """DVC would say so only when the stage runs."""
    stage = yaml.safe_load((PROJECT / "pipeline" / method / "dvc.yaml").read_text())["stages"]["inputs"]
    assert stage["cmd"] == f"python -m pipeline.inputs {method}" and [*stage["outs"][0]] == [f"results/inputs/{method}"]
    assert f"pipeline/{method}/params.yaml" in stage["deps"] and stage["params"] == [{"params.yaml": None}]
    assert not [name for name in stage["deps"] if not (PROJECT / name).exists()]


def test_every_group_trains_what_its_name_says() -> None:
    """The stages of a method differ in a few words that are easily forgotten in a copy."""
    for method in known_methods():
        stages = yaml.safe_load((PROJECT / "pipeline" / method / "dvc.yaml").read_text())["stages"]
        stages.pop("inputs")
        if (stand_ins := stages.pop("stand_ins", None)) is not None:
            assert stand_ins["cmd"] == "python -m pipeline.stand_ins" and "matrix" not in stand_ins
        for source in [name for name in stages if f"{name}_variants" in BEGINNINGS]:
            check_tokenizers(method, source, stages.pop(source))
        for group, stage in stages.items():
            prefix, has_variants = prefix_of(group), group.endswith("_variants")
            variant = "+${item.variant}" if has_variants else ""
            name = f"{method}{variant}/{prefix}${{item.task}}/${{item.seed}}"
            assert stage["outs"] == [f"results/runs/{name}", f"results/scores/{name}.json"]
            assert f"method={method} " in stage["cmd"] and f"task={prefix}${{item.task}} " in stage["cmd"]
            assert ("variant=${item.variant} " in stage["cmd"]) == has_variants
            run = RunId(method, "${item.variant}" if has_variants else "", f"{prefix}${{item.task}}", 0, "smoke")
            beginning = [BEGINNINGS[group]] if group in BEGINNINGS else []
            assert stage["deps"] == [*map(str, files_of(run)), *beginning] and "params" not in stage
            axes = set(stage["matrix"])
            assert axes == {"task", "seed"} | ({"variant"} if has_variants else set())
            assert stage["matrix"] == {
                axis: f"${{grid.{method}.{group}.{plural}}}" for axis, plural in PLURALS if axis in axes
            }


def check_tokenizers(method: str, source: str, stage: dict[str, Any]) -> None:
    """Stages that pretrain what the variants of a group begin with."""
    variant, group = f"tokenizer-{source.replace('_', '-')}", f"{source}_variants"
    run = f"method={method} variant={variant} task=${{item.task}} seed=${{item.seed}} scale=${{grid.scale}}"
    assert stage["cmd"] == f"python -m pipeline.pretrain {run}"
    assert f"{stage['outs'][0]}/agent.safetensors" == BEGINNINGS[group] and len(stage["outs"]) == 1
    named = {"task": "${item.task}", "variant": variant, "method": method, "scale": "smoke"}
    config = load([f"{key}={value}" for key, value in (named | {"task": "minigrid/Empty-5x5"}).items()])
    files = [str(path).replace("minigrid/Empty-5x5", named["task"]) for path in pretraining_files_of(config)]
    assert stage["deps"] == files
    assert config.places["tokenizer"] == stage["outs"][0].replace("${item.task}/${item.seed}", "minigrid/Empty-5x5/0")
    assert stage["matrix"] == {axis: f"${{grid.{method}.{group}.{axis}s}}" for axis in ("task", "seed")}
