"""What a suite lacks is said before its first run, all at once; and which of its runs one is."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import plan, preflight, suite, train
from pipeline.estimate import Estimate
from tests.conftest import PROJECT
from tokenworlds.config import RunConfig, load, provenance, trunk
from tokenworlds.runs.identity import RunId

Capture = pytest.CaptureFixture[str]

GB = 1_000_000_000


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline's files in a folder of their own, without results; a machine on which everything is there."""
    shutil.copytree(PROJECT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENWORLDS_SCRATCH")
    monkeypatch.setattr(preflight, "gpus", lambda: 1)
    monkeypatch.setattr(preflight, "gpu_name", lambda: None)
    monkeypatch.setattr(preflight, "torch_build", lambda: "2.13.0")
    monkeypatch.setattr(preflight, "physical_memory", lambda: 1000 * GB)
    monkeypatch.setattr(preflight, "_free", lambda place: 10_000 * GB)
    monkeypatch.setattr(preflight, "is_installed", lambda module: True)
    return tmp_path


def activate(name: str) -> None:
    suite.activate(name)


def with_weights(project: Path) -> None:
    (project / "weights.safetensors").touch()
    (project / "params.yaml").write_text("model: {tokenizer: {perceptual_weights: weights.safetensors}}\n")


def record(run: RunId, hours: float = 1.0, epochs: int = 4, scale: str = "smoke") -> None:
    """Scores of a run."""
    scores = {
        "run": {"scale": scale},
        "config_hash": load(replace(run, scale="smoke").overrides()).hash(),
        "hours": hours,
        "hardware": "a machine",
        "budget": {"epochs": epochs},
    }
    plan.scores_of(run).parent.mkdir(parents=True, exist_ok=True)
    plan.scores_of(run).write_text(json.dumps(scores))


def examine() -> preflight.Findings:
    active = plan.active_plan()
    assert active is not None
    return preflight.examine(active, active.runs)


def test_the_plan_holds_every_run_of_the_suite_once(project: Path) -> None:
    for name in suite.known_suites():
        activate(name)
        active = plan.active_plan()
        assert active is not None and active.suite == name
        assert len(set(active.runs)) == len(active.runs) == suite.count_runs(suite.read_suite(name)[1])


def smoke(*overrides: str) -> RunConfig:
    return load(["method=iris", "task=atari/Pong", "seed=1", "scale=smoke", *overrides])


@pytest.mark.parametrize(
    "change",
    [
        lambda config: replace(config, seed=2),
        lambda config: replace(config, task="atari/Qbert"),
        lambda config: replace(config, variant="64-tokens"),
        lambda config: replace(config, method="m3"),
        lambda config: replace(config, scale=type(config.scale)["small"]),
    ],
)
def test_a_run_belongs_to_the_active_suite_if_it_is_one_of_its_runs(
    project: Path, change: Callable[[RunConfig], RunConfig]
) -> None:
    """Whoever started it."""
    activate("smoke")
    assert plan.active_suite(smoke()) == "smoke" and plan.active_suite(change(smoke())) is None
    (project / "pipeline" / "grid.yaml").unlink()
    assert plan.active_suite(smoke()) is None


def test_a_run_says_which_of_the_suite_it_is(project: Path) -> None:
    activate("smoke")
    active = plan.active_plan()
    assert active is not None and len(active.runs) == 14
    assert plan.position(smoke()) == "run 1 of 14 of suite smoke"
    for run in active.runs[:4]:
        record(run)
    record(active.runs[5], scale="small")  # of another scale under the same name
    assert plan.position(smoke()) == "run 5 of 14 of suite smoke"
    record(RunId.of_config(smoke()))  # its own scores, which DVC would have removed, do not count
    assert plan.position(smoke()) == "run 5 of 14 of suite smoke"
    assert plan.position(replace(smoke(), seed=9)) is None


def test_a_run_is_done_with_scores_of_its_scale_and_configuration(project: Path) -> None:
    run = RunId.of_config(smoke())
    scores = plan.scores_of(run)
    assert not plan.is_done(run)
    record(run)
    assert plan.is_done(run) and not plan.is_done(replace(run, scale="small"))
    scores.write_text(json.dumps(json.loads(scores.read_text()) | {"config_hash": smoke("training.epochs=9").hash()}))
    assert not plan.is_done(run)
    scores.write_text("{")
    assert not plan.is_done(run)
    record(run)
    assert not plan.is_done(replace(run, scale="paper"))  # whose configuration lacks perceptual weights here


def test_nothing_is_missing_where_everything_is_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(trunk, "digest_of_weights", lambda place: "0" * 12)  # language models, for everybody to bring
    for name in suite.known_suites():
        with_weights(project)
        activate(name)
        findings = examine()
        assert (findings.errors, findings.warnings) == ([], []), name
        assert "nothing is missing" in preflight.summary() and preflight.main([]) == 0
    assert capsys.readouterr().err == ""


def test_all_that_is_missing_is_listed_at_once_with_the_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(preflight, "gpus", lambda: 0)
    monkeypatch.setattr(preflight, "physical_memory", lambda: 25 * GB)
    monkeypatch.setattr(preflight, "_free", lambda place: 90 * GB)
    monkeypatch.setattr(preflight, "is_installed", lambda module: module != "craftax")
    activate("paper")
    began = time.monotonic()
    assert preflight.main([]) == 2
    assert time.monotonic() - began < 20  # two seconds, on an idle machine
    errors = capsys.readouterr().err.splitlines()
    assert all(len(line) < 300 for line in errors)
    found = {line.split(":")[0]: [] for line in errors}
    for line in errors:
        found[line.split(":")[0]].append(line)
    assert set(found) == {"warning", "error"}
    for part in ("no NVIDIA GPU", "run folders and their copies in DVC's cache may take 279 GB"):
        assert sum(part in line for line in found["warning"]) == 1
    for part in (
        "(970 runs): configuration: model.tokenizer.perceptual=lpips needs model.tokenizer.perceptual_weights=FILE",
        "(30 runs): the package craftax is not installed; pip install -c constraints.txt -e '.[craftax]'",
        "(25 runs): the replay takes 123 GB of memory, this machine has 25 GB",
        "checkpoints and replay take 124.9 GB of scratch, 90.0 GB are free there",
    ):
        assert sum(part in line for line in found["error"]) == 1, part
    assert len(errors) == 6


def test_a_machine_without_a_gpu_is_no_fault(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a build of torch without CUDA, but both are said; and at other scales a CPU will do."""
    with_weights(project)
    monkeypatch.setattr(preflight, "torch_build", lambda: "2.13.0+cpu")
    activate("dmc")
    (warning,) = examine().warnings
    assert "torch 2.13.0+cpu does not use the 1 GPUs here; install the CUDA build" in warning
    monkeypatch.setattr(preflight, "gpus", lambda: 0)
    assert len(examine().warnings) == 1 and examine().errors == []
    activate("small")
    assert examine().warnings == []


def test_a_task_that_is_not_there_and_a_damaged_grid_are_said(project: Path, capsys: Capture) -> None:
    activate("smoke")
    grid = project / "pipeline" / "grid.yaml"
    grid.write_text(grid.read_text().replace("Breakout, Pong", "Breakout, Pogn"))
    assert any("unknown task 'atari/Pogn': did you mean atari/Pong" in error for error in examine().errors)
    grid.write_text("grid: {suite: smoke}\n")
    assert "make suite SUITE=" in preflight.summary()


def test_only_runs_without_scores_are_looked_at_and_none_cost_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    activate("smoke")
    active = plan.active_plan()
    assert active is not None
    for run in active.runs[1:]:
        record(run)
    assert preflight.main(["--missing"]) == 0
    output = capsys.readouterr().out
    assert "14 runs at smoke scale, 1 to be trained" in output and output.count("\n") == 3
    record(active.runs[0])
    monkeypatch.setattr(preflight, "examine", lambda *_: pytest.fail("nothing will be trained"))
    assert preflight.main(["--missing"]) == 0
    assert capsys.readouterr() == ("", "")


def test_hours_are_those_of_recorded_runs_scaled_to_the_plan_else_published_else_unknown(project: Path) -> None:
    with_weights(project)
    activate("atari100k")
    costs = {kind.name: cost for kind, cost in examine().costs.items()}
    assert {name: cost.hours for name, cost in costs.items() if cost} == {
        "iris/atari": 100, "rem/atari": 12, "delta_iris/atari": 26, "m3/atari": 12,
    }  # fmt: skip
    assert all(cost is not None and cost.source.startswith("published: ") for cost in costs.values())
    active = plan.active_plan()
    assert active is not None
    runs = [run for run in active.runs if run.method == "rem"][:2]
    record(runs[0], hours=2, epochs=300, scale="paper")
    record(runs[1], hours=5, epochs=600, scale="paper")
    record(replace(runs[0], seed=7), hours=99, scale="smoke")  # of another scale
    cost = {kind.name: cost for kind, cost in examine().costs.items()}["rem/atari"]
    assert cost == Estimate(4.5, "2 recorded here, a machine")
    assert preflight.total(examine()) == "about 18,525 hours (772 days) one after the other"
    activate("crafter")
    assert "without the 10 runs whose hours are unknown" in preflight.total(examine())


def test_hours_on_other_machines_are_not_those_of_this_gpu(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    activate("atari100k")
    monkeypatch.setattr(preflight, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    active = plan.active_plan()
    assert active is not None
    for is_elsewhere in (False, True):
        costs = preflight.examine(active, active.runs, is_elsewhere).costs.values()
        assert {cost.source.startswith("published: ") for cost in costs if cost} == {is_elsewhere}


def test_choosing_a_suite_ends_with_a_summary(project: Path, capsys: Capture) -> None:
    suite.main(["atari100k"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("suite atari100k: 520 runs") and len(lines) == 2
    assert lines[1].startswith("preflight: 1 problem (") and "about 19,500 hours" in lines[1]
    assert lines[1].endswith(preflight.COMMAND)


def test_torch_is_not_imported() -> None:
    code = "import sys, pipeline.preflight; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_run_knows_what_a_person_set_when_it_is_trained(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeway's own temperature, set for all games, is an override there as on any other game."""
    activate("smoke")
    found: list[RunConfig] = []
    monkeypatch.setattr("tokenworlds.training.run.run_training", found.append)
    train.run(load(["method=iris", "task=atari/Freeway", "scale=smoke", "collection.train.temperature=0.01"]))
    assert provenance(found[0]).overrides == {"collection.train.temperature": 0.01}


def test_weights_that_a_variant_begins_with_are_missed(project: Path) -> None:
    groups = "iris:\n  atari_variants: {variants: [gpt2-frozen, gpt2-scratch], tasks: [Pong], seeds: [0]}\n"
    (project / "pipeline" / "suites" / "gpt2.yaml").write_text(f"scale: paper\n{groups}")
    with_weights(project)
    activate("gpt2")
    (error,) = examine().errors
    assert error.startswith("iris+gpt2-frozen/atari (1 run): model.world_model.trunk.weights: there is nothing at")


def test_the_package_that_reads_a_language_model_is_missed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunId("iris", "smollm2-frozen", "minigrid/Empty-5x5", 0, "smoke")
    chosen = plan.Plan("llama", "smoke", (run,))
    assert preflight.examine(chosen, chosen.runs).errors == []  # a stand-in of its weights is made by a stage
    monkeypatch.setattr(preflight, "is_installed", lambda module: module != "gguf")
    (error,) = preflight.examine(chosen, chosen.runs).errors
    assert "the package gguf" in error and "'.[pretrained]'" in error


def test_a_run_that_begins_with_another_needs_it_in_the_suite_or_here(project: Path) -> None:
    """Of tokenizers that a stage pretrains nothing has to be there."""
    base = RunId("iris", "", "minigrid/Empty-5x5", 0, "smoke")
    same, made = (replace(base, variant=f"tokenizer-{name}") for name in ("same-game", "random-policy"))

    def errors(*runs: RunId) -> list[str]:
        return preflight.examine(plan.Plan("begin", "smoke", runs), runs).errors

    (error,) = errors(same, made)
    assert f"{same.name} begins with results/runs/{base.name}, which is neither here nor a run of this suite" in error
    assert errors(base, same, made) == []
    (project / "results" / "runs" / base.name).mkdir(parents=True)
    (project / "results" / "runs" / base.name / "agent.safetensors").write_text("weights")
    assert errors(same, made) == []
