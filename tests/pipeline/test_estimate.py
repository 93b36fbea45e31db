"""Hours of runs: from recorded runs on that hardware first, and always with their source."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import estimate
from pipeline.estimate import Estimate, by_method, hours
from tokenworlds.config import load
from tokenworlds.runs.identity import RunId

REM = RunId("rem", "", "atari/Pong", 0, "paper")
SHIPPED = estimate._table
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


@pytest.fixture(autouse=True)
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(estimate, "scores_folder", lambda: tmp_path)
    monkeypatch.setattr(estimate, "_table", lambda: {("rem", "atari", "H100"): 8.0})
    return tmp_path


def record(folder: Path, run: RunId, took: float, hardware: str, **budget: Any) -> None:
    path = folder / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"run": {"scale": run.scale}, "hours": took, "hardware": hardware, "budget": {"epochs": 600, **budget}}
    path.write_text(json.dumps(content))


def test_recorded_runs_on_that_hardware_come_first_then_the_card_then_other_hardware_then_papers(scores: Path) -> None:
    known = [hours([REM], hardware)[REM] for hardware in (H100, A100, None)]
    published = Estimate(12, "published: its paper")
    assert known == [Estimate(8.0, "estimate: benchmarks.plan for H100"), published, published]
    record(scores, RunId("rem", "", "atari/Krull", 1, "paper"), 9, H100)
    record(scores, RunId("rem", "", "atari/Krull", 2, "paper"), 11, H100)
    record(scores, RunId("rem", "", "atari/Krull", 3, "smoke"), 99, H100)
    record(scores, RunId("rem", "", "crafter/Reward", 0, "paper"), 99, H100)
    known = [hours([REM], hardware)[REM] for hardware in (H100, A100, None)]
    recorded = Estimate(10, f"2 recorded here, {H100}")
    assert known == [recorded] * 3
    record(scores, RunId("rem", "", "atari/Pong", 1, "paper"), 4, "NVIDIA H200")
    assert hours([REM], H100)[REM] == recorded
    assert hours([REM], A100)[REM] == Estimate(8, f"3 recorded here, {H100}, NVIDIA H200")


def test_a_variant_takes_the_hours_of_its_method_where_it_has_none_and_says_so() -> None:
    first, second = (RunId("rem", variant, "atari/Pong", 0, "paper") for variant in ("no-pop", "no-rsb"))
    assert hours([first, second]) == {
        first: Estimate(22, "published: seconds an epoch in the paper"),
        second: Estimate(12, "published of rem: its paper"),
    }
    assert hours([first], H100)[first] == Estimate(8.0, "estimate of rem: benchmarks.plan for H100")


def test_nothing_is_known_of_other_scales() -> None:
    assert hours([RunId("rem", "", "atari/Pong", 0, "laptop")], H100) == {}


def test_recorded_hours_are_scaled_by_updates(scores: Path) -> None:
    config = load([*REM.overrides(), "model.tokenizer.perceptual=none"])
    planned = estimate.planned_updates(config)
    record(scores, REM, 3, A100, agent_updates={"tokenizer": planned // 4, "actor_critic": planned // 4})
    assert hours([REM], A100)[REM].hours == pytest.approx(6, rel=1e-4)
    record(scores, REM, 3, A100, epochs=300)  # as recorded by earlier versions
    assert hours([REM], A100)[REM].hours == 6
    (scores / f"{REM.name}.json").write_text("{")
    assert hours([REM], A100)[REM].hours == 12


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("training.tokenizer.updates_first_epoch=7",),
        ("training.tokenizer.start_after_epochs=0", "training.tokenizer.updates_first_epoch=7"),
        ("training.world_model.stop_after_epochs=3",),
        ("training.world_model.stop_after_epochs=0",),
    ],
)
def test_planned_updates_are_those_of_the_schedule(changes: tuple[str, ...]) -> None:
    from tokenworlds.methods.component import ComponentTrainer

    config = load(["method=delta_iris", "task=atari/Pong", "scale=smoke", *changes])
    training, total = config.training, 0
    for part in (training.tokenizer, training.world_model, training.actor_critic):
        component = ComponentTrainer.__new__(ComponentTrainer)
        component.config = part
        epochs = range(1, training.epochs + 1)
        total += sum(component.updates_in(epoch) for epoch in epochs if component.is_active(epoch))
    assert estimate.planned_updates(config) == total > 0


def test_hours_are_summed_by_method() -> None:
    runs = [RunId("rem", variant, "atari/Pong", seed, "paper") for variant in ("", "no-pop") for seed in (0, 1)]
    assert by_method(hours([*runs, RunId("m3", "", "atari/Pong", 0, "paper")])) == {"rem": 68, "m3": 12}


def test_the_shipped_table_has_every_method_at_paper_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_table", SHIPPED)
    for method, task in (("iris", "atari/Pong"), ("delta_iris", "crafter/Reward"), ("m3", "dmc/walker-run")):
        run = RunId(method, "", task, 0, "paper")
        assert hours([run], A100)[run].source == "estimate: benchmarks.plan for A100"


@pytest.mark.integration
def test_the_shipped_table_is_what_the_benchmark_counts() -> None:
    from benchmarks import plan

    chosen, has_perceptual = plan.configure("rem", "atari/Pong", [])
    counted = plan.Plan(chosen, plan.specification(chosen), has_perceptual=has_perceptual)
    for card, numbers in plan.CARDS.items():
        expected = sum(counted.hours(numbers, 1.5e-3).values())
        rows = estimate.TABLE.read_text().splitlines()
        (row,) = [line for line in rows if line.startswith(f"rem,atari,{card},")]
        assert float(row.split(",")[-1]) == pytest.approx(expected, rel=0.05)
