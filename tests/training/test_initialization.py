"""Runs that begin with parts of another agent: what is loaded, what stays fresh, what is refused."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import small
from tests.methods.support import OVERRIDES, configure, snapshot
from tokenworlds.config import RunConfig, digest_of, load_written, provenance, to_dict, validate
from tokenworlds.errors import UserError
from tokenworlds.runs.settings import shown_variants
from tokenworlds.tracking.journal import Journal
from tokenworlds.training.initialization import PREFIXES, label, settle, tensors_of
from tokenworlds.training.publication import tags
from tokenworlds.training.run_folder import scratch_folder
from tokenworlds.training.trainer import Trainer

METHODS, PARTS = list(OVERRIDES), list(PREFIXES)
SERIAL = "collection.train.parallel=false"


def trainer_of(config: RunConfig, folder: Path) -> Trainer:
    """A trainer before its first epoch; the global random numbers stay as they were."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    with torch.random.fork_rng():
        trainer = Trainer(config, folder, Journal(folder / "metrics.jsonl"), small.CPU)
    trainer.close()
    return trainer


def train_a_little(trainer: Trainer) -> None:
    """One optimiser step of every component, without data."""
    for some in trainer.components:
        for parameter in some.module.parameters():
            parameter.grad = torch.ones_like(parameter)
        some.optimizer.step()
        some.updates = 1
        if some.memory is not None:
            some.memory(torch.arange(6.0).view(2, 3))  # type: ignore[operator]
    trainer.epoch = 1


def begun(method: str, folder: Path, *overrides: str) -> Trainer:
    """A run in training, with another seed than those that begin with its parts."""
    trainer = trainer_of(configure(method, SERIAL, "seed=1", *overrides), folder)
    train_a_little(trainer)
    trainer.save()
    return trainer


def finished(trainer: Trainer, folder: Path, **changes: Tensor) -> Path:
    """The run folder of a training, as far as it is read."""
    folder.mkdir()
    state = {name: value.contiguous() for name, value in trainer.trained_state().items()} | changes
    save_file(state, folder / "agent.safetensors")
    shutil.copy(trainer.folder / "config.yaml", folder)
    updates = {some.name: some.updates for some in trainer.components}
    (folder / "scores.json").write_text(json.dumps({"budget": {"agent_updates": updates}}))
    card = {"config_hash": trainer.config.hash(), "git_revision": "abc"}
    (folder / "agent.json").write_text(json.dumps(card))
    return folder


def warm(method: str, *overrides: str) -> RunConfig:
    config = configure(method, SERIAL, *(f"initialization.{given}" for given in overrides))
    settle(config)
    return config


def refusal(folder: Path, method: str, *overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        trainer_of(warm(method, *overrides), folder / "own")
    sentence = str(refused.value)
    assert len(sentence) <= 300 and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_part_is_loaded_and_all_else_is_fresh(method: str, part: str, tmp_path: Path) -> None:
    """Also from a finished run, and the random numbers of the run are those of a fresh one."""
    source = begun(method, tmp_path / "source")
    fresh = trainer_of(configure(method, SERIAL), tmp_path / "fresh")
    expected, given = snapshot(fresh.agent), snapshot(source.agent)
    loaded = tensors_of(given, part)
    assert loaded and any(not torch.equal(value, expected[name]) for name, value in loaded.items())
    for run in (tmp_path / "source", finished(source, tmp_path / "finished")):
        config = warm(method, f"path={run}", f"{part}=true")
        trainer = trainer_of(config, tmp_path / f"of-{run.name}")
        found = snapshot(trainer.agent)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert torch.equal(value, given[name] if name in loaded else expected[name]), name
        assert trainer.started == {part} and not trainer.agent.training
        states = [some.streams.state()[0] for some in (trainer, fresh)]
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items() if "global" not in name)
        assert all(not some.optimizer.state for some in trainer.components)
        record = trainer.beginning.record["initialization"]
        assert record[part]["run"] == source.config.identity and record[part]["weights"] == digest_of(run)
        assert record[part]["config_hash"] == source.config.hash() and str(tmp_path) not in json.dumps(record)
        assert record[part].get("epoch") == (1 if run.name == "source" else None)


def test_every_tensor_of_an_agent_belongs_to_one_part(tmp_path: Path) -> None:
    for method in METHODS:
        state = trainer_of(configure(method, SERIAL), tmp_path / method).trained_state()
        parts = [tensors_of(state, part).keys() for part in PARTS]
        assert sorted(name for names in parts for name in names) == sorted(state)


def test_parts_come_from_two_runs_and_the_rest_is_fresh(tmp_path: Path) -> None:
    one, other = begun("iris", tmp_path / "one"), begun("iris", tmp_path / "other", "seed=2")
    chosen = (f"path={tmp_path / 'one'}", "tokenizer=true", f"world_model={tmp_path / 'other'}")
    trainer = trainer_of(warm("iris", *chosen), tmp_path / "own")
    for part, source in (("tokenizer", one), ("world_model", other)):
        found = tensors_of(trainer.trained_state(), part)
        assert all(torch.equal(value, source.trained_state()[name]) for name, value in found.items())
    assert trainer.started == {"tokenizer", "world_model"} and label(trainer.config) == "tokenizer-world_model"
    identity = {"method": "iris", "variant": None, "task": "minigrid/Empty-5x5", "scale": "smoke", "settings_hash": "a"}
    runs = [identity | {"seed": 0, "overrides": trainer.beginning.overrides()}, identity | {"seed": 1, "overrides": {}}]
    with pytest.raises(UserError, match="1 run with initialization=tokenizer-world_model"):
        shown_variants(runs, "results/scores", "accept")


@pytest.mark.parametrize("method", METHODS)
def test_optimisers_come_along_where_they_are_asked_for(method: str, tmp_path: Path) -> None:
    source = begun(method, tmp_path / "source")
    chosen = (f"path={tmp_path / 'source'}", "tokenizer=true", "actor_critic=true", "optimizers=true")
    trainer = trainer_of(warm(method, *chosen), tmp_path / "own")
    for ours, theirs in zip(trainer.components, source.components):
        states = [some.optimizer.state_dict()["state"] for some in (ours, theirs)]
        assert bool(states[0]) == (ours.name != "world_model") and ours.updates == 0
        for index, entries in states[0].items():
            assert all(torch.equal(value, states[1][index][name]) for name, value in entries.items())
        if ours.memory is not None:
            assert ours.memory.state()["count"] == 1
    assert label(trainer.config) == "tokenizer-actor_critic-optimizers"


def test_a_finished_run_that_kept_its_scratch_has_its_optimisers_still(tmp_path: Path) -> None:
    config = configure("iris", SERIAL, "seed=1", f"runtime.scratch={tmp_path / 'scratch'}")
    source = trainer_of(config, scratch_folder(config))
    train_a_little(source)
    source.save()
    run = finished(source, tmp_path / "finished")
    about = {key: getattr(config, key) for key in ("method", "variant", "task", "seed")}
    for folder in (source.folder, run):
        (folder / "scores.json").write_text(json.dumps({"run": about, "config_hash": config.hash()}))
    trainer = trainer_of(warm("iris", f"path={run}", "tokenizer=true", "optimizers=true"), tmp_path / "own")
    assert [bool(some.optimizer.state) for some in trainer.components] == [True, False, False]
    (source.folder / "scores.json").write_text("{}")  # of another run
    said = refusal(tmp_path, "iris", f"path={run}", "tokenizer=true", "optimizers=true")
    assert "has only its weights" in said


def test_an_imported_agent_in_half_precision_is_converted_exactly(tmp_path: Path) -> None:
    source = begun("iris", tmp_path / "source")
    halves = {name: value.half() for name, value in source.trained_state().items()}
    run = finished(source, tmp_path / "finished", **halves)
    (run / "agent.json").write_text(json.dumps({"imported_from": "Breakout.pt", "config_hash": None}))
    (run / "scores.json").unlink()
    trainer = trainer_of(warm("iris", f"path={run}", *(f"{part}=true" for part in PARTS)), tmp_path / "own")
    for name, value in trainer.trained_state().items():
        assert value.dtype is torch.float32 and torch.equal(value, halves[name].float())
    card = trainer.beginning.record["initialization"]["actor_critic"]
    assert card["imported_from"] == "Breakout.pt" and "run" not in card and label(trainer.config) == "all"


def test_what_does_not_fit_is_refused_with_names(tmp_path: Path) -> None:
    source = begun("iris", tmp_path / "source")
    wider = ("model.world_model.embed_dim=64", "model.world_model.transformer.num_heads=2")
    begun("iris", tmp_path / "wider", *wider)
    given = f"path={tmp_path / 'source'}"
    said = refusal(tmp_path, "rem", given, "tokenizer=true")
    assert "initialization.tokenizer: " in said and "is an agent of iris, not of rem" in said
    said = refusal(tmp_path, "iris", f"path={tmp_path / 'wider'}", "world_model=true")
    assert "does not fit: world_model." in said and " has 64, here 32, and " in said and "settings below model" in said
    begun("iris", tmp_path / "task", "task=atari/Pong")  # other actions
    said = refusal(tmp_path, "iris", f"path={tmp_path / 'task'}", "actor_critic=true")
    assert (
        "policy.actor.bias has 6, here 7, and 1 more" in said
        and "it was trained on atari/Pong, this is minigrid/Empty-5x5" in said
    )
    name = "policy.actor.weight"
    run = finished(source, tmp_path / "broken", **{name: torch.full_like(source.trained_state()[name], math.nan)})
    assert f"NaN or infinite values in {name}" in refusal(tmp_path, "iris", f"path={run}", "actor_critic=true")
    trainer_of(warm("iris", f"path={run}", "tokenizer=true"), tmp_path / "unharmed")  # its other parts are intact
    said = refusal(tmp_path, "iris", f"path={run}", "tokenizer=true", "optimizers=true")
    assert "has only its weights" in said and "runtime.keep_scratch=true" in said
    said = refusal(tmp_path, "iris", given, "tokenizer=true", "digest=0123456789ab")
    assert "initialization.digest is 0123456789ab, but what is loaded has" in said
    assert "does not exist" in refusal(tmp_path, "iris", f"path={tmp_path / 'nowhere'}", "tokenizer=true")


def test_a_part_that_was_never_trained_or_has_no_weights_is_refused(tmp_path: Path) -> None:
    source = trainer_of(configure("iris", SERIAL, "seed=1"), tmp_path / "source")
    source.save()
    said = refusal(tmp_path, "iris", f"path={tmp_path / 'source'}", "world_model=true")
    assert "has not trained its world_model yet" in said
    vectors = ("task=minigrid_symbolic/Empty-5x5",)
    begun("m3", tmp_path / "symbols", *vectors)
    config = configure("m3", SERIAL, *vectors, f"initialization.tokenizer={tmp_path / 'symbols'}")
    settle(config)
    with pytest.raises(UserError, match=r"the tokenizer of m3 on minigrid_symbolic/Empty-5x5 has no weights; leave it"):
        trainer_of(config, tmp_path / "own")


def test_settings_that_no_shape_shows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun("iris", tmp_path / "source", "model.world_model.transformer.num_heads=1")
    trainer_of(warm("iris", f"path={tmp_path / 'source'}", "world_model=true"), tmp_path / "own")
    said = capsys.readouterr().out
    assert "note: the world_model of iris/minigrid/Empty-5x5/1 had other settings: " in said
    assert "model.world_model.transformer.num_heads (1 there, " in said


def test_a_run_that_goes_on_needs_its_source_no_more(tmp_path: Path) -> None:
    """Neither to know its hash again nor to load anything."""
    begun("iris", tmp_path / "source")
    chosen = (f"path={tmp_path / 'source'}", "tokenizer=true")
    scratch = f"runtime.scratch={tmp_path / 'scratch'}"

    def config() -> RunConfig:
        return configure("iris", SERIAL, scratch, *(f"initialization.{given}" for given in chosen))

    first = config()
    unsettled = first.hash()
    settle(first)
    assert first.hash() == unsettled and first.initialization is not None
    folder = tmp_path / "scratch" / f"{first.identity}-{first.hash()}"
    trainer = trainer_of(first, folder)
    train_a_little(trainer)
    trainer.save()
    shutil.move(tmp_path / "source", tmp_path / "gone")
    again = config()
    settle(again)
    assert again.hash() == first.hash()
    resumed = trainer_of(again, folder)
    resumed.resume()
    assert resumed.epoch == 1 and resumed.started == {"tokenizer", "world_model", "actor_critic"}
    assert resumed.beginning.record == trainer.beginning.record
    written = validate(load_written(folder / "config.yaml"))
    assert written.hash() == first.hash()
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="does not exist"):
        settle(config())


def test_the_hash_is_of_the_weights_and_not_of_their_place(tmp_path: Path) -> None:
    source = begun("iris", tmp_path / "source")
    runs = [finished(source, tmp_path / name) for name in ("one", "two")]
    name = "policy.actor.bias"
    other = finished(source, tmp_path / "other", **{name: source.trained_state()[name] + 1})

    def hash_with(*overrides: str) -> str:
        return warm("iris", *overrides).hash()

    fresh = configure("iris", SERIAL)
    assert "initialization" not in to_dict(fresh) and "extended_from" not in to_dict(fresh)
    assert hash_with(f"path={runs[0]}", "tokenizer=true") == hash_with(f"path={runs[1]}", "tokenizer=true")
    assert hash_with(f"tokenizer={runs[0]}") == hash_with(f"path={runs[1]}", "tokenizer=true")
    hashes = [
        fresh.hash(),
        hash_with(f"path={runs[0]}", "tokenizer=true"),
        hash_with(f"path={other}", "tokenizer=true"),
        hash_with(f"path={runs[0]}", "tokenizer=true", "optimizers=true"),
        hash_with(f"path={runs[0]}", "world_model=true"),
    ]
    assert len({*hashes}) == len(hashes)
    config = warm("iris", f"path={runs[0]}", "tokenizer=true")
    assert load_file(runs[0] / "agent.safetensors").keys() == source.trained_state().keys()
    assert not any("initialization" in key for key in provenance(config).overrides)  # by name of the parts, in scores
    assert tags(config)["initialization"] == "tokenizer" and "initialization" not in tags(fresh)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["path=a"], "initialization.path needs a part to load, for example initialization.tokenizer=true"),
        (["tokenizer=true"], "initialization.tokenizer=true needs initialization.path=RUN"),
        (["path=a", "tokenizer=yes"], "no part is true; initialization.tokenizer is 'yes', the place of a run"),
        (["optimizers=true"], "initialization.path needs a part to load"),
        (["path=a", "policy=true"], "Key 'policy' not in 'InitializationConfig'"),
        (["path=a", "tokenizer=true", "digest=x"], "initialization.digest must be 12 hexadecimal digits"),
    ],
)
def test_a_beginning_that_cannot_be_is_one_sentence(given: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configure("iris", *(f"initialization.{one}" for one in given))


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("False", False), ("runs/a", "runs/a")])
def test_a_part_is_true_false_or_a_run(value: str, expected: Any) -> None:
    others = ("initialization.path=b", "initialization.world_model=true")
    chosen = configure("iris", *others, f"initialization.tokenizer={value}").initialization
    assert chosen is not None and chosen.tokenizer == expected and chosen.sources["world_model"] == "b"
    assert chosen.sources.get("tokenizer", False) == ("b" if expected is True else expected)


def test_a_loaded_policy_collects_from_the_first_epoch_and_a_frozen_part_keeps_its_bits(tmp_path: Path) -> None:
    """The whole of a tiny training."""
    begun("delta_iris", tmp_path / "source")
    tiny = (
        "collection.train.steps=6", "collection.train.steps_first_epoch=40", "training.epochs=1",
        "environment.train.max_episode_steps=12", "environment.train.noop_max=0", "evaluation.every=100",
        "training.tokenizer.stop_after_epochs=0", "training.actor_critic.stop_after_epochs=0",
        "training.world_model.start_after_epochs=0", f"initialization.path={tmp_path / 'source'}",
        "initialization.tokenizer=true", "initialization.actor_critic=true",
    )  # fmt: skip
    config = configure("delta_iris", SERIAL, *tiny)
    settle(config)
    with torch.random.fork_rng():
        trainer = Trainer(config, tmp_path / "own", Journal(tmp_path / "own" / "metrics.jsonl"), small.CPU)
        before = snapshot(trainer.agent)
        assert not trainer.schedule.is_random(1) and trainer.schedule.steps_in(1) == 40
        trainer.run()
        trainer.close()
    after = snapshot(trainer.agent)
    for part in PARTS:
        is_same = all(torch.equal(value, after[name]) for name, value in tensors_of(before, part).items())
        assert is_same == (part != "world_model"), part
    assert trainer.started == {*PARTS} and not trainer.agent.training
    assert not any(module.training for module in trainer.agent.modules())
