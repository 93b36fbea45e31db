"""One agent that sees a picture, numbers, a category and a map at once: every component learns every modality."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import small
from tests.methods.support import EPOCH, configure, train
from tests.synchronisation import without_synchronisation
from tokenworlds import methods
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import RunConfig
from tokenworlds.envs import EnvironmentFactory, VectorEnvironment
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.training.collector import AgentActor, Collector

TASK = "task=minigrid_mixed/Empty-5x5"
STEPS = 40


@pytest.fixture
def config() -> RunConfig:
    return configure("m3", TASK, "environment.train.max_episode_steps=15")


@pytest.fixture
def built(config: RunConfig) -> tuple[TokenAgent, list[ComponentTrainer], ReplayBuffer]:
    """The agent, and what it has played itself."""
    method, streams = methods.get("m3"), RandomStreams(0, small.CPU)
    factory = EnvironmentFactory(config.task, config.environment.train)
    with torch.random.fork_rng(), VectorEnvironment([factory], workers=False) as envs:
        torch.manual_seed(0)
        agent = method.build_agent(config, envs.spec)
        assert isinstance(agent, TokenAgent)
        buffer = ReplayBuffer(envs.spec, 2 * STEPS, small.CPU)
        collector = Collector(envs, buffer, config.collection.train, streams, "train")
        collector.collect(AgentActor(agent, config.collection.train, streams.torch("policy")), steps=STEPS)
    return agent, method.build_components(config, agent, buffer, streams), buffer


def has_gradient(module: nn.Module) -> bool:
    return all(parameter.grad is not None for parameter in module.parameters()) and any(
        parameter.grad.any() for parameter in module.parameters()
    )


def test_every_modality_is_learned_by_every_component(
    built: tuple[TokenAgent, list[ComponentTrainer], ReplayBuffer],
) -> None:
    agent, components, buffer = built
    names = list(agent.tokenizer.layout.symbols)
    assert names == list(buffer.observations(slice(0, 1))) == ["image", "vector", "token", "token_2d"]
    assert buffer.num_steps == STEPS < buffer.rows - 1  # with final observations
    assert [component.name for component in components] == ["tokenizer", "world_model", "actor_critic"]
    train(components)
    world_model, policy = agent.world_model, agent.policy
    assert has_gradient(agent.tokenizer.part("image"))
    for name in names:
        for part in (world_model.head_observation[name], world_model.ensemble[name]):
            assert has_gradient(part), name
        # the world model looks pictures up in the tokenizer's codebook, the policy takes numbers as they are
        for part, fixed in ((world_model.embed_observation[name], "image"), (policy.encoder.encoders[name], "vector")):
            assert has_gradient(part) == (name != fixed), name
            assert bool(list(part.parameters())) == (name != fixed), name
    for part in (world_model.embed_action, world_model.head_reward, world_model.head_end, policy.encoder.fuser):
        assert has_gradient(part)


def test_updates_wait_for_nothing(built: tuple[TokenAgent, list[ComponentTrainer], ReplayBuffer]) -> None:
    _, components, _ = built
    for component in components:
        component.train(EPOCH)  # what is made once
        component.module.train()
        with without_synchronisation():
            component.update()


def test_the_policy_depends_on_every_modality(built: tuple[TokenAgent, list[ComponentTrainer], ReplayBuffer]) -> None:
    agent, components, buffer = built
    train(components)
    seen = buffer.observations(slice(1, STEPS))
    state = agent.policy.initial_state(STEPS - 1)
    with torch.no_grad():
        logits, values, _ = agent.policy(agent.observe(seen), state)
        for name, observed in seen.items():
            turned = agent.observe({**seen, name: observed.roll(7, dims=0)})
            others = agent.policy(turned, state)
            assert all(not torch.equal(one, other) for one, other in zip((logits, values), others)), name
