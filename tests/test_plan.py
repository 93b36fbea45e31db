"""Estimates of a run's hours: what is counted, and what a card makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import plan
from benchmarks.plan import Card, Costs, Counting, Plan
from benchmarks.stand_in import META
from tests.methods.support import configure, spec
from tokenworlds.config import Precision
from tokenworlds.methods import METHODS

Capture = pytest.CaptureFixture[str]
CARD = Card(dict.fromkeys(Precision, 100.0), bandwidth=10.0, launch=2.0, kernel=1.0)


def counted(work: object) -> Costs:
    return Counting().of(work)  # type: ignore[arg-type]


def test_a_matrix_product_is_one_kernel_with_its_operations_and_bytes() -> None:
    a, b = torch.empty(3, 5, device=META), torch.empty(5, 7, device=META)
    costs = counted(lambda: a @ b)
    assert (costs.kernels, costs.flops, costs.bytes) == (1, 2 * 3 * 5 * 7, 4 * (3 * 5 + 5 * 7 + 3 * 7))


def test_views_and_fresh_memory_are_no_kernels() -> None:
    a = torch.empty(4, 6, device=META)
    assert counted(lambda: a.t().reshape(6, 4)[1:].unsqueeze(0).new_empty(3).detach()).kernels == 0


def test_a_gather_reads_what_it_writes_whatever_it_chooses_from() -> None:
    table, rows = torch.empty(1000, 8, device=META), torch.zeros(3, dtype=torch.int64, device=META)
    assert counted(lambda: table[rows]).bytes == counted(lambda: table.index_select(0, rows)).bytes == 2 * 3 * 8 * 4


def test_gradients_count() -> None:
    layer, x = nn.Linear(4, 8, device=META), torch.empty(2, 4, device=META, requires_grad=True)
    forward = 2 * 2 * 4 * 8
    assert counted(lambda: layer(x)).flops == forward
    assert counted(lambda: layer(x).sum().backward()).flops == 3 * forward


@pytest.mark.parametrize(
    ("kernel", "captured", "expected"),
    [((1000.0, 1.0), True, 10), ((1.0, 200.0), True, 20), ((1.0, 1.0), True, 1), ((1.0, 1.0), False, 2)],
    ids=["arithmetic", "memory", "least time", "launch"],
)
def test_a_kernel_takes_the_longest_of_its_costs(kernel: tuple[float, float], captured: bool, expected: float) -> None:
    assert Costs({(*kernel, captured): 3}).seconds(CARD, Precision.float32) == 3 * expected


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_adds_up(method: str) -> None:
    """Hours by component: of all updates of the run, and of computing anew what is known of stored steps."""
    config = configure(method, "training.epochs=4")
    planned = Plan(config, spec(config.environment.train.size, 3), has_perceptual=False)
    seconds = {name: 3600 * hours for name, hours in planned.hours(CARD, 0.5).items()}
    assert list(planned.updates) == [component.name for component in planned.components]
    assert planned.updates["actor_critic"].captured > planned.updates["world_model"].captured == 0
    steps = planned.schedule
    collected = [sum(steps.steps_in(e) for e in range(1, n + 1) if steps.is_collected(e)) for n in range(5)]
    for component in planned.components:
        active = [epoch for epoch in range(1, 5) if component.is_active(epoch)]
        update = planned.updates[component.name].seconds(CARD, config.training.precision)
        whole = planned.preparations[component.name].seconds(CARD, config.training.precision)
        share = sum(collected[epoch] / collected[4] for epoch in active)
        expected = update * sum(component.updates_in(epoch) for epoch in active) + whole * share
        assert seconds[component.name] == pytest.approx(expected)
    assert seconds["collection"] > 0.5 * collected[4]


def test_measurements_of_a_card_stand_beside_its_estimates(tmp_path: Path, capsys: Capture) -> None:
    shared = {"method": "rem", "precision": "float32", "batch": 4, "peak": 1.0}
    rows = [{**shared, "phase": "tokenizer update", "seconds": seconds} for seconds in (9.0, 0.5, 8.0)]
    record = {"machine": "NVIDIA H100 80GB HBM3", "task": "minigrid/Empty-5x5", "overrides": ["scale=smoke"]}
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({**record, "phases": {"rem": {"rows": [*rows, {**shared, "phase": "act"}]}}}))
    assert plan.main(["--compare", str(file)]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if "tokenizer" in line]
    estimate, ratio = (float(cell) for cell in row.split("|")[-3:-1])
    assert "| 0.5000 |" in row and ratio == pytest.approx(0.5 / estimate, rel=0.2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no file of"),
        ("[]", "is no file of"),
        ('{"machine": "CPU", "phases": {}}', "no file"),
        (None, "no file"),
    ],
)
def test_other_files_are_no_measurements(text: str | None, said: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "measured.json"
    if text is not None:
        file.write_text(text)
    assert plan.main(["--compare", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_an_unknown_card_has_no_estimates(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "measured.json"
    file.write_text('{"machine": "NVIDIA T4", "task": "atari/Pong", "overrides": [], "phases": {}}')
    assert plan.main(["--compare", str(file)]) == 2
    assert "no estimates for NVIDIA T4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--task", "atari/Pnog"], "Pong"), (["nonsense=1"], "nonsense"), (["--json", "/dev/null/file"], "--json")],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(arguments: list[str], said: str, capsys: Capture) -> None:
    assert plan.main([*arguments, "--method", "rem"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_the_published_perceptual_network_counts_without_its_file() -> None:
    _, is_perceptual = plan.configure("iris", "minigrid/Empty-5x5", ["scale=paper"])
    assert is_perceptual and not plan.configure("iris", "minigrid/Empty-5x5", ["scale=smoke"])[1]
    assert not plan.configure("delta_iris", "minigrid/Empty-5x5", [])[1]


def test_an_update_costs_what_its_networks_have() -> None:
    """Twice the batch: twice the arithmetic of a tokenizer, the same number of kernels."""
    costs = {}
    for batch in (2, 4):
        config = configure("rem", f"training.tokenizer.batch_size={batch}", "training.epochs=4")
        costs[batch] = Plan(config, spec(config.environment.train.size, 3), has_perceptual=False).updates["tokenizer"]
    optimiser = max(flops for flops, moved, _ in costs[2] if 12 * moved == 28 * flops)
    assert costs[4].kernels == costs[2].kernels
    assert costs[4].flops - optimiser == pytest.approx(2 * (costs[2].flops - optimiser))
