"""Evaluation: repeatable, and without any effect on training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests import small
from tokenworlds import methods
from tokenworlds.agent import Agent
from tokenworlds.config import RunConfig, load
from tokenworlds.envs import EnvironmentFactory
from tokenworlds.training.evaluator import Evaluator

ACTIVE = {"tokenizer", "world_model", "actor_critic"}
OVERRIDES = [
    "method=iris",
    "task=minigrid/Empty-5x5",
    "scale=smoke",
    "environment.train.size=32",
    "environment.test.size=32",
    "environment.test.max_episode_steps=40",
    "environment.test.noop_max=1",
    "collection.test.num_envs=2",
    "collection.test.episodes=2",
]


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load(OVERRIDES)


@pytest.fixture(scope="module")
def agent(config: RunConfig) -> Agent:
    torch.manual_seed(0)
    with EnvironmentFactory(config.task, "test", config.environment.test)() as environment:
        return methods.get("iris").build_agent(config, environment.environment_spec)


@pytest.fixture
def evaluator(config: RunConfig, agent: Agent) -> Evaluator:
    return Evaluator(config, agent, small.CPU)


def snapshot(agent: Agent) -> list[Any]:
    return [torch.random.get_rng_state(), agent.training, *(value.clone() for value in agent.state_dict().values())]


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
    assert set(first.losses) == {
        *(f"tokenizer/eval/loss_{name}" for name in ("total", "commitment", "reconstruction", "perceptual")),
        *(f"world_model/eval/loss_{name}" for name in ("total", "observations", "rewards", "ends")),
        "imagination/eval/return_mean",
        "imagination/eval/length_mean",
    }
    assert len(first.episodes.returns) == 2 == first.buffer.num_episodes


@pytest.mark.parametrize(("active", "prefixes"), [(set(), set()), ({"tokenizer"}, {"tokenizer"})])
def test_components_that_have_not_started_are_not_evaluated(
    evaluator: Evaluator, active: set[str], prefixes: set[str]
) -> None:
    assert {key.split("/")[0] for key in evaluator.evaluate(1, active).losses} == prefixes


def test_losses_are_means_over_batches_of_all_frames_and_chunks(evaluator: Evaluator, agent: Agent) -> None:
    evaluation = evaluator.evaluate(3, ACTIVE)
    frames = evaluation.buffer.observations(slice(1, evaluation.buffer.rows))["image"]
    losses, start = [], 0
    with torch.no_grad():
        for index in range(evaluation.buffer.num_episodes):  # batches do not mix episodes
            length = evaluation.buffer.episode_length(index)
            for part in frames[start : start + length].split(32):
                losses.append(agent.tokenizer.loss({"image": part}).total)
            start += length
    expected = torch.stack(losses).mean().item()
    assert evaluation.losses["tokenizer/eval/loss_total"] == pytest.approx(expected, rel=1e-5)
    parts = [evaluation.losses[f"world_model/eval/loss_{name}"] for name in ("observations", "rewards", "ends")]
    assert evaluation.losses["world_model/eval/loss_total"] == pytest.approx(sum(parts), rel=1e-5)


def test_blocks_behind_the_context_are_scored_once_and_short_episodes_not_at_all(config: RunConfig) -> None:
    """REM's losses count from the third block of a segment on."""
    rem = load(["method=rem", *OVERRIDES[1:], "environment.train.size=16", "environment.test.size=16"])
    length = rem.training.sequence_length
    agent = small.rem_agent(max_blocks=length)
    evaluator = Evaluator(rem, agent, small.CPU)
    buffer = small.buffer([length, 1, 2])
    (loss,) = evaluator._world_model_losses(buffer)
    segments = buffer.segments(torch.tensor([0]), torch.tensor([0]), length)
    tokens = agent.encode({"image": segments.observations["image"].flatten(0, 1)}).unflatten(0, (1, length))
    with torch.no_grad():
        expected = agent.world_model.loss(tokens, segments.actions, segments.rewards, segments.ends, segments.mask)
    torch.testing.assert_close(loss.total, expected.total)
    assert evaluator._world_model_losses(small.buffer([1, 2])) == [] and evaluator._mean("world_model", []) == {}


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
    rows = 2 * min(3, evaluation.buffer.num_episodes)
    for key in ("reconstruction", "imagination"):  # pairs of rows of 5 frames of 32 pixels, 2 pixels apart, doubled
        with Image.open(late[key]) as picture:
            assert picture.size == (2 * (5 * 34 - 2), 2 * (rows * 34 - 2))
