"""Rollouts of a policy inside a world model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.actor_critic import PolicyState, actor_critic_losses
from tokenworlds.agent import Agent
from tokenworlds.imagination import CapturedImagination, ImaginationNoise, Trajectory, imagine
from tokenworlds.rng import sample_categorical

BATCH, HORIZON = 3, 4


@pytest.fixture(scope="module")
def agent() -> Agent:
    return small.agent()


def start(agent: Agent, seed: int = 0, horizon: int = HORIZON) -> tuple[Tensor, PolicyState, ImaginationNoise]:
    layout = agent.tokenizer.layout
    noise = ImaginationNoise.draw(horizon, layout.num_tokens, BATCH, small.generator(seed))
    past = small.frames(BATCH, 2, seed=seed).float() / 255
    state = agent.policy.burn_in(past, torch.ones(BATCH, 2, dtype=torch.bool))
    return small.tokens(layout, BATCH, seed=seed), state, noise


def roll(agent: Agent, tokens: Tensor, state: PolicyState, noise: ImaginationNoise) -> Trajectory:
    return imagine(agent.world_model, agent.policy, agent.decode, tokens, state, noise)


def assert_equal(first: Trajectory, second: Trajectory) -> None:
    for field in fields(Trajectory):
        torch.testing.assert_close(getattr(first, field.name), getattr(second, field.name), msg=field.name)


def test_the_noise_decides_the_trajectory(agent: Agent) -> None:
    first = roll(agent, *start(agent))
    state = torch.random.get_rng_state()
    assert_equal(roll(agent, *start(agent)), first)
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing else is drawn
    tokens, policy_state, _ = start(agent)
    other = roll(agent, tokens, policy_state, start(agent, seed=1)[2])
    assert torch.equal(other.tokens[:, 0], first.tokens[:, 0]) and not torch.equal(other.tokens, first.tokens)


def test_shapes_depend_on_batch_and_horizon_alone(agent: Agent) -> None:
    for seed in range(3):
        trajectory = roll(agent, *start(agent, seed))
        assert trajectory.observations.shape == (BATCH, HORIZON, 3, small.RESOLUTION, small.RESOLUTION)
        assert trajectory.tokens.shape == (BATCH, HORIZON, 4)
        for name in ("actions", "rewards", "ends"):
            assert getattr(trajectory, name).shape == (BATCH, HORIZON)
        assert set(trajectory.rewards.unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert set(trajectory.ends.unique().tolist()) <= {0, 1}
        assert trajectory.actions.max() < small.ACTIONS


def test_a_trajectory_carries_no_gradient(agent: Agent) -> None:
    trajectory = roll(agent, *start(agent))
    assert not any(getattr(trajectory, field.name).requires_grad for field in fields(Trajectory))


def test_observations_are_the_decoded_tokens(agent: Agent) -> None:
    trajectory = roll(agent, *start(agent))
    for t in range(HORIZON):
        with torch.no_grad():
            torch.testing.assert_close(trajectory.observations[:, t], agent.decode(trajectory.tokens[:, t]))


def test_rows_of_a_batch_do_not_meet(agent: Agent) -> None:
    tokens, state, noise = start(agent)
    whole = roll(agent, tokens, state, noise)
    alone = roll(
        agent,
        tokens[1:2],
        PolicyState(state.hidden[1:2], state.cell[1:2]),
        ImaginationNoise(*(getattr(noise, field.name)[..., 1:2] for field in fields(noise))),
    )
    for field in fields(Trajectory):
        torch.testing.assert_close(getattr(alone, field.name), getattr(whole, field.name)[1:2])


def test_noise_of_a_step_belongs_to_that_step() -> None:
    noise = ImaginationNoise.draw(3, 4, 2, small.generator())
    step = noise.step(1)
    assert torch.equal(step.reward, noise.rewards[1]) and torch.equal(step.end, noise.ends[1])
    assert torch.equal(step.tokens, noise.tokens[1]) and step.tokens.shape == (4, 2)
    everything = torch.cat([getattr(noise, field.name).flatten() for field in fields(noise)])
    assert len(everything.unique()) == len(everything) and everything.min() >= 0 and everything.max() < 1


def loss(agent: Agent, logits: Tensor, values: Tensor, trajectory: Trajectory) -> Tensor:
    settings = {"gamma": 0.99, "lambda_": 0.9, "entropy_weight": 0.01}
    rewards, ends = trajectory.rewards, trajectory.ends
    return actor_critic_losses(logits, values, trajectory.actions, rewards, ends, **settings).total


def gradients(agent: Agent) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in agent.policy.parameters() if parameter.grad is not None]


def test_the_unrolled_policy_has_the_gradient_of_a_rollout_that_keeps_it(agent: Agent) -> None:
    """As the published loop does it: the policy's outputs of the rollout itself enter the loss."""
    tokens, first_state, noise = start(agent)
    trajectory = roll(agent, tokens, first_state, noise)
    agent.zero_grad()
    logits, values, _ = agent.policy.unroll(trajectory.observations, first_state)
    loss(agent, logits, values, trajectory).backward()
    unrolled = gradients(agent)

    agent.zero_grad()
    policy_state, all_logits, all_values, actions = first_state, [], [], []
    with torch.no_grad():
        state = agent.world_model.start(tokens)
    for t in range(HORIZON):
        with torch.no_grad():
            seen = agent.decode(state.tokens)
        step_logits, value, policy_state = agent.policy(seen, policy_state)
        with torch.no_grad():
            action = sample_categorical(step_logits, noise.actions[t])
            state, *_ = agent.world_model.step(state, action, noise.step(t), predict_observation=t < HORIZON - 1)
        all_logits.append(step_logits)
        all_values.append(value)
        actions.append(action)
    assert torch.equal(torch.stack(actions, 1), trajectory.actions)
    loss(agent, torch.stack(all_logits, 1), torch.stack(all_values, 1), trajectory).backward()
    stepped = gradients(agent)
    assert len(unrolled) == len(stepped) == len(list(agent.policy.parameters()))
    for one, other in zip(unrolled, stepped):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in (*agent.world_model.parameters(), *agent.tokenizer.parameters()))


@pytest.fixture
def without_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.gpu
@pytest.mark.usefixtures("without_tf32")
def test_a_captured_rollout_equals_the_plain_one() -> None:
    agent = small.agent().cuda()

    def on_gpu(seed: int) -> tuple[Tensor, PolicyState, ImaginationNoise]:
        tokens, state, noise = start(small.agent(), seed)
        moved = ImaginationNoise(*(getattr(noise, field.name).cuda() for field in fields(noise)))
        return tokens.cuda(), PolicyState(state.hidden.cuda(), state.cell.cuda()), moved

    captured = CapturedImagination(agent.world_model, agent.policy, agent.decode)
    for seed in range(4):  # the first call captures, the others replay
        assert_equal(captured(*on_gpu(seed)), roll(agent, *on_gpu(seed)))
    with torch.no_grad():
        agent.policy.actor.weight.mul_(-1)  # an optimiser changes parameters in place: the graph sees it
    assert_equal(captured(*on_gpu(0)), roll(agent, *on_gpu(0)))
