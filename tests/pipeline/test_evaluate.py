"""`python -m pipeline.evaluate`: refuses before it plays, prints scores before it writes, and touches nothing else."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from pipeline import evaluate as command
from tests.methods.support import build_agent, configure, spec
from tokenworlds import loading
from tokenworlds.cli import exit_status
from tokenworlds.config import to_dict
from tokenworlds.loading import load_agent, read_config
from tokenworlds.training.evaluator import Evaluator
from tokenworlds.training.run_folder import EPISODE, IMAGINATION, RECONSTRUCTION

Capture = pytest.CaptureFixture[str]

PLAYED = ["--episodes", "1", "--num-envs", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained agent, as a finished run has it."""
    run = tmp_path_factory.mktemp("evaluate") / "run"
    run.mkdir()
    config = configure("iris", "environment.test.max_episode_steps=8", "environment.test.noop_max=0")
    (run / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    agent = build_agent(config, spec(32, 7))
    save_file({key: value.contiguous() for key, value in agent.state_dict().items()}, run / "agent.safetensors")
    (run / "environment.json").write_text(json.dumps({"git_revision": "abc123def456"}))
    (run / "scores.json").write_text(json.dumps({"run": {}, "returns": [1.0]}))
    return run


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def others(tmp_path: Path) -> None:
    """Folders of another run, whose agent was not copied, of a training, and of one before its first checkpoint."""
    for folder, mark in (("other", "manifest.json"), ("training", "epoch_00003.json"), ("begun", "metrics.jsonl")):
        (tmp_path / folder).mkdir()
        for name in ("config.yaml", mark):
            (tmp_path / folder / name).touch()


@pytest.fixture
def nothing_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluator, "play", Mock(side_effect=AssertionError("played before it refused")))


def refused(capsys: Capture, run: Path, *options: str) -> str:
    """The sentence."""
    assert exit_status(lambda: command.main([str(run), *PLAYED, *options])) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert len(printed.err) <= 307
    return printed.err


def edit(run: Path, **changes: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change tensors whose names begin so (a dot is written as two underscores)."""
    path = run / "agent.safetensors"
    state = load_file(path)
    for begin, change in changes.items():
        for key in state:
            if key.startswith(begin.replace("__", ".")):
                state[key] = change(state[key])
    save_file(state, path)


def test_the_score_is_printed_and_everything_is_written_where_it_was_asked_for(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}
    out, folder = tmp_path / "new" / "scores.json", tmp_path / "pictures" / "of it"
    kept = [folder / "episodes" / kind / "episode_00007.npz" for kind in ("train", "test")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.touch()
    for _ in range(2):  # its own results it may replace
        command.main([str(run), *PLAYED, "--out", str(out), "--media", str(folder)])
        assert re.search(r"iris/minigrid/Empty-5x5/0: score \S+ over 1 episodes", capsys.readouterr().out)
    assert json.loads(out.read_text()).keys() == command.RESULT
    assert [path.exists() for path in kept] == [True, False], "no evaluation writes episodes of training"
    kept[0].unlink()
    written = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    ends = [f"episodes/{kind}/episode_00000.{end}" for kind in ("test", "imagined") for end in ("mp4", "npz")]
    assert sorted(written) == sorted([RECONSTRUCTION, IMAGINATION, EPISODE, *ends])
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_the_world_model_is_compared_with_what_was_played(run: Path, tmp_path: Path, capsys: Capture) -> None:
    """As many episodes as the configuration says, which the run's own final evaluation had, too."""
    config, out = (run / "config.yaml").read_text(), tmp_path / "quality.json"
    (run / "config.yaml").write_text(config.replace("measured_episodes: 16", "measured_episodes: 3"))
    for _ in range(2):
        command.main([str(run), "--device", "cpu", "--world-model", "--out", str(out)])
    printed = capsys.readouterr().out
    assert re.search(r"PSNR \(dB\) +world model +\d+\.\d \[", printed) and "frame stands still" in printed
    found = json.loads(out.read_text())
    assert found.keys() == {*command.RESULT, "world_model"} and len(found["returns"]) == 4  # two rounds of two
    assert {row["episode"] for row in found["world_model"]["rows"]} == {0, 1, 2}


def test_an_agent_without_a_world_model_shows_what_it_has(
    run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("iris", "environment.test.max_episode_steps=8", "environment.test.noop_max=0", variant="oracle")
    (run / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    agent = build_agent(config, spec(32, 7))
    save_file({key: value.contiguous() for key, value in agent.state_dict().items()}, run / "agent.safetensors")
    folder = tmp_path / "pictures"
    command.main([str(run), *PLAYED, "--media", str(folder)])
    written = {path.name for path in folder.rglob("*") if path.is_file()}
    assert written >= {RECONSTRUCTION, EPISODE} and IMAGINATION not in written
    capsys.readouterr()
    monkeypatch.setattr(Evaluator, "play", Mock(side_effect=AssertionError("played before it refused")))
    assert "has no world model to measure" in refused(capsys, run, "--world-model")


def test_episodes_that_are_too_short_for_the_world_model_are_named(run: Path, capsys: Capture) -> None:
    """After the context of the whole episode nothing follows."""
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        config.replace("context: 1\n", "context: 3\n").replace("max_episode_steps: 8", "max_episode_steps: 2")
    )
    out = run.parent / "scores.json"
    assert exit_status(lambda: command.main([str(run), *PLAYED, "--world-model", "--out", str(out)])) == 2
    assert "all 1 episodes are too short for the world model's context" in capsys.readouterr().err
    assert json.loads(out.read_text()).keys() == command.RESULT  # what was played is not lost


@pytest.mark.usefixtures("nothing_is_played", "others")
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("folder", "folder is a folder, not a file; name another file with --out"),
        ("notes.txt", "notes.txt exists and is not of this command"),
        ("notes.json", "notes.json exists and is not of this command"),
        ("scores.json", "scores.json exists and is not of this command"),
        ("notes.txt/below/x.json", "notes.txt is no folder"),
        ("x" * 250, "File name too long"),
        ("link", "link is a link"),
        ("dangling", "dangling is a link"),
        ("run/scores.json", "lies in the run folder"),
        ("other/new.json", "lies in the run folder"),
        ("training/new.json", "lies in the run folder"),
        ("begun/new.json", "lies in the run folder"),
    ],
)
def test_a_place_for_scores_is_looked_at_before_playing(
    run: Path, tmp_path: Path, capsys: Capture, place: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes.json").write_text("[1]")
    shutil.copy(run / "scores.json", tmp_path / "scores.json")
    (tmp_path / "link").symlink_to("notes.txt")
    (tmp_path / "dangling").symlink_to("nothing")
    assert message in refused(capsys, run, "--out", str(tmp_path / place))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("nothing_is_played", "others")
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("thesis", "thesis holds episode.mp4.bak, not made by this program; name another folder with --media"),
        ("notes.txt", "notes.txt is a file, not a folder"),
        ("notes.txt/below", "notes.txt is no folder"),
        ("run/media", "lies in the run folder"),
        ("run", "lies in the run folder"),
        ("other/media", "lies in the run folder"),
        ("other/media/episodes", "lies in the run folder"),
        ("training/media", "lies in the run folder"),
        ("link", "link is a link"),
    ],
)
def test_a_folder_for_pictures_is_looked_at_before_playing(
    run: Path, tmp_path: Path, capsys: Capture, place: str, message: str
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "episode.mp4.bak").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to("thesis")
    assert message in refused(capsys, run, "--media", str(tmp_path / place))


@pytest.mark.usefixtures("nothing_is_played")
@pytest.mark.parametrize("option", ["--out", "--media"])
def test_a_folder_that_allows_no_writing_is_refused_before_playing(
    run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    refusal = Mock(side_effect=OSError(30, "Read-only file system"))
    monkeypatch.setattr("tokenworlds.files.TemporaryFile", refusal)
    assert "allows no writing here (Read-only file system)" in refused(capsys, run, option, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_scores_are_printed_even_where_they_cannot_be_written_any_more(
    run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    assert exit_status(lambda: command.main([str(run), *PLAYED, "--out", str(tmp_path / "out.json")])) == 2
    printed = capsys.readouterr()
    assert "score" in printed.out and "No space left on device" in printed.err
    assert not (tmp_path / "out.json").exists()


@pytest.mark.usefixtures("nothing_is_played")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(run: Path, capsys: Capture, value: float) -> None:
    edit(run, policy__actor__weight=lambda weight: weight.index_fill(0, torch.tensor([1]), value))
    assert "agent.safetensors has NaN or infinite values in policy.actor.weight;" in refused(capsys, run)


def test_large_weights_are_no_fault(run: Path) -> None:
    """Their sum is infinite, they are not."""
    edit(run, policy__actor__bias=lambda bias: bias.fill_(3e38))
    agent, _, _ = load_agent(run, read_config(run))
    assert agent.policy.actor.bias[0] == 3e38


@pytest.mark.usefixtures("nothing_is_played")
@pytest.mark.parametrize("kept", [0, 7, 5000, -8])
def test_truncated_weights_are_damaged(run: Path, capsys: Capture, kept: int) -> None:
    path = run / "agent.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "agent.safetensors is damaged" in refused(capsys, run)


@pytest.mark.usefixtures("nothing_is_played")
def test_an_agent_of_another_revision_names_both_and_what_differs(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "git_revision", lambda: "0123456789ab")
    state = load_file(run / "agent.safetensors")
    state = {key.replace("policy.actor.", "policy.head."): value for key, value in state.items()}
    save_file(state, run / "agent.safetensors")
    message = refused(capsys, run)
    assert "was written by revision abc123def456 and does not fit this one, 0123456789ab" in message
    assert "policy.actor.bias, policy.actor.weight, policy.head.bias and 1 more differ" in message
    assert "damaged" not in message


@pytest.mark.usefixtures("nothing_is_played")
def test_a_configuration_of_another_revision_names_both(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "git_revision", lambda: "0123456789ab")
    with (run / "config.yaml").open("a") as file:
        file.write("forgotten: 3\n")
    expected = "config.yaml is damaged or of another revision (abc123def456; this one is 0123456789ab): configuration: "
    assert f"{expected}forgotten: Key" in refused(capsys, run)


@pytest.mark.usefixtures("nothing_is_played")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is no finished run: it has no config.yaml and no agent.safetensors"),
        ("x" * 3000, "does not exist; give a folder below results/runs"),
        ("file", "/file is a file: give its folder"),
    ],
)
def test_something_that_is_no_run_is_refused(capsys: Capture, name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert message in refused(capsys, tmp_path / name)


@pytest.mark.usefixtures("nothing_is_played")
def test_a_file_that_the_manifest_knows_in_another_size_is_damaged(run: Path, capsys: Capture) -> None:
    sizes = {name: {"bytes": 3, "sha256": "0"} for name in ("media/episode.mp4", "config.yaml")}
    (run / "manifest.json").write_text(json.dumps({"schema": 1, "files": sizes}))
    assert "config.yaml is damaged" in refused(capsys, run)  # a film that was not copied is not asked for


def test_what_an_evaluation_writes_is_recognised_and_nothing_else(tmp_path: Path) -> None:
    file = SimpleNamespace(read_text=lambda: json.dumps(dict.fromkeys(command.RESULT)))
    assert command.is_evaluation(file)  # type: ignore[arg-type]
    for content in ("", "[]", "{}", '{"run": 1}', "\0"):
        (tmp_path / "file").write_text(content)
        assert not command.is_evaluation(tmp_path / "file")


def test_a_temperature_of_ones_own_is_played_with_and_said(run: Path, tmp_path: Path, capsys: Capture) -> None:
    results = []
    for given in ([], ["--temperature", "0.01"]):
        out = tmp_path / f"episodes{len(given)}.json"
        command.main([str(run), *PLAYED, *given, "--out", str(out)])
        results.append(json.loads(out.read_text())["protocol"]["temperature"])
    capsys.readouterr()
    assert results == [read_config(run).collection.test.temperature, 0.01]
    assert "temperature" in refused(capsys, run, "--temperature", "-1")
