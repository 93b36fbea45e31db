"""Losses of an imagined trajectory: the last step only bootstraps, a target network provides the values."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.actor_critic import (
    Policy,
    PolicyState,
    ReturnScale,
    actor_critic_losses,
    build_frame_policy,
    lambda_returns,
    trajectory_losses,
    update_ema,
)
from tokenworlds.actor_critic.losses import Trajectory
from tokenworlds.config import BehaviourTrainingConfig, DeltaPolicyConfig, EncoderConfig, Recurrence, Scalar

BATCH, STEPS = 3, 5
KINDS = [Scalar.regression, Scalar.two_hot]
CONFIG = BehaviourTrainingConfig(gamma=0.9, lambda_=0.8, entropy_weight=0.01)


def make(kind: Scalar, seed: int = 0) -> Policy:
    config = DeltaPolicyConfig(Recurrence.lstm, 8, kind, EncoderConfig(32, [1], [1], latent_dim=2))
    policy = build_frame_policy(config, small.picture_spec())
    return small.spread(policy, seed=seed)


@pytest.fixture(params=KINDS)
def policy(request: pytest.FixtureRequest) -> Policy:
    return make(request.param)


@pytest.fixture
def target(policy: Policy) -> Policy:
    kind = Scalar.regression if policy.critic.out_features == 1 else Scalar.two_hot
    return make(kind, seed=1).requires_grad_(False)


@pytest.fixture
def trajectory() -> Trajectory:
    draws = small.generator(2)
    return Trajectory(
        observations=small.frames(BATCH, STEPS, seed=3).float() / 255,
        actions=torch.randint(small.ACTIONS, (BATCH, STEPS), generator=draws),
        rewards=torch.randn(BATCH, STEPS - 1, generator=draws),
        terminations=torch.zeros(BATCH, STEPS - 1, dtype=torch.int64),
    )


def state_of(policy: Policy, seed: int = 0) -> PolicyState:
    draws = small.generator(seed)
    return PolicyState(*(torch.randn(BATCH, policy.recurrence.hidden_size, generator=draws) for _ in range(2)))


def gradients(policy: Policy) -> list[Tensor]:
    found = [parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None]
    policy.zero_grad()
    assert len(found) == len(list(policy.parameters()))
    return found


def test_without_a_target_the_policy_uses_its_own_values(policy: Policy, trajectory: Trajectory) -> None:
    """The losses are those of ``actor_critic_losses`` with the policy's own values as they stand."""
    state = state_of(policy)
    losses = trajectory_losses(policy, trajectory, state, CONFIG)
    logits, outputs, _ = policy.unroll(trajectory.observations, trajectory.actions, state)
    values = policy.values.mean(outputs).detach()
    returns = lambda_returns(trajectory.rewards, values, trajectory.terminations, 0.9, 0.8)
    given = (logits[:, :-1], outputs[:, :-1], trajectory.actions[:, :-1], returns, values[:, :-1])
    heads = policy.values, policy.actions
    for name, value in actor_critic_losses(*given, *heads, entropy_weight=0.01).named().items():
        assert torch.equal(losses.named()[name], value)


def test_a_target_equal_to_the_policy_changes_nothing(policy: Policy, trajectory: Trajectory) -> None:
    state = state_of(policy)
    trajectory_losses(policy, trajectory, state, CONFIG).total.backward()
    own = gradients(policy)
    trajectory_losses(policy, trajectory, state, CONFIG, (policy, state)).total.backward()
    for one, other in zip(own, gradients(policy)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_baseline_and_bootstrap_are_the_targets(policy: Policy, target: Policy, trajectory: Trajectory) -> None:
    """The critic's own outputs do not enter the losses of the actor."""
    state, aside = state_of(policy), state_of(target, seed=1)
    before = trajectory_losses(policy, trajectory, state, CONFIG, (target, aside))
    values = target.values.mean(target.unroll(trajectory.observations, trajectory.actions, aside)[1])
    returns = lambda_returns(trajectory.rewards, values, trajectory.terminations, 0.9, 0.8)
    logits, outputs, _ = policy.unroll(trajectory.observations[:, :-1], trajectory.actions[:, :-1], state)
    chosen = logits.log_softmax(-1).gather(-1, trajectory.actions[:, :-1, None]).squeeze(-1)
    torch.testing.assert_close(before.actions, -(chosen * (returns - values[:, :-1])).mean())
    torch.testing.assert_close(before.values, policy.values.loss(outputs, returns).mean())
    policy.critic.weight.data.zero_()
    after = trajectory_losses(policy, trajectory, state, CONFIG, (target, aside))
    assert torch.equal(after.actions, before.actions) and not torch.equal(after.values, before.values)


def test_a_target_gets_no_gradient(policy: Policy, trajectory: Trajectory) -> None:
    target = make(Scalar.regression, seed=1)  # not frozen
    trajectory_losses(policy, trajectory, state_of(policy), CONFIG, (target, state_of(target))).total.backward()
    assert all(parameter.grad is None for parameter in target.parameters())
    gradients(policy)


@pytest.mark.parametrize("has_target", [False, True])
def test_the_last_step_only_bootstraps(
    policy: Policy, target: Policy, trajectory: Trajectory, has_target: bool
) -> None:
    """Its action never matters, its observation only where no termination precedes it."""
    aside = (target, state_of(target)) if has_target else None

    def losses(of: Trajectory) -> Tensor:
        return trajectory_losses(policy, of, state_of(policy), CONFIG, aside).total

    last = torch.arange(STEPS) == STEPS - 1
    other = replace(trajectory, actions=torch.where(last, (trajectory.actions + 1) % small.ACTIONS, trajectory.actions))
    assert torch.equal(losses(other), losses(trajectory))
    blind = replace(trajectory, observations=trajectory.observations * ~last[:, None, None, None])
    assert not torch.equal(losses(blind), losses(trajectory))
    ended = torch.ones_like(trajectory.terminations)
    assert torch.equal(losses(replace(blind, terminations=ended)), losses(replace(trajectory, terminations=ended)))


def test_the_losses_of_a_stopped_trajectory_are_those_of_its_steps(policy: Policy, trajectory: Trajectory) -> None:
    trajectory.terminations[:, 1] = 1
    config = replace(CONFIG, stop_at_end=True)
    whole = trajectory_losses(policy, trajectory, state_of(policy), config).named()
    counts = {"observations": 3, "actions": 3, "rewards": 2, "terminations": 2}
    short = Trajectory(**{name: getattr(trajectory, name)[:, :count] for name, count in counts.items()})
    for name, value in trajectory_losses(policy, short, state_of(policy), CONFIG).named().items():
        torch.testing.assert_close(whole[name], value)


def test_the_last_step_counts_for_the_entropy_where_the_configuration_says_so(
    policy: Policy, target: Policy, trajectory: Trajectory
) -> None:
    state = state_of(policy)
    entropy = policy.actions.entropy(policy.unroll(trajectory.observations, trajectory.actions, state)[0])
    for aside in (None, (target, state_of(target))):
        before = trajectory_losses(policy, trajectory, state, CONFIG, aside)
        after = trajectory_losses(policy, trajectory, state, CONFIG, aside, entropy_of_last=True)
        torch.testing.assert_close(before.entropy, -0.01 * entropy[:, :-1].mean())
        torch.testing.assert_close(after.entropy, -0.01 * entropy.mean())
        assert torch.equal(after.actions, before.actions) and torch.equal(after.values, before.values)


def test_the_last_step_does_not_count_behind_an_end(policy: Policy, trajectory: Trajectory) -> None:
    trajectory.terminations[0, 1] = 1
    config, state = replace(CONFIG, stop_at_end=True), state_of(policy)
    logits, _, _ = policy.unroll(trajectory.observations, trajectory.actions, state)
    entropy = policy.actions.entropy(logits)
    counted = torch.cat([entropy[0, :2], entropy[1:].flatten()])
    losses = trajectory_losses(policy, trajectory, state, config, entropy_of_last=True)
    torch.testing.assert_close(losses.entropy, -0.01 * counted.mean())


def test_a_scale_divides_the_advantages(policy: Policy, trajectory: Trajectory) -> None:
    trajectory.rewards *= 100
    state, scale = state_of(policy), ReturnScale(2)
    before = trajectory_losses(policy, trajectory, state, CONFIG)
    after = trajectory_losses(policy, trajectory, state, CONFIG, scale=scale)
    divisor = after.measured["returns_scale"]
    assert divisor > 1 and "returns_scale" not in before.measured
    torch.testing.assert_close(after.actions, before.actions / divisor)
    assert torch.equal(after.values, before.values) and torch.equal(after.entropy, before.entropy)
    values = policy.values.mean(policy.unroll(trajectory.observations, trajectory.actions, state)[1]).detach()
    returns = lambda_returns(trajectory.rewards, values, trajectory.terminations, 0.9, 0.8)
    torch.testing.assert_close(divisor, ReturnScale(2)(returns))


def test_where_only_the_critic_learns_the_actor_has_no_gradient(policy: Policy, trajectory: Trajectory) -> None:
    before = trajectory_losses(policy, trajectory, state_of(policy), CONFIG)
    losses = trajectory_losses(policy, trajectory, state_of(policy), CONFIG, critic_only=True)
    assert not losses.actions and not losses.entropy and torch.equal(losses.values, before.values)
    assert torch.equal(losses.measured["policy_entropy"], before.measured["policy_entropy"])
    losses.total.backward()
    assert policy.actor.weight.grad is None and policy.critic.weight.grad is not None
    assert policy.recurrence.weight_ih.grad is not None


def test_nothing_waits_for_the_device(policy: Policy, target: Policy, trajectory: Trajectory) -> None:
    config, aside = replace(CONFIG, stop_at_end=True), (target, state_of(target))
    given, scale = (policy, trajectory, state_of(policy), config, aside), ReturnScale(2)
    with without_synchronisation():
        trajectory_losses(*given, scale=scale)
        update_ema(target, policy, 0.9)


def test_losses_under_autocast_are_full_precision(policy: Policy, target: Policy, trajectory: Trajectory) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = trajectory_losses(policy, trajectory, state_of(policy), CONFIG, (target, state_of(target)))
    assert {value.dtype for value in losses.named().values()} == {torch.float32}


def test_the_ema_moves_all_parameters_in_place(policy: Policy, target: Policy) -> None:
    before = {name: value.clone() for name, value in target.state_dict().items()}
    places = [parameter.data_ptr() for parameter in target.parameters()]
    online = {name: value.clone() for name, value in policy.state_dict().items()}
    update_ema(target, policy, 0.9)
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * online[name])
    assert [parameter.data_ptr() for parameter in target.parameters()] == places
    assert all(torch.equal(value, online[name]) for name, value in policy.state_dict().items())
    assert not any(parameter.requires_grad for parameter in target.parameters())
