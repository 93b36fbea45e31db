"""The importer of published checkpoints: what it says of files that are none. What it reads: tests/golden."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from tests.golden.support import assembled_agent, load_json, load_tensors
from tokenworlds import envs
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.envs import DiscreteActions, EnvironmentConfig, EnvironmentSpec, ImageSpec


def error_of(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["import", str(file), "--task", "atari/Pong", "--out", str(tmp_path / "out"), *more]) == 2
    assert not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file" in error_of(tmp_path / "Pong.pt", tmp_path, capsys)


@pytest.mark.parametrize("name", ["Pong.pt", "Pong.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 30])
def test_rubbish(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "is damaged or no checkpoint" in error_of(tmp_path / name, tmp_path, capsys)


@pytest.mark.parametrize("kept", [100, -100])
def test_a_truncated_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int) -> None:
    file = tmp_path / "Pong.pt"
    torch.save({"tokenizer.embedding.weight": torch.ones(100, 100)}, file)
    file.write_bytes(file.read_bytes()[:kept])
    assert "is damaged or no checkpoint" in error_of(file, tmp_path, capsys)


def test_tensors_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    error = error_of(tmp_path / "other.safetensors", tmp_path, capsys)
    assert "has not the layout of a published IRIS, REM, Delta-IRIS or M3 checkpoint" in error


def test_something_that_is_no_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    assert "layout" in error_of(tmp_path / "list.pt", tmp_path, capsys)


def hidden(method: str) -> list[str]:
    """Settings that the shapes of the small agent do not show."""
    if method == "iris":
        return ["training.sequence_length=2"]
    if method == "delta_iris":
        names = ("tokenizer", "world_model_two_hot", "actor_critic_two_hot")
        tokenizer, world_model, behaviour = (load_json("delta_iris", name)["config"] for name in names)
        size, blocks = tokenizer["image_size"], world_model["transformer_config"]["max_blocks"]
        return [
            *(f"environment.{split}.size={size}" for split in ("train", "test")),
            f"training.sequence_length={blocks}",
            f"training.actor_critic.burn_in={behaviour['burn_in_length']}",
            f"training.actor_critic.horizon={behaviour['imagination_horizon']}",
        ]
    config = load_json("rem", "reference_agent")["config"]
    groups, blocks = config["tokenizer"]["norm_num_groups"], config["world_model"]["max_blocks"]
    return [
        *(f"model.tokenizer.plain.{key}={groups}" for key in ("num_groups", "decoder_groups")),
        *(f"{key}={blocks}" for key in ("model.world_model.max_blocks", "training.sequence_length")),
    ]


@pytest.fixture
def task_of_as_many_actions(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of actions of every task."""

    def use(count: int) -> None:
        def make(_: str, __: str, settings: EnvironmentConfig) -> contextlib.nullcontext[SimpleNamespace]:
            spec = EnvironmentSpec({"image": ImageSpec(settings.size, settings.size)}, DiscreteActions(count))
            return contextlib.nullcontext(SimpleNamespace(environment_spec=spec))

        monkeypatch.setattr(envs, "make", make)

    return use


@pytest.mark.parametrize("method", ["iris", "rem", "delta_iris"])
def test_the_layout_tells_the_method(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], task_of_as_many_actions: Callable[[int], None]
) -> None:
    state, file, out = assembled_agent(method), tmp_path / "agent.safetensors", tmp_path / "run"
    actor = next(
        value for key, value in state.items() if re.fullmatch(r".*critic(\.model)?\.actor_linear\.weight", key)
    )
    save_file(state, file)
    task_of_as_many_actions(len(actor))
    arguments = ["import", str(file), "--task", "atari/Pong", "--out", str(out), "--set", *hidden(method)]
    assert main(arguments) == 0, capsys.readouterr().err
    card = json.loads((out / "agent.json").read_text())
    assert card["method"] == method and card["actions"]["count"] == len(actor)
    assert OmegaConf.load(out / "config.yaml").method == method
    imported = load_file(out / "agent.safetensors")
    assert torch.equal(imported["policy.actor.weight"], actor)


def test_tensors_that_do_not_fit_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task_of_as_many_actions: Callable[[int], None]
) -> None:
    state, file = load_tensors("rem", "reference_agent"), tmp_path / "agent.safetensors"
    save_file(state, file)
    task_of_as_many_actions(len(state["actor_critic.actor_linear.weight"]))
    error = error_of(file, tmp_path, capsys, "--set", *hidden("rem"), "model.decoding=autoregressive")
    assert (
        "world_model.prediction_tokens.weight has shape" in error and "the configured agent's has none (1 mis" in error
    )
