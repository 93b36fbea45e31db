"""The epoch loop: what is collected when and by whom, and what a checkpoint brings back. Whole runs: test_resume."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from tests import small
from tests.methods.support import are_equal, configure, snapshot
from tokenworlds.config import ReplayStorage, RuntimeConfig
from tokenworlds.envs import EnvironmentSpec, ImageSpec, VectorSpec
from tokenworlds.epoch_files import checksum
from tokenworlds.errors import UserError
from tokenworlds.tracking.journal import Journal
from tokenworlds.training.budget import replay_storage
from tokenworlds.training.trainer import Trainer

TINY = (
    "collection.train.epsilon=0",
    "collection.train.num_envs=2",
    "collection.train.parallel=false",
    "collection.train.steps=6",
    "collection.train.stop_after_epochs=3",
    "training.epochs=4",
    *(f"training.{part}.updates_per_epoch=1" for part in ("tokenizer", "world_model", "actor_critic")),
    "training.tokenizer.updates_first_epoch=2",
    "training.world_model.start_after_epochs=0",
    "training.actor_critic.start_after_epochs=1",
    "evaluation.every=100",
)
RANDOM = "collection.train.steps_first_epoch=13"
Make = Callable[..., Trainer]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Trainers of tiny runs, in one folder."""
    made: list[Trainer] = []

    def make_trainer(*overrides: str, method: str = "delta_iris") -> Trainer:
        config = configure(method, *TINY, *overrides)
        made.append(Trainer(config, tmp_path, Journal(tmp_path / "metrics.jsonl"), small.CPU))
        return made[-1]

    with torch.random.fork_rng():
        yield make_trainer
    for trainer in made:
        trainer.close()


def go(trainer: Trainer, epochs: int) -> list[dict[str, float]]:
    """Train some more epochs; their values."""
    values = []
    for _ in range(epochs):
        trainer.epoch += 1
        values.append(trainer._epoch())
    return values


def collections(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, object, int]]:
    """Epoch, actor and steps of every collection from now on."""
    calls, collect = [], trainer.collector.collect

    def recorded(actor: Any, **options: Any) -> Any:
        calls.append((trainer.epoch, actor, options["steps"]))
        return collect(actor, **options)

    monkeypatch.setattr(trainer.collector, "collect", recorded)
    return calls


def test_the_first_epoch_collects_its_own_number_of_steps_at_random(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(RANDOM)
    calls = collections(trainer, monkeypatch)
    values = go(trainer, 4)
    assert calls == [(1, trainer.random_actor, 13), (2, trainer.actor, 6), (3, trainer.actor, 6)]
    assert [epoch["replay/steps"] for epoch in values] == [14, 20, 26, 26]  # in steps of two environments
    assert [component.updates for component in trainer.components] == [2 + 3, 4, 3]


@pytest.mark.parametrize(
    "overrides",
    [
        (RANDOM,),
        ("collection.train.steps_first_epoch=null", "collection.train.steps=7"),
        (RANDOM, "collection.train.num_envs=1"),
    ],
)
def test_the_buffer_has_room_for_all_that_will_be_collected(make: Make, overrides: tuple[str, ...]) -> None:
    """The surplus of the last call included: to grow, the largest thing in memory is copied into one twice as large."""
    trainer = make(*overrides)
    capacity = trainer.buffer.capacity
    go(trainer, 4)
    assert trainer.buffer.rows - 1 <= capacity == trainer.buffer.capacity


@pytest.mark.parametrize(("method", "expected"), [("delta_iris", 13 + 2 * 6 + 1), ("m3", 13 + 2 * 6 + 1 + 2)])
def test_final_observations_have_room_of_their_own(make: Make, method: str, expected: int) -> None:
    """Which M3 stores."""
    assert make(RANDOM, method=method).buffer.capacity == expected


def test_measurements_are_recorded_beside_the_losses(make: Make) -> None:
    trainer = make(RANDOM)
    values = go(trainer, 2)[1]
    assert {name for name in values if "/train/" in name and "loss_" not in name and "gradient" not in name} == {
        "tokenizer/train/codebook_entropy",
        "tokenizer/train/codes_revived",
        "world_model/train/delta_accuracy",
        "actor_critic/train/policy_entropy",
    }
    assert {name for name in values if name.startswith("tokenizer/train/loss_")} == {
        f"tokenizer/train/loss_{name}" for name in ("total", "l1", "l2", "worst_pixel", "commitment")
    }


def test_a_full_gpu_is_no_misfit_of_the_checkpoint(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remedy that starts again would throw the checkpoint away."""
    first = make(RANDOM)
    go(first, 1)
    first.save()
    again = make(RANDOM)
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(again.agent, "load_state_dict", Mock(side_effect=error))
    with pytest.raises(torch.OutOfMemoryError):
        again.resume()
    monkeypatch.setattr(again.agent, "load_state_dict", Mock(side_effect=RuntimeError("Missing key(s)")))
    with pytest.raises(UserError, match=r"does not fit this code \(Missing key"):
        again.resume()


def test_a_checkpoint_brings_back_counters_codebook_and_target(make: Make) -> None:
    """And the same next epoch."""
    first = make(RANDOM)
    go(first, 3)
    first.save()
    again = make(RANDOM)
    assert not are_equal(snapshot(again.agent.target), snapshot(first.agent.target))
    again.resume()
    assert again.epoch == 3 and are_equal(snapshot(again.agent), snapshot(first.agent))
    assert not are_equal(snapshot(again.agent.target), snapshot(again.agent.policy))
    assert again.agent.tokenizer.quantiser.updates == 4
    for one, other in zip(first.components, again.components):
        uses = one.sampler.state()["uses"]
        assert torch.equal(uses, other.sampler.state()["uses"])
        assert uses.sum() == (one.updates - {"tokenizer": 2, "world_model": 1}.get(one.name, 0)) * 2
    results = []
    for trainer in (again, first):  # torch's global generator is where the checkpoint has it
        state = torch.random.get_rng_state()
        (values,) = go(trainer, 1)
        torch.random.set_rng_state(state)
        results.append({name: value for name, value in values.items() if not name.startswith("seconds/")})
    assert results[0] == results[1] and are_equal(snapshot(again.agent), snapshot(first.agent))


@pytest.mark.parametrize(
    ("saved", "kept"), [(None, "this one has no checkpoint yet."), (2, "this one stays resumable after epoch 2.")]
)
def test_a_run_that_diverges_says_what_a_lower_learning_rate_does(make: Make, saved: int | None, kept: str) -> None:
    """Another configuration is another run; of this one the last checkpoint remains."""
    trainer = make()
    if saved is not None:
        go(trainer, saved)
        trainer.save()
    with torch.no_grad():
        next(trainer.agent.world_model.parameters()).fill_(math.nan)
    with pytest.raises(UserError) as raised:
        go(trainer, 1)
    said = str(raised.value)
    assert said.startswith(f"epoch {trainer.epoch}: world_model/train/loss_total is not finite") and len(said) <= 300
    assert "lower training.world_model.learning_rate. " in said and "its run starts at epoch 1" in said
    assert said.endswith(kept)


@pytest.mark.parametrize(
    ("choice", "free", "share", "expected"),
    [
        ("auto", 201, 1.0, "cuda"),
        ("auto", 199, 1.0, "cpu"),
        ("auto", 999, 0.201, "cuda"),
        ("auto", 999, 0.199, "cpu"),
        ("auto", 199, 0.9, "cpu"),
        ("host", 999, 0.1, "cpu"),
        ("device", 0, 0.1, "cuda"),
    ],
)
def test_replay_lies_on_the_device_if_it_takes_no_more_than_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch, choice: str, free: int, share: float, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1000))
    spec = EnvironmentSpec({"image": ImageSpec(2, 1), "vector": VectorSpec(1)}, small.DISCRETE)  # 10 bytes a step
    runtime, agent = RuntimeConfig(replay=ReplayStorage[choice], gpu_share=share), nn.Identity()
    assert replay_storage(runtime, spec, 10, agent, torch.device("cuda")) == torch.device(expected)
    assert replay_storage(runtime, spec, 10, agent, small.CPU) == small.CPU


@pytest.mark.parametrize(
    ("choice", "share", "trained", "status"),
    [
        ("device", 0.5, 0, 3),  # 600 MB of replay
        ("device", 1.0, 25_000_001, 2),  # 4 bytes a weight, and as many for its gradient and each moment
        ("device", 1.0, 25_000_000, None),
        ("auto", 0.5, 31_000_000, None),
        ("auto", 0.5, 32_000_000, 3),
        ("host", 1.0, 63_000_000, 2),
    ],
)
def test_what_cannot_fit_on_the_gpu_is_refused(
    choice: str, share: float, trained: int, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    spec = EnvironmentSpec({"vector": VectorSpec(1)}, small.DISCRETE)  # 4 bytes a step
    agent = nn.Linear(trained, 1, bias=False, device="meta") if trained else nn.Identity()
    runtime = RuntimeConfig(replay=ReplayStorage[choice], gpu_share=share)
    if status is None:
        replay_storage(runtime, spec, 150_000_000, agent, torch.device("cuda"))
        return
    with pytest.raises(UserError, match=r"raise runtime\.gpu_share") as raised:
        replay_storage(runtime, spec, 150_000_000, agent, torch.device("cuda"))
    said = str(raised.value)
    assert raised.value.status == status and f"may use {share:.1f} of 1.0 GB" in said and len(said) <= 300


def test_frozen_weights_have_neither_gradients_nor_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    agent = nn.Linear(200_000_000, 1, bias=False, device="meta").requires_grad_(False)
    spec = EnvironmentSpec({"vector": VectorSpec(1)}, small.DISCRETE)
    assert replay_storage(RuntimeConfig(), spec, 10, agent, torch.device("cuda")).type == "cuda"


def test_what_is_left_is_known_once_every_component_has_run_and_after_resuming(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also from a checkpoint without measurements, after its first epoch."""
    late = (
        "training.actor_critic.start_after_epochs=2",
        "evaluation.every=2",
        "evaluation.imagined_episodes=1",
        *("collection.test.num_envs=1", "collection.test.episodes=1"),
        *("environment.test.max_episode_steps=12", "environment.test.noop_max=0"),
    )
    trainer = make(RANDOM, *late, method="rem")
    trainer.run()
    assert set(trainer.forecast.measured) == {
        "random collection", "collection", "test episodes", "evaluation", "checkpoint", "tokenizer", "world_model",
        "actor_critic",
    }  # fmt: skip
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["unknown until epoch 3" in line for line in lines] == [True, True, False, False]
    assert [line.partition("left ")[2][-1] for line in lines[2:]] == ["s", "s"]
    again = make(RANDOM, *late, method="rem")
    again.resume()
    del again.forecast.measured["checkpoint"], trainer.forecast.measured["checkpoint"]  # written before it is measured
    assert again.forecast.measured == trainer.forecast.measured and again.forecast.left(3) is not None
    head = next(iter(trainer.folder.glob("epoch_00004.json")))
    state = json.loads(head.read_text())
    del state["state"]["measured"], state["checksum"]
    head.write_text(json.dumps(state | {"checksum": checksum(state)}))
    older = make(RANDOM, *late, method="rem")
    older.resume()
    assert older.forecast.measured == {} and older.forecast.left(2) is None
