"""Tokenizers that are trained before a run: their frames, their folder, and what a run makes of it."""

import json
import shutil
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
from tokenworlds.replay.previous import PreviousFrames
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


def stop_pretraining(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """End it after its second checkpoint."""
    plain = Pretrainer.save

    def stop(trainer: Pretrainer) -> None:
        plain(trainer)
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Pretrainer, "save", stop)
        pretrain(config)


def test_a_stopped_pretraining_goes_on_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    pretrain(begun(tmp_path / "whole"))
    stop_pretraining(begun(tmp_path / "stopped"), monkeypatch)
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
    deterministic = begun(tmp_path, "random_policy", "runtime.deterministic=true")  # how it is executed, not what it is
    settle(deterministic)
    trainer_of(deterministic, tmp_path / "deterministic")
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


def keep(run: Path, *lengths: int, first: int = 0, shape: tuple[int, ...] = (3, 32, 32), **facts: str) -> None:
    """Episodes of a finished run, in which frame i has the value ``first`` + i, and another one behind the last."""
    folder = run / EPISODES / TRAIN
    folder.mkdir(parents=True, exist_ok=True)
    for index, length in enumerate(lengths):
        values = np.arange(first, first + length + 1, dtype=np.uint8).reshape(-1, *(1 for _ in shape))
        steps = {"rewards": np.zeros(length, np.float32), "terminations": np.zeros(length, np.bool_), "tokens": None}
        observations = {facts.get("modality", "image"): values * np.ones((1, *shape), np.uint8)}
        about = {"identity": facts["identity"]} if "identity" in facts else {}
        episode = Episode(observations, np.zeros(length, np.int64), facts=about, **steps)  # type: ignore[arg-type]
        save(episode, folder / f"episode_{index:05}.npz")
        first += length


OWN, OTHER = "iris/minigrid/Empty-5x5/0", "iris/minigrid/Empty-6x6/3"


def replaying(folder: Path, *overrides: str) -> RunConfig:
    """Begins with a tokenizer of the frames of two runs."""
    runs = f"pretraining.runs=['{folder}/runs/{{task}}/{{seed}}','{folder}/other']"
    return begun(folder, "replay", runs, "pretraining.counts_toward_budget=false", *overrides)


def kept_runs(folder: Path) -> None:
    keep(folder / "runs" / "minigrid" / "Empty-5x5" / "0", 10, 8, identity=OWN)
    keep(folder / "other", 20, 6, first=100, identity=OTHER)


def test_kept_episodes_stay_episodes_or_the_refusal_says_how_many_frames_there_are(tmp_path: Path) -> None:
    """Of two runs with two episodes each: the frame before one is of the same episode."""
    kept_runs(tmp_path)
    trainer = pretrainer(replaying(tmp_path), tmp_path / "own")
    trainer._collect()
    trainer.close()
    buffer = trainer.buffer
    shown = buffer.observations(torch.arange(1, 26))["image"][:, 0, 0, 0]
    expected = [torch.linspace(0, 17, 12).round(), torch.linspace(100, 125, 13).round()]
    assert shown.tolist() == torch.cat(expected).tolist()
    lengths = [int((some < stop).sum()) for some, stop in zip(expected, (10, 120))]
    assert buffer.lengths.tolist() == [lengths[0], 12 - lengths[0], lengths[1], 13 - lengths[1]]
    before = PreviousFrames(buffer, "image").of(torch.arange(1, 26))[:, 0, 0, 0]
    starts = torch.tensor([0, lengths[0], 12, 12 + lengths[1]])
    assert before[starts].tolist() == shown[starts].tolist()
    assert trainer.beginning.record["runs"] == [OWN, OTHER]
    trainer = pretrainer(replaying(tmp_path, "pretraining.frames=60"), tmp_path / "more")
    with pytest.raises(UserError, match=r"has kept 18 of 30 frames; train it with runtime.keep_replay=true"):
        trainer._collect()
    trainer.close()


@pytest.mark.parametrize(("shape", "facts", "said"), [
    ((3, 16, 16), {"identity": OTHER}, "image uint8 (3, 16, 16), but minigrid/Empty-5x5 shows image uint8 (3, 32, 32)"),
    ((1, 32, 32), {"identity": OTHER}, "shows image uint8 (1, 32, 32), but"),
    ((3, 32, 32), {"identity": OTHER, "modality": "map"}, "shows map uint8 (3, 32, 32), but"),
    ((3, 32, 32), {}, "holds episodes of no run"),
])  # fmt: skip
def test_frames_of_runs_that_show_something_else_are_refused(
    tmp_path: Path, shape: tuple[int, ...], facts: dict[str, str], said: str
) -> None:
    kept_runs(tmp_path)
    keep(tmp_path / "other", 20, first=100, shape=shape, **facts)
    trainer = pretrainer(replaying(tmp_path), tmp_path / "own")
    with pytest.raises(UserError) as refused:
        trainer._collect()
    trainer.close()
    assert said in str(refused.value) and str(refused.value).startswith("pretraining.runs: ")


def test_a_tokenizer_of_kept_frames_says_of_which_runs_and_is_another_when_these_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a stopped pretraining goes on without them."""
    kept_runs(tmp_path)
    stop_pretraining(replaying(tmp_path), monkeypatch)
    shutil.move(tmp_path / "other", tmp_path / "gone")
    pretrain(replaying(tmp_path))
    said = capsys.readouterr().out
    assert "resuming after epoch 2 of 3" in said
    card = json.loads((made(tmp_path) / "agent.json").read_text())
    assert card["trained_on"]["source"] == "replay" and card["trained_on"]["runs"] == [OWN, OTHER]
    for _ in range(2):  # without them, and with them
        pretrain(replaying(tmp_path))
        assert "holds this tokenizer already" in capsys.readouterr().out
        if (tmp_path / "gone").exists():
            shutil.move(tmp_path / "gone", tmp_path / "other")
    keep(tmp_path / "other", 20, 6, first=101, identity=OTHER)
    with pytest.raises(UserError, match=r"pretraining\.digest \(.* there, .* here\); move it away"):
        pretrain(replaying(tmp_path))
    digest = card["settings"]["pretraining.digest"]
    with pytest.raises(UserError, match=rf"pretraining\.digest is {digest}, but the episodes .* were replaced"):
        pretrain(replaying(tmp_path, f"pretraining.digest={digest}"))
    config = replaying(tmp_path)
    settle(config)
    trainer = trainer_of(config, tmp_path / "own")  # loads what is there: its weights are in the run's hash
    assert trainer.beginning.trained_on["tokenizer"] == card["trained_on"] and trainer.env_steps == 0


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
