"""The importer of published checkpoints: what it says of files that are none. What it reads: test_whole_way."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from tests.checkpoints.support import State, cast, published
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.tensor_files import metadata_of
from tokenworlds.tokenizers import lpips


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


def test_something_that_is_no_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    error = error_of(tmp_path / "list.pt", tmp_path, capsys)
    assert "has not the layout" in error and error.endswith("but is a list.\n")


HIDDEN = published("rem").hidden


@pytest.fixture
def rem(monkeypatch: pytest.MonkeyPatch) -> State:
    """The tensors of an agent, and a world to play it in."""
    agent = published("rem")
    agent.play_in_golden_world(monkeypatch)
    return agent.state


@pytest.mark.parametrize("method", ["iris", "rem", "delta_iris"])
def test_the_layout_tells_the_method(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, file, out = published(method), tmp_path / "agent.safetensors", tmp_path / "run"
    actor = next(value for key, value in agent.state.items() if re.search(r"c(\.model)?\.actor_linear\.weight", key))
    save_file(agent.state, file)
    agent.play_in_golden_world(monkeypatch)
    assert main(agent.arguments(file, out)) == 0, capsys.readouterr().err
    card = json.loads((out / "agent.json").read_text())
    assert card["method"] == method and card["actions"]["count"] == len(actor)
    assert OmegaConf.load(out / "config.yaml").method == method
    imported = load_file(out / "agent.safetensors")
    assert torch.equal(imported["policy.actor.weight"], actor)
    about = metadata_of(out / "agent.safetensors")
    assert about.pop("format") == "tokenworlds-agent/1" and about["imported_from"] == file.name
    assert about.items() <= card.items()


@pytest.mark.parametrize(
    "lost",
    [
        "tokenizer.encoder_act_emb.weight",
        "tokenizer.encoder.encoder.",
        "world_model.transformer.blocks.0.sa.key.weight",
        "actor_critic.model.lstm.weight_hh",
    ],
)
def test_missing_tensors(
    lost: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = published("delta_iris")
    agent.play_in_golden_world(monkeypatch)
    kept = {key: value for key, value in agent.state.items() if not key.startswith(lost)}
    error = error_of(saved(kept, tmp_path), tmp_path, capsys, "--set", *agent.hidden)
    assert len(kept) < len(agent.state) and "lacks tensors of a published Delta-IRIS checkpoint" in error


def test_tensors_that_do_not_fit_the_settings(rem: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_of(saved(rem, tmp_path), tmp_path, capsys, "--set", *HIDDEN, "model.decoding=autoregressive")
    assert (
        "world_model.prediction_tokens.weight has shape" in error and "the configured agent's has none (1 mis" in error
    )


# Files that hold more, or something else in the place of what they should


def imported(file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[State, str]:
    """The tensors written, and the lines printed before the last."""
    arguments = ["import", str(file), "--task", "atari/Pong", "--out", str(out), "--set", *HIDDEN]
    assert main(arguments) == 0, capsys.readouterr().err
    notes, _, _ = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    return load_file(out / "agent.safetensors"), notes


def saved(content: Any, tmp_path: Path) -> Path:
    torch.save(content, tmp_path / "agent.pt")
    return tmp_path / "agent.pt"


WRAPPED: dict[str, tuple[Callable[[State], Any], list[str]]] = {
    "plain": (lambda state: state, []),
    "epoch": (lambda state: {**state, "epoch": 600}, ["left out epoch, no tensors of the agent"]),
    "optimiser": (lambda state: {**state, "optimizer": {"a": [1]}}, ["left out optimizer, no"]),
    "numpy": (lambda state: {**state, "score": np.float64(3), "steps": np.arange(3)}, ["left out score, steps, no"]),
    "nested": (lambda state: {"agent": state, "epoch": 6}, ["read its entry 'agent'", "left out epoch, no"]),
    "twice nested": (lambda state: {"a": {"state_dict": state}}, ["read its entry 'a.state_dict'"]),
    "module": (lambda state: {f"module.{key}": value for key, value in state.items()}, ["took 'module.' out"]),
    "compiled part": (
        lambda state: {key.replace("tokenizer.", "tokenizer._orig_mod."): value for key, value in state.items()},
        ["took '_orig_mod.' out of the names"],
    ),
    "both": (
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        ["took 'module.' and '_orig_mod.' out of the names"],
    ),
    "own beginning": (
        lambda state: {**{f"agent.{key}": value for key, value in state.items()}, "scale": torch.ones(1)},
        ["took 'agent.' out of the names", "left out scale, no"],
    ),
    "parameters": (
        lambda state: {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
        [],
    ),
    "float64": (lambda state: cast(state, torch.float64), []),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_an_agent_is_found_in_what_is_around_it(
    name: str, rem: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrap, lines = WRAPPED[name]
    expected, _ = imported(saved(rem, tmp_path), tmp_path / "plain", capsys)
    found, notes = imported(saved(wrap(rem), tmp_path), tmp_path / "out", capsys)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) and found[key].dtype == expected[key].dtype for key in expected)
    assert len(notes.splitlines()) == len(lines)
    assert all(line in note for line, note in zip(lines, notes.splitlines()))


def test_tied_tensors_are_written_each(rem: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"world_model._model.layers.{layer}.linear1.bias" for layer in (0, 1)]
    rem[names[1]] = rem[names[0]]
    found, _ = imported(saved(rem, tmp_path), tmp_path / "out", capsys)
    ours = [f"world_model.backbone.layers.{layer}.up.bias" for layer in (0, 1)]
    assert torch.equal(found[ours[0]], rem[names[0]]) and torch.equal(found[ours[1]], rem[names[0]])


class Malicious:
    """Would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


UNREADABLE: dict[str, tuple[Callable[[State, Path], Any], str]] = {
    "nan": (
        lambda state, _: {**state, "actor_critic.actor_linear.bias": torch.full((4,), float("nan"))},
        "has NaN or infinite values in actor_critic.actor_linear.bias; ",
    ),
    "too large for float32": (
        lambda state, _: {k: v.double() * 1e300 if v.is_floating_point() else v for k, v in state.items()},
        "has NaN or infinite values in ",
    ),
    "no values": (lambda state, _: {k: v.to("meta") for k, v in state.items()}, "has a shape but no values"),
    "sparse": (lambda state, _: {k: v.to_sparse() for k, v in state.items()}, "is sparse; save the agent with plain"),
    "complex": (lambda state, _: {k: v + 0j for k, v in state.items()}, "is complex; save the agent with plain"),
    "two agents": (lambda state, _: {"agent": state, "best": state}, "holds 2 agents ('agent', 'best')"),
    "both wrapped and bare": (
        lambda state, _: {**state, **{f"module.{key}": value for key, value in state.items()}},
        "both with and without the wrapper module",
    ),
    "an unknown network": (lambda *_: {"model": {"w": torch.ones(1)}, "epoch": 1}, "; it holds epoch, model."),
    "nothing": (lambda *_: {}, "; it is empty."),
    "a path": (lambda state, path: {**state, "folder": path}, "holds an object of pathlib.PosixPath, and reading it"),
    "a network": (lambda *_: torch.nn.Linear(1, 1), "holds an object of torch.nn.modules.linear.Linear, and"),
    "code": (lambda state, path: {**state, "x": Malicious(path / "ran")}, "would run code of the file"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_imported_is_named_and_never_run(
    name: str, rem: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = UNREADABLE[name]
    error = error_of(saved(make(rem, tmp_path), tmp_path), tmp_path, capsys, "--set", *HIDDEN)
    assert message in error and "damaged" not in error and len(error) <= 307
    assert not (tmp_path / "ran").exists()


def test_a_program_is_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # as TorchScript writes it
        archive.writestr("program/constants.pkl", b"")
        archive.writestr("program/data.pkl", b"")
        archive.writestr("program/version", b"3")
    assert "program.pt" in error_of(tmp_path / "program.pt", tmp_path, capsys)


# Places and settings


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("run", "run holds a finished run, which an import would replace; name another folder with --out"),
        ("trained", "trained holds an agent that was not imported"),
        ("thesis", "thesis holds chapter.tex, not made by this program"),
        ("thesis/chapter.tex", "is a file, not a folder"),
        ("thesis/chapter.tex/below", "chapter.tex is no folder"),
        ("x" * 256, "File name too long"),
    ],
)
def test_a_place_is_looked_at_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, message: str
) -> None:
    for name in ("run/scores.json", "trained/agent.json", "thesis/chapter.tex"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    arguments = ["import", str(tmp_path / "not there"), "--task", "atari/Pong", "--out", str(tmp_path / place)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and len(error) <= 307


def test_an_import_replaces_an_earlier_one(rem: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(saved(rem, tmp_path), tmp_path / "out", capsys)
    rem["actor_critic.actor_linear.bias"] += 1
    found, _ = imported(saved(rem, tmp_path), tmp_path / "out", capsys)
    assert torch.equal(found["policy.actor.bias"], rem["actor_critic.actor_linear.bias"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--num-heads", "0"), "--num-heads is 0; it must be at least 1"),
        (("--set", "method=iris"), "--set method=iris: the file tells the method"),
        (("--set", "task=atari/Boxing"), "--set task=atari/Boxing: the file tells the method, --task the task"),
        (("--set", "model.nonsense=1"), "Key 'nonsense' not in 'TokenModelConfig'"),
        (("--set", "variant=nothing"), "unknown variant 'nothing' of rem"),
    ],
)
def test_wrong_settings_are_one_sentence(
    rem: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
) -> None:
    error = error_of(saved(rem, tmp_path), tmp_path, capsys, *more)
    assert message in error and len(error) <= 307


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("weights.pt", "must end in .safetensors"),
        ("folder.safetensors", "is a folder, not a file"),
        ("agent.safetensors", "exists and is not of this command; name another file with --out"),
    ],
)
def test_a_place_for_perceptual_weights_is_looked_at_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, message: str
) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    save_file({"weight": torch.ones(1)}, tmp_path / "agent.safetensors")
    assert main(["lpips", str(tmp_path / "nothing"), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err


def test_a_perceptual_network_may_replace_an_earlier_one_and_must_be_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips, "WIDTHS", (2, 2, 2, 2, 2))
    file, out = tmp_path / "network.safetensors", tmp_path / "out.safetensors"
    network = lpips.LPIPS(lpips.WIDTHS)
    save_file(network.state_dict(), file)
    for _ in range(2):
        assert main(["lpips", str(file), "--out", str(out)]) == 0, capsys.readouterr().err
    save_file(network.state_dict() | {"heads.0.weight": torch.full((1, 2, 1, 1), float("inf"))}, file)
    assert main(["lpips", str(file), "--out", str(out)]) == 2
    assert "has NaN or infinite values in heads.0.weight" in capsys.readouterr().err
