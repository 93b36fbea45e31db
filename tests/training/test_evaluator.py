"""Evaluation: repeatable, and without any effect on training."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests import small
from tests.methods.support import configure
from tokenworlds import methods
from tokenworlds.agents.base import Agent
from tokenworlds.config import RunConfig, load
from tokenworlds.envs import EnvironmentFactory
from tokenworlds.methods import token as token_agent
from tokenworlds.training import media
from tokenworlds.training.evaluator import Evaluator

ACTIVE = {"tokenizer", "world_model", "actor_critic"}
SHORT = (
    "environment.test.max_episode_steps=40",
    "environment.test.noop_max=1",
    "collection.test.num_envs=2",
    "collection.test.episodes=2",
)
OUTCOMES = ("reward_accuracy", "end_accuracy")
LOSSES = {  # beside the total
    "iris": {"tokenizer": ("commitment", "reconstruction", "perceptual"), "world_model": ("token_accuracy", *OUTCOMES)},
    "delta_iris": {
        "tokenizer": ("l1", "l2", "worst_pixel", "commitment"),
        "world_model": ("delta_accuracy", *OUTCOMES),
    },
}


@pytest.fixture(scope="module", params=LOSSES)
def config(request: pytest.FixtureRequest) -> RunConfig:
    return configure(request.param, *SHORT)


@pytest.fixture(scope="module")
def agent(config: RunConfig) -> Agent:
    torch.manual_seed(0)
    with EnvironmentFactory(config.task, config.environment.test)() as environment:
        return methods.get(config.method).build_agent(config, environment.environment_spec)


@pytest.fixture
def evaluator(config: RunConfig, agent: Agent) -> Evaluator:
    return Evaluator(config, agent, small.CPU)


def snapshot(agent: Agent) -> list[Any]:
    return [torch.random.get_rng_state(), agent.training, *(value.clone() for value in agent.state_dict().values())]


def test_test_games_are_whole_and_know_what_training_would_have_given() -> None:
    chosen = ["method=m3", "task=atari/Breakout", "scale=smoke", "environment.test.max_episode_steps=4000"]
    player = Evaluator(load(chosen), small.agent(), small.CPU)
    stats, buffer = player.play("a game", episodes=1, num_envs=1, use_agent=False)
    whole = buffer.segments(torch.tensor([0]), torch.tensor([0]), buffer.episode_length(0))
    lives = buffer.as_trained(whole)
    assert stats.returns == [float(whole.rewards.sum())] and int(whole.terminations.sum()) == 1
    assert int(lives.terminations.sum()) == 5 and torch.equal(lives.rewards, whole.rewards.clamp(max=1))


def test_an_evaluation_depends_on_its_epoch_alone_and_disturbs_nothing(evaluator: Evaluator, agent: Agent) -> None:
    before = snapshot(agent)
    first = evaluator.evaluate(5, ACTIVE)
    other = evaluator.evaluate(10, ACTIVE)
    again = evaluator.evaluate(5, ACTIVE)
    assert first.losses == again.losses and dataclasses.asdict(first.episodes) == dataclasses.asdict(again.episodes)
    assert torch.equal(first.buffer.state()[0]["observations.image"], again.buffer.state()[0]["observations.image"])
    assert first.losses != other.losses
    for value, later in zip(before, snapshot(agent)):
        assert torch.equal(value, later) if isinstance(value, torch.Tensor) else value == later
    assert all(parameter.grad is None for parameter in agent.parameters())
    names = LOSSES[evaluator.config.method]
    assert set(first.losses) == {
        *(f"tokenizer/eval/loss_{name}" for name in ("total", *names["tokenizer"])),
        *(f"world_model/eval/loss_{name}" for name in ("total", "observations", "rewards", "ends")),
        *(f"world_model/eval/{name}" for name in names["world_model"]),
        "imagination/eval/return_mean",
        "imagination/eval/length_mean",
    }
    assert len(first.episodes.returns) == 2 == first.buffer.num_episodes


@pytest.mark.parametrize(("active", "prefixes"), [(set(), set()), ({"tokenizer"}, {"tokenizer"})])
def test_components_that_have_not_started_are_not_evaluated(
    evaluator: Evaluator, active: set[str], prefixes: set[str]
) -> None:
    assert {key.split("/")[0] for key in evaluator.evaluate(1, active).losses} == prefixes


@torch.no_grad()
def test_losses_are_means_over_batches(evaluator: Evaluator, agent: Agent) -> None:
    """Not weighted by their sizes, as published."""
    evaluation = evaluator.evaluate(3, ACTIVE)
    held_out = methods.get(evaluator.config.method).held_out
    for component in ("tokenizer", "world_model"):
        batches = list(held_out(evaluator.config, agent, evaluation.buffer, component))
        expected = torch.stack([losses.total for losses in batches]).mean()
        found = {key: value for key, value in evaluation.losses.items() if key.startswith(f"{component}/eval/loss_")}
        total = found.pop(f"{component}/eval/loss_total")
        assert total == pytest.approx(float(expected), rel=1e-5) and total == pytest.approx(
            sum(found.values()), rel=1e-5
        )
        for name in batches[0].measured:
            expected = torch.stack([losses.measured[name] for losses in batches]).mean()
            assert evaluation.losses[f"{component}/eval/{name}"] == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
def test_losses_of_a_token_agent_are_those_of_all_frames() -> None:
    """In batches that do not mix episodes."""
    config, agent, buffer = (
        configure("iris", "evaluation.tokenizer_batch_size=3"),
        small.agent(),
        small.buffer([4, 2, 3]),
    )
    found = list(token_agent.held_out(config, agent, buffer, "tokenizer"))
    frames = buffer.observations(slice(1, buffer.rows))["image"].split([3, 1, 2, 3])
    assert [losses.total for losses in found] == [agent.tokenizer.loss({"image": part}).total for part in frames]


def test_blocks_behind_the_context_are_scored_once_and_short_episodes_not_at_all() -> None:
    """REM's losses count from the third block of a segment on."""
    config = load(["method=rem", "task=minigrid/Empty-5x5", "scale=smoke"])
    length = config.training.sequence_length
    agent = small.rem_agent(max_blocks=length)
    buffer = small.buffer([length, 1, 2])
    (loss,) = token_agent.held_out(config, agent, buffer, "world_model")
    segments = buffer.segments(torch.tensor([0]), torch.tensor([0]), length)
    with torch.no_grad():
        data = (segments.actions, segments.rewards, segments.terminations, segments.mask)
        expected = agent.world_model.loss(agent.tokens(segments), *data)
    torch.testing.assert_close(loss.total, expected.total)
    assert Evaluator(config, agent, small.CPU)._held_out("world_model", small.buffer([1, 2])) == {}


@pytest.mark.parametrize("method", LOSSES)
def test_an_agent_without_burn_in_is_evaluated(method: str, tmp_path: Path) -> None:
    config = configure(method, *SHORT, "training.actor_critic.burn_in=0", "collection.test.burn_in=0")
    with EnvironmentFactory(config.task, config.environment.test)() as environment:
        agent = methods.get(method).build_agent(config, environment.environment_spec)
    evaluator = Evaluator(config, agent, small.CPU)
    evaluation = evaluator.evaluate(1, ACTIVE)
    assert evaluation.losses["imagination/eval/length_mean"] >= 1
    assert "imagination" in evaluator.pictures(1, evaluation.buffer, tmp_path, ACTIVE)


def test_the_random_policy_is_another_player(evaluator: Evaluator) -> None:
    agent, _ = evaluator.play("final", episodes=1, num_envs=1)
    _, buffer = evaluator.play("random policy", episodes=1, num_envs=1, use_agent=False)
    repeated, again = evaluator.play("random policy", episodes=1, num_envs=1, use_agent=False)
    assert torch.equal(buffer.state()[0]["actions"], again.state()[0]["actions"])
    assert len(agent.returns) == len(repeated.returns) == 1
    assert len(buffer.state()[0]["actions"].unique()) > 3


def test_pictures_show_what_has_been_trained(evaluator: Evaluator, tmp_path: Path) -> None:
    evaluation = evaluator.evaluate(1, set())
    early = evaluator.pictures(1, evaluation.buffer, tmp_path / "early", {"tokenizer"})
    assert set(early) == {"reconstruction", "episode"}
    late = evaluator.pictures(1, evaluation.buffer, tmp_path / "late", ACTIVE)
    assert set(late) == {"reconstruction", "imagination", "episode"}
    for path in (*early.values(), *late.values()):
        assert path.stat().st_size > 0
    config, episodes = evaluator.config, min(3, evaluation.buffer.num_episodes)
    columns, size = config.model.world_model.max_blocks, config.environment.test.size
    ways = {"iris": 1, "delta_iris": 3}[config.method]
    for key, rows in {"reconstruction": episodes * (1 + ways), "imagination": episodes * 2}.items():
        zoom, step = 64 // size, size + media.GAP
        with Image.open(late[key]) as picture:
            width, height = zoom * (columns * step - media.GAP), zoom * (rows * step - media.GAP)
            assert picture.size == (media.LABEL_WIDTH + width, height)


def test_world_models_of_a_seed_are_compared_on_the_same_random_play(config: RunConfig, agent: Agent) -> None:
    """The weighted loss of an evaluation of these episodes, whatever the policy."""
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, world_model_batch_size=99))
    evaluator = Evaluator(config, agent, small.CPU)
    found, *of_tokenizer = evaluator.random_play(2)
    assert (found["group"], found["measure"], found["count"]) == ("world model", "loss_random_play", 2)
    assert {"l1_changed_random_play", "psnr_random_play"} <= {entry["measure"] for entry in of_tokenizer}
    _, buffer = evaluator.play("random play", episodes=2, num_envs=2, use_agent=False)
    plain = [entry | {"measure": f"{entry['measure']}_random_play"} for entry in evaluator.tokenizer(buffer, 2)]
    assert of_tokenizer == plain
    loss = evaluator._held_out("world_model", buffer)["world_model/eval/loss_observations"]
    weights = getattr(config.model.world_model, "weights", None)
    assert found["value"] == pytest.approx(loss / (weights.observations if weights else 1), rel=1e-5)
    other = Evaluator(dataclasses.replace(config, variant="other"), agent, small.CPU)
    assert other.random_play(2) == [found, *of_tokenizer]
    elsewhere, *_ = Evaluator(dataclasses.replace(config, seed=config.seed + 1), agent, small.CPU).random_play(2)
    assert elsewhere["value"] != found["value"]
