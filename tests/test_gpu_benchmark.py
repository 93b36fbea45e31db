"""The benchmark for a GPU, rehearsed on the CPU with the smallest networks."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.plan import configure, sizes_of
from tokenworlds.config import Compile, Precision
from tokenworlds.config.initialization import PARTS
from tokenworlds.methods import METHODS

Capture = pytest.CaptureFixture[str]
CPU = torch.device("cpu")


def options(*overrides: str) -> argparse.Namespace:
    return argparse.Namespace(device=CPU, task="minigrid/Empty-5x5", overrides=["scale=smoke", *overrides])


@pytest.mark.parametrize("method", METHODS)
def test_every_component_of_a_method_is_prepared_and_updated(method: str) -> None:
    chosen = gpu.settings_of(method, "minigrid/Empty-5x5", Precision.float32, CPU, ["scale=smoke"])
    config, _ = configure(method, "minigrid/Empty-5x5", chosen)
    bench = gpu.Bench(config, CPU, has_perceptual=False)
    rows = list(bench.rows(0.0))
    parts = ("tokenizer", "world_model", "actor_critic")
    expected = [f"{part} {kind}" for kind in ("preparation", "update") for part in parts]
    assert [row.phase for row in rows if row.phase != "act"] == expected
    assert all(row.calls == 1 and row.seconds > 0 and row.peak is None for row in rows)
    hours = bench.hours(rows, config, env_step=0.0)
    assert hours.keys() == {*parts, "collection", "evaluation"} and all(value > 0 for value in hours.values())


def test_what_took_part_of_a_batch_counts_in_proportion() -> None:
    config, _ = configure("rem", "minigrid/Empty-5x5", ["scale=smoke", "training.tokenizer.batch_size=4"])
    published, _ = configure("rem", "minigrid/Empty-5x5", ["scale=smoke", "training.tokenizer.batch_size=12"])
    bench = gpu.Bench(config, CPU, has_perceptual=False)
    names = [f"{part} {kind}" for kind in ("preparation", "update") for part in PARTS]
    rows = [gpu.Row("rem", name, "float32", "plain", 4, 36.0 * name.endswith("update"), 1, None) for name in names]
    rows += [gpu.Row("rem", "act", "float32", "plain", size, 0.0, 1, None) for size in sizes_of(config)]
    component = bench.components(Compile.off)[0]
    updates = sum(component.updates_in(epoch) for epoch in range(1, 5) if component.is_active(epoch))
    assert bench.hours(rows, published, 0.0)["tokenizer"] == pytest.approx(updates * 3 * 36 / 3600)


def test_a_measurement_is_repeated_while_there_is_time_and_the_first_call_does_not_count() -> None:
    calls: list[float] = []

    def work() -> None:
        calls.append(0.0)
        time.sleep(0.05 if len(calls) == 1 else 0.001)

    seconds, counted, _ = gpu.measure(work, CPU, 10.0)
    assert counted == gpu.REPETITIONS == len(calls) - 1 and seconds < 0.05
    calls.clear()
    assert gpu.measure(work, CPU, 0.0)[1] == 1 == len(calls)


def test_a_method_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def phases(method: str, given: object, seconds: float) -> dict[str, Any]:
        row = gpu.Row(method, "act", "float32", "plain", 1, 0.5, 3, 1.25)
        return {"rows": [row], "hours": {"float32": {"act": 2.0}}, "fault": "boom" if method == "rem" else None}

    monkeypatch.setattr(gpu, "phases_of", phases)
    monkeypatch.setattr(gpu, "run", lambda command, seconds: (0, 1.0, "done"))
    file = tmp_path / "rows.json"
    arguments = ["scale=smoke", "--device", "cpu", "--method", "rem", "m3", "--json", str(file)]
    assert gpu.main(arguments) == 1
    said, record = capsys.readouterr().out, json.loads(file.read_text())
    assert "rem FAILED: boom" in said and "m3         float32     2.00 h" in said
    assert record["phases"]["m3"]["rows"][0]["peak"] == 1.25 and record["training"]["m3"]["said"] == "done"


def test_time_that_a_method_leaves_goes_to_the_next() -> None:
    shares = dict(gpu.shared_out(["iris", "rem", "m3"], 40.0))  # nothing is done in between
    assert shares == pytest.approx({"iris": 20.0, "rem": 20.0, "m3": 40.0}, abs=1.0)


def test_a_process_that_dies_is_a_fault_and_not_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpu.phases_of("rem", options("training.tokenizer.batch_size=x"), 60.0)
    assert "batch_size" in found["fault"] and not found["rows"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--minutes", "0"], "--minutes"), (["--task", "atari/Pnog"], "Pong"), (["nonsense=1"], "nonsense")],
)
def test_a_mistake_is_one_sentence(arguments: list[str], said: str, capsys: Capture) -> None:
    assert gpu.main(["scale=smoke", *arguments, "--device", "cpu", "--method", "rem"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_a_command_that_takes_too_long_is_stopped() -> None:
    status, seconds, _ = gpu.run(["timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)"], 0.5)
    assert status is None and seconds < 30
