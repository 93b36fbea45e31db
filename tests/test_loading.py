"""``tokenworlds.load``: finished runs and runs in training. Refusals: tests/pipeline/test_evaluate.py."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

import tokenworlds
from tests import small
from tests.methods.support import OVERRIDES, configure
from tokenworlds.config import RunConfig, hash_of, to_dict
from tokenworlds.epoch_files import checksum
from tokenworlds.errors import UserError
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
