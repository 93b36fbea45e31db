"""Rollouts of a policy inside a world model."""

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.actor_critic import PolicyState, actor_critic_losses, lambda_returns, trajectory_losses
from tokenworlds.actor_critic.losses import Trajectory
from tokenworlds.agents.base import Agent
from tokenworlds.agents.imagination import CapturedImagination, ImaginationNoise, _tensors, imagine
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import Backbone, BehaviourTrainingConfig, Decoding, Recurrence, Scalar
from tokenworlds.envs import ContinuousActions, MultiDiscreteActions

BATCH, HORIZON = 3, 4
TOKEN_AGENTS: dict[str, Callable[[], TokenAgent]] = {
    "iris": small.agent,
    "rem": small.rem_agent,
    "rem without pop": lambda: small.rem_agent(decoding=Decoding.autoregressive),
    "pop by attention": lambda: small.rem_agent(backbone=Backbone.transformer),
    "pop by lstm": lambda: small.rem_agent(backbone=Backbone.lstm),
    "transformer-xl": lambda: small.agent(backbone=Backbone.transformer_xl),
    "mamba": lambda: small.agent(backbone=Backbone.mamba),
    "cfc": lambda: small.agent(backbone=Backbone.cfc),
    "gru in the policy": lambda: small.rem_agent(recurrence=Recurrence.gru, action_input=False),
    "m3": small.m3_agent,
    "m3 of several choices": lambda: small.m3_agent(actions=MultiDiscreteActions((3, 2))),
    "m3 of numbers": lambda: small.m3_agent(actions=ContinuousActions(2)),
    "m3 of whole vectors": lambda: small.m3_agent(actions=ContinuousActions(2), tokenized_actions=False),
    "m3 by attention": lambda: small.m3_agent(backbone=Backbone.transformer, max_blocks=3),
}
AGENTS: dict[str, Callable[[], Agent]] = {
    **TOKEN_AGENTS,
    "delta_iris": small.delta_agent,
    "delta_iris of numbers": lambda: small.delta_agent(rewards=Scalar.two_hot, values=Scalar.two_hot),
    "retnet without frame tokens": lambda: small.delta_agent(backbone=Backbone.retnet, frame_tokens=False),
    "consistency": small.consistency_agent,
    "a past that is dropped": lambda: small.delta_agent(max_blocks=4, recurrence=Recurrence.gru),
}

Start = tuple[Any, PolicyState, ImaginationNoise]


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]()


def start(agent: Agent, seed: int = 0, horizon: int = HORIZON) -> Start:
    """The context, the policy's state and the noise."""
    buffer = small.buffer([3] * BATCH, seed=seed, spec=small.spec_of(agent))
    segments = buffer.segments(torch.arange(BATCH), torch.zeros(BATCH, dtype=torch.int64), 3)
    draws = agent.policy.actions.draws
    noise = ImaginationNoise.sample(horizon, agent.num_draws, BATCH, small.generator(seed), draws)
    return agent.context(segments), agent.burn_in(segments.steps(slice(None, -1))), noise


def roll(agent: Agent, context: Any, state: PolicyState, noise: ImaginationNoise) -> Trajectory:
    return imagine(agent, context, state, noise)


def mapped(context: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return type(context)(*(part if part is None else change(part) for part in context))


def in_double(agent: Agent) -> tuple[Agent, Start]:
    """A copy of the agent and its start, in which no rounding of a frame to 8 bits falls one way here and the other
    there."""
    context, state, noise = start(agent)
    exact = mapped(context, lambda part: part.double() if part.is_floating_point() else part)
    return copy.deepcopy(agent).double(), (exact, PolicyState(state.hidden.double(), state.cell.double()), noise)


def assert_equal(first: Trajectory, second: Trajectory) -> None:
    for field in fields(Trajectory):
        torch.testing.assert_close(getattr(first, field.name), getattr(second, field.name), msg=field.name)


def test_the_noise_decides_the_trajectory(agent: Agent) -> None:
    first = roll(agent, *start(agent))
    state = torch.random.get_rng_state()
    assert_equal(roll(agent, *start(agent)), first)
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing else is drawn
    other = roll(agent, *start(agent)[:2], start(agent, seed=1)[2])
    assert torch.equal(other.observations[:, 0], first.observations[:, 0])
    assert not torch.equal(other.observations, first.observations)


def test_shapes_depend_on_batch_and_horizon_alone(agent: Agent) -> None:
    for seed in range(3):
        given = start(agent, seed)
        trajectory = roll(agent, *given)
        with torch.no_grad():
            seen = agent.observe_imagined(agent.start(given[0])).shape[1:]
        assert trajectory.observations.shape == (BATCH, HORIZON, *seen)
        assert trajectory.actions.shape == (BATCH, HORIZON, *small.spec_of(agent).actions.shape)
        assert trajectory.rewards.shape == trajectory.terminations.shape == (BATCH, HORIZON - 1)
        are_signs = set(trajectory.rewards.unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert are_signs == (agent.world_model.rewards.width == 3)
        assert set(trajectory.terminations.unique().tolist()) <= {0, 1}
        assert trajectory.actions.max() < small.ACTIONS


def test_a_rollout_to_the_end_also_tells_of_the_last_action(agent: Agent) -> None:
    context, policy_state, noise = start(agent)
    usual, whole = roll(agent, *start(agent)), imagine(agent, context, policy_state, noise, to_the_end=True)
    assert_equal(replace(whole, rewards=whole.rewards[:, :-1], terminations=whole.terminations[:, :-1]), usual)
    with torch.no_grad():
        state = agent.start(context)
        for t, actions in enumerate(whole.actions.unbind(1)):
            state, rewards, ends = agent.step(state, actions, noise.step(t))
            torch.testing.assert_close(whole.rewards[:, t], rewards)
            assert torch.equal(whole.terminations[:, t], ends)


def test_a_rollout_waits_for_nothing(agent: Agent) -> None:
    given = start(agent)
    with without_synchronisation():
        roll(agent, *given)


@pytest.mark.parametrize("name", TOKEN_AGENTS)
def test_observations_are_what_is_seen_of_the_tokens(name: str) -> None:
    agent = TOKEN_AGENTS[name]()
    context, state, noise = start(agent)
    with small.observed_tokens(agent) as looked:
        trajectory = roll(agent, context, state, noise)
    assert len(looked) == HORIZON
    for t, tokens in enumerate(looked):
        torch.testing.assert_close(trajectory.observations[:, t], agent.policy_input(tokens))


def test_rows_of_a_batch_do_not_meet(agent: Agent) -> None:
    exact, (context, state, noise) = in_double(agent)
    whole = roll(exact, context, state, noise)
    alone = roll(
        exact,
        mapped(context, lambda part: part[1:2]),
        PolicyState(state.hidden[1:2], state.cell[1:2]),
        ImaginationNoise(*(getattr(noise, field.name)[..., 1:2] for field in fields(noise))),
    )
    for field in fields(Trajectory):
        torch.testing.assert_close(getattr(alone, field.name), getattr(whole, field.name)[1:2])


@pytest.mark.parametrize("draws", [1, 3])
def test_noise_of_a_step_belongs_to_that_step(draws: int) -> None:
    noise = ImaginationNoise.sample(3, 4, 2, small.generator(), draws)
    assert noise.actions.shape == (3, draws, 2)
    step = noise.step(1)
    assert torch.equal(step.reward, noise.rewards[1]) and torch.equal(step.end, noise.terminations[1])
    assert torch.equal(step.tokens, noise.tokens[1]) and step.tokens.shape == (4, 2)
    everything = torch.cat([getattr(noise, field.name).flatten() for field in fields(noise)])
    assert len(everything.unique()) == len(everything) and everything.min() >= 0 and everything.max() < 1


def loss(
    agent: Agent, logits: Tensor, outputs: Tensor, trajectory: Trajectory, config: BehaviourTrainingConfig
) -> Tensor:
    """With what the policy said during the rollout."""
    values, past = agent.policy.values.mean(outputs).detach(), slice(None, -1)
    returns = lambda_returns(trajectory.rewards, values, trajectory.terminations, config.gamma, config.lambda_)
    given = (logits[:, past], outputs[:, past], trajectory.actions[:, past], returns, values[:, past])
    heads = agent.policy.values, agent.policy.actions
    return actor_critic_losses(*given, *heads, entropy_weight=config.entropy_weight).total


def gradients(agent: Agent) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in agent.policy.parameters() if parameter.grad is not None]


def test_the_unrolled_policy_has_the_gradient_of_a_rollout_that_keeps_it(agent: Agent) -> None:
    """As the published loop does it: the policy's outputs of the rollout itself enter the loss."""
    exact, (context, first_state, noise) = in_double(agent)
    trajectory = roll(exact, context, first_state, noise)
    config = BehaviourTrainingConfig(gamma=0.99, lambda_=0.9, entropy_weight=0.01)
    trajectory_losses(exact.policy, trajectory, first_state, config).total.backward()
    unrolled = gradients(exact)

    exact.zero_grad()
    policy_state, all_logits, all_outputs, actions = first_state, [], [], []
    with torch.no_grad():
        state = exact.start(context)
    for t in range(HORIZON):
        observation = exact.observe_imagined(state) if t else exact.first_input(context)
        step_logits, step_outputs, policy_state = exact.policy(observation, policy_state)
        action = exact.policy.actions.sample(step_logits.detach(), noise.actions[t])
        policy_state = exact.policy.observe_action(action, policy_state)
        with torch.no_grad():
            state, *_ = exact.step(state, action, noise.step(t), predict_observation=t < HORIZON - 1)
        all_logits.append(step_logits)
        all_outputs.append(step_outputs)
        actions.append(action)
    assert torch.equal(torch.stack(actions[:-1], 1), trajectory.actions[:, :-1])
    loss(exact, torch.stack(all_logits, 1), torch.stack(all_outputs, 1), trajectory, config).backward()
    stepped = gradients(exact)
    assert len(unrolled) == len(stepped) == len(list(exact.policy.parameters()))
    for one, other in zip(unrolled, stepped):
        torch.testing.assert_close(one, other)
    assert all(p.grad is None for p in (*exact.world_model.parameters(), *exact.tokenizer.parameters()))


class Replay:
    """In the place of a captured graph."""

    def replay(self) -> None:
        pass


def test_a_captured_rollout_does_not_take_the_gradient_of_a_burn_in_that_learns() -> None:
    """It would keep the graph of every batch before it, whose weights have changed since."""
    agent = small.rem_agent()
    context, state, noise = start(agent)
    captured, trajectory = CapturedImagination(agent, BATCH), roll(agent, context, state, noise)
    inputs = [value.clone() for value in _tensors(context, state, noise)]
    captured._captured = (Replay(), inputs, trajectory)
    state.hidden.requires_grad_()
    assert captured(context, state, noise) is trajectory
    assert not any(value.requires_grad for value in inputs)


@pytest.mark.gpu
@pytest.mark.usefixtures("without_tf32")
@pytest.mark.parametrize("name", AGENTS)
def test_a_captured_rollout_equals_the_plain_one(name: str) -> None:
    there, agent = AGENTS[name](), AGENTS[name]().cuda()

    def on_gpu(seed: int) -> Start:
        context, state, noise = start(there, seed)
        moved = ImaginationNoise(*(getattr(noise, field.name).cuda() for field in fields(noise)))
        on_device = mapped(context, Tensor.cuda)
        learning = PolicyState(state.hidden.cuda().requires_grad_(), state.cell.cuda())  # as burn-in may leave it
        return on_device, learning, moved

    captured = CapturedImagination(agent, BATCH)
    for seed in range(4):  # the first call captures, the others replay
        assert_equal(captured(*on_gpu(seed)), roll(agent, *on_gpu(seed)))
    with torch.no_grad():
        agent.policy.actor.weight.mul_(-1)  # an optimiser changes parameters in place: the graph sees it
    assert_equal(captured(*on_gpu(0)), roll(agent, *on_gpu(0)))
    context, state, noise = on_gpu(1)  # fewer rows than were captured: the last batch of a pass
    fewer = (mapped(context, lambda part: part[:2]), PolicyState(state.hidden[:2], state.cell[:2]))
    few_noise = ImaginationNoise(*(getattr(noise, field.name)[..., :2] for field in fields(noise)))
    assert_equal(captured(*fewer, few_noise), roll(agent, *fewer, few_noise))
