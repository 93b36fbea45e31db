"""Rollouts of a policy inside a world model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.actor_critic import PolicyState, actor_critic_losses
from tokenworlds.agent import Agent
from tokenworlds.config import Backbone, Decoding, PolicyInput, Recurrence
from tokenworlds.imagination import CapturedImagination, ImaginationNoise, Trajectory, imagine
from tokenworlds.rng import sample_categorical

BATCH, HORIZON = 3, 4
AGENTS = {
    "iris": small.agent,
    "rem": small.rem_agent,
    "rem without pop": lambda: small.rem_agent(decoding=Decoding.autoregressive),
    "pop by attention": lambda: small.rem_agent(backbone=Backbone.transformer),
    "pop by lstm": lambda: small.rem_agent(backbone=Backbone.lstm),
    "gru in the policy": lambda: small.rem_agent(recurrence=Recurrence.gru, action_input=False),
}

Start = tuple[Tensor, Tensor, PolicyState, ImaginationNoise]


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    made: Agent = AGENTS[request.param]()
    return made


def start(agent: Agent, seed: int = 0, horizon: int = HORIZON) -> Start:
    """Frames and actions of the context, the policy's state and the noise."""
    layout, context = agent.tokenizer.layout, 1 if agent.policy_input is PolicyInput.pixels else 2
    noise = ImaginationNoise.draw(horizon, layout.num_tokens, BATCH, small.generator(seed))
    tokens = small.tokens(layout, BATCH, 3, seed=seed)
    actions = torch.randint(small.ACTIONS, (BATCH, 3), generator=small.generator(seed))
    seen = agent.see(tokens[:, :-1].flatten(0, 1)).unflatten(0, (BATCH, 2))
    state = agent.policy.burn_in(seen, actions[:, :-1], torch.ones(BATCH, 2, dtype=torch.bool))
    return tokens[:, -context:], actions[:, -context:-1], state, noise


def roll(agent: Agent, *given: Tensor | PolicyState | ImaginationNoise) -> Trajectory:
    return imagine(agent.world_model, agent.policy, agent.see, *given)


def assert_equal(first: Trajectory, second: Trajectory) -> None:
    for field in fields(Trajectory):
        torch.testing.assert_close(getattr(first, field.name), getattr(second, field.name), msg=field.name)


def test_the_noise_decides_the_trajectory(agent: Agent) -> None:
    first = roll(agent, *start(agent))
    state = torch.random.get_rng_state()
    assert_equal(roll(agent, *start(agent)), first)
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing else is drawn
    other = roll(agent, *start(agent)[:3], start(agent, seed=1)[3])
    assert torch.equal(other.tokens[:, 0], first.tokens[:, 0]) and not torch.equal(other.tokens, first.tokens)


def test_shapes_depend_on_batch_and_horizon_alone(agent: Agent) -> None:
    for seed in range(3):
        trajectory = roll(agent, *start(agent, seed))
        assert trajectory.observations.shape == (BATCH, HORIZON, *agent.see(trajectory.tokens[:, 0]).shape[1:])
        assert trajectory.tokens.shape == (BATCH, HORIZON, 4)
        for name in ("actions", "rewards", "ends"):
            assert getattr(trajectory, name).shape == (BATCH, HORIZON)
        assert set(trajectory.rewards.unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert set(trajectory.ends.unique().tolist()) <= {0, 1}
        assert trajectory.actions.max() < small.ACTIONS


def test_a_rollout_waits_for_nothing(agent: Agent) -> None:
    given = start(agent)
    with without_synchronisation():
        roll(agent, *given)


def test_a_trajectory_carries_no_gradient(agent: Agent) -> None:
    trajectory = roll(agent, *start(agent))
    assert not any(getattr(trajectory, field.name).requires_grad for field in fields(Trajectory))


def test_observations_are_what_is_seen_of_the_tokens(agent: Agent) -> None:
    trajectory = roll(agent, *start(agent))
    for t in range(HORIZON):
        torch.testing.assert_close(trajectory.observations[:, t], agent.see(trajectory.tokens[:, t]))


def test_rows_of_a_batch_do_not_meet(agent: Agent) -> None:
    tokens, actions, state, noise = start(agent)
    whole = roll(agent, tokens, actions, state, noise)
    alone = roll(
        agent,
        tokens[1:2],
        actions[1:2],
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
    tokens, past_actions, first_state, noise = start(agent)
    trajectory = roll(agent, tokens, past_actions, first_state, noise)
    agent.zero_grad()
    logits, values, _ = agent.policy.unroll(trajectory.observations, trajectory.actions, first_state)
    loss(agent, logits, values, trajectory).backward()
    unrolled = gradients(agent)

    agent.zero_grad()
    policy_state, all_logits, all_values, actions = first_state, [], [], []
    with torch.no_grad():
        state = agent.world_model.start(tokens, past_actions)
    for t in range(HORIZON):
        step_logits, value, policy_state = agent.policy(agent.see(state.tokens), policy_state)
        action = sample_categorical(step_logits.detach(), noise.actions[t])
        policy_state = agent.policy.remember(action, policy_state)
        with torch.no_grad():
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
@pytest.mark.parametrize("name", AGENTS)
def test_a_captured_rollout_equals_the_plain_one(name: str) -> None:
    there, agent = AGENTS[name](), AGENTS[name]().cuda()

    def on_gpu(seed: int) -> Start:
        tokens, actions, state, noise = start(there, seed)
        moved = ImaginationNoise(*(getattr(noise, field.name).cuda() for field in fields(noise)))
        return tokens.cuda(), actions.cuda(), PolicyState(state.hidden.cuda(), state.cell.cuda()), moved

    captured = CapturedImagination(agent.world_model, agent.policy, agent.see, BATCH)
    for seed in range(4):  # the first call captures, the others replay
        assert_equal(captured(*on_gpu(seed)), roll(agent, *on_gpu(seed)))
    with torch.no_grad():
        agent.policy.actor.weight.mul_(-1)  # an optimiser changes parameters in place: the graph sees it
    assert_equal(captured(*on_gpu(0)), roll(agent, *on_gpu(0)))
    frames, actions, state, noise = on_gpu(1)  # fewer rows than were captured: the last batch of a pass
    fewer = (frames[:2], actions[:2], PolicyState(state.hidden[:2], state.cell[:2]))
    few_noise = ImaginationNoise(*(getattr(noise, field.name)[..., :2] for field in fields(noise)))
    assert_equal(captured(*fewer, few_noise), roll(agent, *fewer, few_noise))
