"""``tokenworlds.load``: finished runs and runs in training. Refusals: tests/pipeline/test_evaluate.py."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import tokenworlds
from pipeline import evaluate, play
from tests import small
from tests.methods.support import OVERRIDES, build_agent, configure
from tokenworlds import envs, tensor_files
from tokenworlds.config import RunConfig, hash_of, to_dict
from tokenworlds.epoch_files import checksum
from tokenworlds.errors import UserError
from tokenworlds.loading import locate
from tokenworlds.tracking.journal import Journal
from tokenworlds.training.trainer import Trainer

METHODS = list(OVERRIDES)


def begun(folder: Path, config: RunConfig) -> Trainer:
    """A trainer whose folder holds a checkpoint before any training."""
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    with torch.random.fork_rng():
        trainer = Trainer(config, folder, Journal(folder / "metrics.jsonl"), small.CPU)
    trainer.epoch = 3
    trainer.save()
    trainer.close()
    return trainer


def test_a_training_before_its_first_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    begun(tmp_path, configure("iris", "collection.train.parallel=false"))
    (tmp_path / "lock").touch()
    tokenworlds.load(tmp_path, "cpu")
    for path in tmp_path.glob("epoch_*"):
        path.unlink()
    with pytest.raises(UserError, match="has no checkpoint yet; try again after the first epoch"):
        tokenworlds.load(tmp_path, "cpu")


def test_an_agent_is_loaded_without_its_perceptual_network_and_the_weight_of_it(tmp_path: Path) -> None:
    chosen = ("model.tokenizer.perceptual=random", "model.tokenizer.perceptual_weight=0.5")
    begun(tmp_path, configure("iris", "collection.train.parallel=false", *chosen))
    assert tokenworlds.load(tmp_path, "cpu").epoch == 3


@pytest.mark.parametrize("method", METHODS)
def test_a_run_in_training_and_a_finished_one_give_the_same_networks(method: str, tmp_path: Path) -> None:
    trainer = begun(tmp_path, configure(method, "collection.train.parallel=false"))
    expected = trainer.trained_state()
    running = tokenworlds.load(tmp_path, "cpu")
    save_file({name: value.contiguous() for name, value in expected.items()}, tmp_path / "agent.safetensors")
    finished = tokenworlds.load(str(tmp_path), "cpu")
    assert (running.epoch, finished.epoch) == (3, None)
    for loaded in (running, finished):
        assert loaded.spec == trainer.envs.spec and loaded.config.identity == trainer.config.identity
        found = loaded.agent.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    begun(tmp_path, configure("iris", "collection.train.parallel=false"))
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(configure("iris", "training.epochs=9"))))
    with pytest.raises(UserError, match="belongs to another configuration"):
        tokenworlds.load(tmp_path, "cpu")


@pytest.mark.parametrize("name", ["epoch_00003.json", "epoch_00003.safetensors"])
@pytest.mark.parametrize("kept", [None, 0, 100, -8])
def test_who_reads_a_damaged_checkpoint_is_not_told_to_delete_the_training(
    tmp_path: Path, name: str, kept: int | None
) -> None:
    begun(tmp_path, configure("iris", "collection.train.parallel=false"))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if kept is None:  # as in the moment when a training removes an old one
        (tmp_path / name).symlink_to("removed")
    else:
        (tmp_path / name).write_bytes(content[:kept])
    with pytest.raises(UserError, match="try again after the next epoch") as refused:
        tokenworlds.load(tmp_path, "cpu")
    assert "delete" not in str(refused.value) and "start again" not in str(refused.value)


def test_a_checkpoint_of_a_revision_with_fewer_settings_is_read(tmp_path: Path) -> None:
    """Its configuration, without these settings, has a hash of its own."""
    begun(tmp_path, configure("iris", "collection.train.parallel=false"))
    values = to_dict(configure("iris", "collection.train.parallel=false"))
    del values["variant"]  # as if it were a setting that came later; here it has its default
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(values))
    head = tmp_path / "epoch_00003.json"
    content = json.loads(head.read_text()) | {"config_hash": hash_of(values)}
    del content["checksum"]
    head.write_text(json.dumps(content | {"checksum": checksum(content)}))
    assert tokenworlds.load(tmp_path, "cpu").epoch == 3


METADATA = {"method": "rem", "variant": None, "task": "minigrid/Empty-5x5", "config_hash": "0a", "git_revision": "1b"}


def finished(folder: Path, method: str = "rem", metadata: dict[str, Any] | None = METADATA) -> Path:
    """The folder of an untrained agent, as far as ``load`` reads that of a finished run."""
    config = configure(method, "environment.test.max_episode_steps=8", "collection.train.parallel=false")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    with envs.make(config.task, config.environment.test) as environment:
        state = build_agent(config, environment.environment_spec).state_dict()
    (folder / "agent.safetensors").write_bytes(tensor_files.save(state, metadata))
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_load_act_and_evaluate_in_five_lines(method: str, tmp_path: Path) -> None:
    run = finished(tmp_path, method)

    agent = tokenworlds.load(run, "cpu")
    env = agent.make_env()
    observation, _ = env.reset(seed=0)
    observation, reward, *_ = env.step(agent.act(observation))
    played = tokenworlds.evaluate(agent, episodes=np.int64(2))

    assert reward == 0 and observation.keys() == agent.spec.observation.keys()
    assert len(played.returns) == 2 and played.lengths == [8, 8]
    parameters = sum(value.numel() for value in agent.agent.parameters() if value.requires_grad)
    epochs = agent.config.training.epochs
    known = f"TrainedAgent({method} on minigrid/Empty-5x5, {epochs} epochs, {parameters:,} parameters, cpu, {run})"
    assert repr(agent) == known and parameters > 1000
    with pytest.raises(UserError, match="episodes is 0; it must be a whole number from 1 on"):
        tokenworlds.evaluate(agent, 0, 1)


def test_weights_carry_what_they_are_and_the_tensors_stay_the_same(tmp_path: Path) -> None:
    path, tensors = tmp_path / "agent.safetensors", {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    path.write_bytes(tensor_files.save(tensors))
    assert tensor_files.metadata_of(path) == {}
    content = tensor_files.save(tensors, METADATA)
    assert content == tensor_files.save(tensors, METADATA)
    path.write_bytes(content)
    assert tensor_files.metadata_of(path) == {"format": "tokenworlds-agent/1", **METADATA}
    assert all(torch.equal(load_file(path)[name], value) for name, value in tensors.items())
    save_file(tensors, path, {"tokenworlds": "{"})
    with pytest.raises(UserError, match=r"agent.safetensors is damaged .*; fetch it again"):
        tensor_files.metadata_of(path)


@pytest.mark.parametrize("metadata", [None, METADATA])
def test_weights_without_metadata_and_with_it_are_read(tmp_path: Path, metadata: dict[str, Any] | None) -> None:
    assert tokenworlds.load(finished(tmp_path, metadata=metadata), "cpu").config.method == "rem"


@pytest.mark.parametrize("form", ["tokenworlds-agent/2", "another/1", 7])
def test_weights_of_an_unknown_format_are_refused(tmp_path: Path, form: Any) -> None:
    expected = rf"agent.safetensors has the format {form}, not tokenworlds-agent/1; update tokenworlds\.$"
    with pytest.raises(UserError, match=expected):
        tokenworlds.load(finished(tmp_path, metadata=METADATA | {"format": form}), "cpu")


def watched(main: Callable[[list[str]], None], *options: str) -> Callable[[str], object]:
    return lambda reference: main([reference, *options, "--device", "cpu"])


@pytest.mark.parametrize(
    "read",
    [
        lambda reference: tokenworlds.load(reference, "cpu").act(np.zeros((3, 32, 32), np.uint8)),
        lambda reference: envs.WorldModelEnv(Path(reference), device="cpu").reset(seed=0),
        watched(evaluate.main, "--episodes", "1", "--num-envs", "1"),
        watched(play.main, "--record", "film.gif", "--steps", "2"),
    ],
    ids=["load", "world model", "evaluate", "play"],
)
def test_a_reference_to_the_hub_is_fetched_wherever_a_run_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], object]
) -> None:
    (tmp_path / "pulled").mkdir()
    monkeypatch.chdir(tmp_path)
    pull = Mock(return_value=finished(tmp_path / "pulled"))
    hub: Any = SimpleNamespace(pull=pull)
    monkeypatch.setitem(sys.modules, "tokenworlds.checkpoints.hub", hub)
    read("hub:me/rem/minigrid/Empty-5x5/0@main")
    pull.assert_called_once_with("hub:me/rem/minigrid/Empty-5x5/0@main")


@pytest.mark.parametrize("path", ["results/runs/rem/atari/Pong/0", Path("hubs"), "./hub:x"])
def test_a_folder_is_where_it_is(path: str | Path) -> None:
    assert locate(path) == Path(path)
