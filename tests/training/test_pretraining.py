"""Tokenizers that are trained before a run: their frames, their folder, and what a run makes of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests import small
from tests.methods.support import configure
from tests.training.test_initialization import SERIAL, trainer_of
from tokenworlds.config import RunConfig, hash_of, pretraining_run, to_dict, tokenizer_settings
from tokenworlds.episodes.episode import Episode, save
from tokenworlds.errors import UserError
from tokenworlds.runs.layout import EPISODES, TRAIN
from tokenworlds.tracking.journal import Journal
from tokenworlds.training import pretraining
from tokenworlds.training.initialization import settle, tensors_of
from tokenworlds.training.pretraining import Pretrainer, pretrain

GAMES = "pretraining.games=[minigrid/Empty-5x5,minigrid/Empty-6x6,atari/Pong,minigrid/DoorKey-5x5]"


def begun(folder: Path, source: str = "random_policy", *overrides: str, seed: int = 0) -> RunConfig:
    return configure(
        "iris",
        SERIAL,
        f"seed={seed}",
        f"initialization.tokenizer='{folder}/tokenizers/{{task}}/{{seed}}'",
        f"pretraining.source={source}",
        "pretraining.frames=25",
        "pretraining.updates=6",
        "pretraining.counts_toward_budget=true",
        f"runtime.scratch={folder}/scratch",
        "runtime.threads=1",
        *overrides,
    )


def made(folder: Path, seed: int = 0) -> Path:
    return folder / "tokenizers" / "minigrid" / "Empty-5x5" / str(seed)


def test_a_stopped_pretraining_goes_on_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    pretrain(begun(tmp_path / "whole"))
    plain = Pretrainer.save

    def stop(trainer: Pretrainer) -> None:
        plain(trainer)
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Pretrainer, "save", stop)
        pretrain(begun(tmp_path / "stopped"))
    assert not made(tmp_path / "stopped").exists()
    pretrain(begun(tmp_path / "stopped"))
    files = [(made(tmp_path / name) / "agent.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1] and not list((tmp_path / "stopped" / "scratch").rglob("epoch_*"))
    assert {name.split(".")[0] for name in load_file(made(tmp_path / "whole") / "agent.safetensors")} == {"tokenizer"}


def test_a_run_begins_with_its_tokenizer_and_counts_its_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        pretrain(begun(tmp_path, seed=seed))
    folder = made(tmp_path)
    card = json.loads((folder / "agent.json").read_text())
    assert card["trained_on"]["frames"] == 25 and card["config_hash"] == pretraining_run(begun(tmp_path)).hash()
    capsys.readouterr()
    pretrain(begun(tmp_path))
    assert "holds this tokenizer already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"model\.tokenizer\.beta \(.* there, 0\.5 here\); move it away"):
        pretrain(begun(tmp_path, "random_policy", "model.tokenizer.beta=0.5"))
    (folder / "agent.json").write_text("{}")  # as of anything else
    with pytest.raises(UserError, match=r"holds something else; move it away"):
        pretrain(begun(tmp_path))
    (folder / "agent.json").write_text(json.dumps(card))
    hashes = set()
    for seed, counted in ((0, True), (1, True)):
        config = begun(tmp_path, "random_policy", "training.tokenizer.train=never", seed=seed)
        settle(config)
        hashes.add(to_dict(config)["initialization"]["digest"])
        trainer = trainer_of(config, tmp_path / f"own-{seed}")
        found = tensors_of(trainer.trained_state(), "tokenizer")
        given = load_file(made(tmp_path, seed) / "agent.safetensors")
        assert all(torch.equal(value, given[name]) for name, value in found.items()) and found.keys() == given.keys()
        assert trainer.env_steps == (25 if counted else 0) and trainer.started == {"tokenizer"}
        assert trainer.beginning.trained_on["tokenizer"]["source"] == "random_policy"
    assert len(hashes) == 2  # of the weights, not of the place that both seeds name alike


def test_a_run_refuses_a_tokenizer_that_was_not_pretrained_as_it_says(tmp_path: Path) -> None:
    """Its budget is what the tokenizer's card says; a tokenizer of a run has no such card."""
    pretrain(begun(tmp_path))
    others = ("pretraining.frames=17", "pretraining.updates=12", "pretraining.counts_toward_budget=false")
    for given, named in (
        (others, "pretraining.counts_toward_budget (True there, False here) and 3 more"),
        (("seed=1", f"initialization.tokenizer={made(tmp_path)}"), "seed (0 there, 1 here)"),
        (("training.tokenizer.weight_decay=1",), "training.tokenizer.weight_decay (0.0 there, 1.0 here)"),
    ):
        config = begun(tmp_path, "random_policy", *given)
        settle(config)
        with pytest.raises(UserError) as refused:
            trainer_of(config, tmp_path / "other")
        sentence = str(refused.value)
        assert f" was pretrained with {named}; set these alike, or move it away" in sentence and len(sentence) <= 300
    plain = configure("iris", SERIAL, f"initialization.tokenizer={made(tmp_path)}", "training.tokenizer.weight_decay=1")
    settle(plain)
    trainer_of(plain, tmp_path / "plain")
    (made(tmp_path) / "agent.json").write_text(json.dumps({"imported_from": "Breakout.pt", "config_hash": None}))
    config = begun(tmp_path, "random_policy", *others)
    settle(config)
    trainer_of(config, tmp_path / "of-imported")


def test_variants_of_one_pretraining_share_its_settings() -> None:
    first, second = (
        tokenizer_settings(pretraining_run(configure("iris", variant=f"tokenizer-random-policy{name}")))
        for name in ("", "-trained")
    )
    assert first == second and {"task", "seed", "pretraining.frames", "training.epochs"} <= first.keys()


def test_runs_that_differ_in_nothing_that_decides_a_tokenizer_share_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(begun(tmp_path))
    rate, kept = "training.world_model.learning_rate=0.5", "runtime.measured_episodes=1"
    config = begun(tmp_path, "random_policy", rate, kept, "training.tokenizer.train=never")
    pretrain(config)
    assert "holds this tokenizer already" in capsys.readouterr().out
    settle(config)
    assert trainer_of(config, tmp_path / "own").env_steps == 25


def test_frames_that_do_not_count_are_no_steps(tmp_path: Path) -> None:
    config = begun(tmp_path)
    assert config.pretraining is not None  # type: ignore[attr-defined]
    config.pretraining.counts_toward_budget = False  # type: ignore[attr-defined]
    pretrain(config)
    settle(config)
    assert trainer_of(config, tmp_path / "own").env_steps == 0


def pretrainer(config: RunConfig, folder: Path) -> Pretrainer:
    own = pretraining_run(config)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        return Pretrainer(own, folder, Journal(folder / "metrics.jsonl"), small.CPU)


def test_other_games_are_those_of_the_benchmark_without_the_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def played(trainer: Pretrainer, task: str, count: int) -> Any:
        asked.append((task, count))
        yield {"image": torch.full((count, 3, 32, 32), len(asked), dtype=torch.uint8)}

    monkeypatch.setattr(pretraining, "_played", played)
    trainer = pretrainer(begun(tmp_path, "other_games", GAMES), tmp_path / "own")
    trainer._collect()
    trainer.close()
    assert asked == [("minigrid/Empty-6x6", 12), ("minigrid/DoorKey-5x5", 13)]
    assert trainer.buffer.num_steps == 25 and trainer.buffer.num_episodes == 2
    shown = trainer.buffer.observations(torch.arange(1, 26))["image"]
    assert [int(frame.max()) for frame in shown] == [1] * 12 + [2] * 13


def test_frames_of_a_game_are_as_many_as_are_asked_for(tmp_path: Path) -> None:
    short = "environment.train.max_episode_steps=40"
    trainer = pretrainer(begun(tmp_path, "other_games", GAMES, short), tmp_path / "own")
    found = list(pretraining._played(trainer, "minigrid/Empty-6x6", 130))  # more than an episode
    trainer.close()
    assert sum(len(one["image"]) for one in found) == 130 and len({one["image"].shape[1:] for one in found}) == 1
    assert len(found) > 1


def test_kept_episodes_of_runs_are_frames_or_the_refusal_says_how_many(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "minigrid" / "Empty-5x5" / "0"
    frames = np.arange(31, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 3, 32, 32), np.uint8)
    steps = {"rewards": np.zeros(30, np.float32), "terminations": np.zeros(30, np.bool_), "tokens": None, "facts": {}}
    path = run / EPISODES / TRAIN / "episode_00000.npz"
    path.parent.mkdir(parents=True)
    save(Episode({"image": frames}, np.zeros(30, np.int64), **steps), path)  # type: ignore[arg-type]
    runs = f"pretraining.runs=['{tmp_path}/runs/{{task}}/{{seed}}']"
    trainer = pretrainer(begun(tmp_path, "replay", runs), tmp_path / "own")
    trainer._collect()
    trainer.close()
    shown = trainer.buffer.observations(torch.arange(1, 26))["image"][:, 0, 0, 0]
    assert shown.tolist() == torch.linspace(0, 29, 25).round().tolist()
    with pytest.raises(UserError, match=r"has kept 30 of 31 frames; train it with runtime.keep_replay=true"):
        pretraining._kept(run, 31)


@pytest.mark.parametrize(("source", "overrides", "said"), [
    ("other_games", ("pretraining.games=[minigrid/Empty-5x5,atari/Pong]",), "needs pretraining.games, other than"),
    ("replay", (), "needs pretraining.runs"),
    ("random_policy", ("pretraining.updates=7",), "must be a multiple of training.tokenizer.updates_per_epoch"),
    ("random_policy", ("pretraining.games=[1]",), "is not a list of texts"),
    ("random_policy", ("model.tokenizer.loss.value.weight=1",), "its frames have no returns"),
    ("other_games", (GAMES, "pretraining.frames=1"), "must be at least one for each of 2"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(
    tmp_path: Path, source: str, overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        begun(tmp_path, source, *overrides)
    assert said in str(refused.value)


def test_a_run_without_pretraining_has_nothing_to_pretrain() -> None:
    with pytest.raises(UserError, match=r"choose a variant that begins with a pretrained tokenizer"):
        pretrain(configure("iris"))


def test_placeholders_are_no_part_of_the_hash(tmp_path: Path) -> None:
    """What is loaded is, wherever it is stored."""
    plain = to_dict(configure("iris"))
    assert "train" not in plain["training"]["tokenizer"] and "pretraining" not in plain
    template, named = to_dict(begun(tmp_path)), to_dict(begun(tmp_path))
    named["initialization"]["tokenizer"] = str(made(tmp_path))
    assert hash_of(template) == hash_of(named)
