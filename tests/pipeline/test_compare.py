"""Two runs are equal where every number, game and weight is, whatever the time that they took."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import compare
from tests.conftest import PROJECT
from tokenworlds.errors import UserError
from tokenworlds.tensor_files import save

RUN = PROJECT / "docs/laptop/runs/rem/atari/Krull/0"
HALF = torch.tensor(0.5, dtype=torch.bfloat16)
Capture = pytest.CaptureFixture[str]
Metrics = Callable[[dict[str, Any]], None]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "other"))


def edit_journal(run: Path, kind: str, edit: Metrics) -> None:
    """Edit the values of all records of a kind."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        if record["kind"] == kind:
            edit(record["values"])
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_run_equals_itself_at_another_speed_and_place(other: Path, capsys: Capture) -> None:
    def slower(values: dict[str, Any]) -> None:
        for name in values:
            if "second" in name or name.startswith(("system/", "memory/")):
                values[name] *= 2
        values |= {"final/cost/energy_joules": 5.0, "final/cost/peak_memory_bytes": 7.0}  # of a GPU

    edit_journal(other, "metrics", slower)
    edit_journal(other, "params", lambda values: values.update({"out": "elsewhere", "runtime.scratch": "there"}))
    assert (other / "metrics.jsonl").read_bytes() != (RUN / "metrics.jsonl").read_bytes()
    assert compare.main([str(RUN), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "the runs are equal to the last bit" and all("differ" not in line for line in lines)
    assert [line for line in lines if line.startswith("world_model.csv")]


def test_a_number_of_one_epoch_that_differs_is_named_with_both_values(other: Path, capsys: Capture) -> None:
    name, seen = "world_model/train/loss_rewards", []

    def change(values: dict[str, Any]) -> None:
        if name in values:
            seen.append(values[name])
            if len(seen) == 3:
                values[name] += 1e-9

    edit_journal(other, "metrics", change)
    assert compare.main([str(RUN), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("    ")]
    assert lines[at - 1].startswith("world_model ") and " 1 of " in lines[at - 1]
    assert lines[at] == f"    epoch 3: {name}: {seen[2]} and {seen[2] + 1e-9}" and lines[-1] == "the runs differ"


def test_a_run_without_games_of_the_random_policy_is_compared(other: Path) -> None:
    scores = json.loads((other / "scores.json").read_text()) | {"random": None}
    (other / "scores.json").write_text(json.dumps(scores))
    assert compare.main([str(other), str(other)]) == 0 and compare.main([str(RUN), str(other)]) == 1


def test_values_are_equal_bit_by_bit_and_null_is_not_absent() -> None:
    parts = compare.Part("", {"a": float("nan"), "b": None, "c": 0.0}, {"a": float("nan"), "c": -0.0})
    assert parts.differing == ["b", "c"]


def test_numbers_that_one_run_lacks_make_a_difference(other: Path, capsys: Capture) -> None:
    lost: list[float] = []

    def drop(values: dict[str, Any]) -> None:
        if "eval/return_mean" in values:
            lost.append(values.pop("eval/return_mean"))

    edit_journal(other, "metrics", drop)
    assert compare.main([str(other), str(RUN)]) == 1
    assert f"eval/return_mean: absent and {lost[0]}\n" in capsys.readouterr().out


def test_settings_that_differ_are_listed_and_decide_nothing(other: Path, capsys: Capture) -> None:
    edit_journal(other, "params", lambda values: values.update({"collection.test.temperature": 0.25}))
    edit_journal(other, "tags", lambda values: values.update({"git_revision": "another"}))
    assert compare.main([str(RUN), str(other)]) == 0
    shown = capsys.readouterr().out
    assert "collection.test.temperature: 1.0 and 0.25" in shown and "and another" in shown


@pytest.mark.parametrize("edit", ["return", "length", "a measure", "a bit of a weight", "kind of a weight"])
def test_games_measures_and_weights_are_compared(other: Path, tmp_path: Path, edit: str) -> None:
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    for folder in (run, other):
        (folder / "agent.safetensors").write_bytes(
            save({"weight": torch.ones(3), "half": HALF}, {"git_revision": str(folder)})
        )
    assert compare.main([str(run), str(other)]) == 0  # whatever the header says
    expected = "weight"
    if edit in ("return", "length"):
        scores, expected = json.loads((other / "scores.json").read_text()), f"final game 7: {edit}"
        scores[f"{edit}s"][7] += 1
        (other / "scores.json").write_text(json.dumps(scores))
    elif edit == "a measure":
        lines, expected = (other / "measures.csv").read_bytes().splitlines(keepends=True), "line 3"
        lines = [
            line.replace(b"\r", b"1\r") if number == 3 or line.startswith(b"cost,") else line
            for number, line in enumerate(lines)
        ]
        (other / "measures.csv").write_bytes(b"".join(lines))
    else:
        weight = torch.ones(3).nextafter(torch.tensor(2.0)) if "bit" in edit else torch.ones(3).view(torch.int32)
        (other / "agent.safetensors").write_bytes(save({"weight": weight, "half": HALF}, {}))
    assert compare.main([str(run), str(other)]) == 1
    (part,) = (part for part in compare.parts(run, other) if part.differing)
    assert part.differing == [expected]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: shutil.rmtree(run), "there is no folder"),
        (lambda run: [file.unlink() for file in run.iterdir()], "no file of a run in common"),
        (lambda run: (run / "scores.json").write_text("[" * 10_000), "scores.json is damaged"),
        (lambda run: (run / "scores.json").write_text('{"returns": 5}'), "scores.json is damaged"),
        (lambda run: (run / "metrics.jsonl").write_text("{}\n"), "line 1 of the journal"),
        (lambda run: (run / "metrics.jsonl").write_text('{"kind": "metrics"}\n'), "holds metrics without"),
    ],
)
def test_what_is_no_run_is_one_sentence(other: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(other)
    with pytest.raises(UserError, match=message):
        compare.main([str(RUN), str(other)])


def test_the_command_ends_with_its_verdict(other: Path) -> None:
    (other / "world_model.csv").write_text("")
    command = (sys.executable, "-m", "pipeline.compare", str(RUN), str(other))
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stdout.endswith("the runs differ\n")
