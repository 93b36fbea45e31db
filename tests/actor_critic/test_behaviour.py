"""What is learnt from an imagined trajectory: the last look only bootstraps, a target network judges from aside."""

from __future__ import annotations

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
    behaviour_losses,
    build_frame_policy,
    follow,
    lambda_returns,
)
from tokenworlds.actor_critic.trajectory import Trajectory
from tokenworlds.config import BehaviourTrainingConfig, DeltaPolicyConfig, EncoderConfig, Recurrence, Scalar

BATCH, LOOKS = 3, 5
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
        observations=small.frames(BATCH, LOOKS, seed=3).float() / 255,
        actions=torch.randint(small.ACTIONS, (BATCH, LOOKS), generator=draws),
        rewards=torch.randn(BATCH, LOOKS - 1, generator=draws),
        ends=torch.zeros(BATCH, LOOKS - 1, dtype=torch.int64),
    )


def state_of(policy: Policy, seed: int = 0) -> PolicyState:
    draws = small.generator(seed)
    return PolicyState(*(torch.randn(BATCH, policy.recurrence.hidden_size, generator=draws) for _ in range(2)))


def gradients(policy: Policy) -> list[Tensor]:
    found = [parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None]
    policy.zero_grad()
    assert len(found) == len(list(policy.parameters()))
    return found


def test_without_a_target_the_policy_judges_itself(policy: Policy, trajectory: Trajectory) -> None:
    """The losses are those of ``actor_critic_losses`` with the policy's own values as they stand."""
    state = state_of(policy)
    losses = behaviour_losses(policy, trajectory, state, CONFIG)
    logits, outputs, _ = policy.unroll(trajectory.observations, trajectory.actions, state)
    values = policy.values.mean(outputs).detach()
    returns = lambda_returns(trajectory.rewards, values, trajectory.ends, 0.9, 0.8)
    given = (logits[:, :-1], outputs[:, :-1], trajectory.actions[:, :-1], returns, values[:, :-1])
    heads = policy.values, policy.actions
    for name, value in actor_critic_losses(*given, *heads, entropy_weight=0.01).named().items():
        assert torch.equal(losses.named()[name], value)


def test_a_target_equal_to_the_policy_changes_nothing(policy: Policy, trajectory: Trajectory) -> None:
    state = state_of(policy)
    behaviour_losses(policy, trajectory, state, CONFIG).total.backward()
    own = gradients(policy)
    behaviour_losses(policy, trajectory, state, CONFIG, (policy, state)).total.backward()
    for one, other in zip(own, gradients(policy)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_baseline_and_bootstrap_are_the_targets(policy: Policy, target: Policy, trajectory: Trajectory) -> None:
    """A policy that says nothing of values leaves the losses of the actor where they are."""
    state, aside = state_of(policy), state_of(target, seed=1)
    before = behaviour_losses(policy, trajectory, state, CONFIG, (target, aside))
    values = target.values.mean(target.unroll(trajectory.observations, trajectory.actions, aside)[1])
    returns = lambda_returns(trajectory.rewards, values, trajectory.ends, 0.9, 0.8)
    logits, outputs, _ = policy.unroll(trajectory.observations[:, :-1], trajectory.actions[:, :-1], state)
    chosen = logits.log_softmax(-1).gather(-1, trajectory.actions[:, :-1, None]).squeeze(-1)
    torch.testing.assert_close(before.actions, -(chosen * (returns - values[:, :-1])).mean())
    torch.testing.assert_close(before.values, policy.values.loss(outputs, returns).mean())
    policy.critic.weight.data.zero_()
    after = behaviour_losses(policy, trajectory, state, CONFIG, (target, aside))
    assert torch.equal(after.actions, before.actions) and not torch.equal(after.values, before.values)


def test_a_target_gets_no_gradient(policy: Policy, trajectory: Trajectory) -> None:
    target = make(Scalar.regression, seed=1)  # not frozen
    behaviour_losses(policy, trajectory, state_of(policy), CONFIG, (target, state_of(target))).total.backward()
    assert all(parameter.grad is None for parameter in target.parameters())
    gradients(policy)


@pytest.mark.parametrize("has_target", [False, True])
def test_the_last_look_only_bootstraps(
    policy: Policy, target: Policy, trajectory: Trajectory, has_target: bool
) -> None:
    """Its action does not matter, and what is seen of it only where no end stands before it."""
    aside = (target, state_of(target)) if has_target else None

    def losses(of: Trajectory) -> Tensor:
        return behaviour_losses(policy, of, state_of(policy), CONFIG, aside).total

    last = torch.arange(LOOKS) == LOOKS - 1
    other = replace(trajectory, actions=torch.where(last, (trajectory.actions + 1) % small.ACTIONS, trajectory.actions))
    assert torch.equal(losses(other), losses(trajectory))
    blind = replace(trajectory, observations=trajectory.observations * ~last[:, None, None, None])
    assert not torch.equal(losses(blind), losses(trajectory))
    ended = torch.ones_like(trajectory.ends)
    assert torch.equal(losses(replace(blind, ends=ended)), losses(replace(trajectory, ends=ended)))


def test_steps_behind_an_end_count_unless_the_configuration_says_otherwise(
    policy: Policy, trajectory: Trajectory
) -> None:
    trajectory.ends[:, 1] = 1
    other = replace(trajectory, rewards=trajectory.rewards + torch.tensor([0.0, 0, 5, 5]))
    for stop_at_end in (False, True):
        config = replace(CONFIG, stop_at_end=stop_at_end)
        losses = [behaviour_losses(policy, some, state_of(policy), config).total for some in (trajectory, other)]
        assert torch.equal(*losses) is stop_at_end


def test_the_losses_of_a_stopped_trajectory_are_those_of_its_steps(policy: Policy, trajectory: Trajectory) -> None:
    trajectory.ends[:, 1] = 1
    config = replace(CONFIG, stop_at_end=True)
    whole = behaviour_losses(policy, trajectory, state_of(policy), config).named()
    counts = {"observations": 3, "actions": 3, "rewards": 2, "ends": 2}
    short = Trajectory(**{name: getattr(trajectory, name)[:, :count] for name, count in counts.items()})
    for name, value in behaviour_losses(policy, short, state_of(policy), CONFIG).named().items():
        torch.testing.assert_close(whole[name], value)


def test_the_last_look_counts_for_the_entropy_where_the_configuration_says_so(
    policy: Policy, target: Policy, trajectory: Trajectory
) -> None:
    state = state_of(policy)
    entropy = policy.actions.entropy(policy.unroll(trajectory.observations, trajectory.actions, state)[0])
    for aside in (None, (target, state_of(target))):
        before = behaviour_losses(policy, trajectory, state, CONFIG, aside)
        after = behaviour_losses(policy, trajectory, state, CONFIG, aside, entropy_of_last=True)
        torch.testing.assert_close(before.entropy, -0.01 * entropy[:, :-1].mean())
        torch.testing.assert_close(after.entropy, -0.01 * entropy.mean())
        assert torch.equal(after.actions, before.actions) and torch.equal(after.values, before.values)


def test_the_last_look_does_not_count_behind_an_end(policy: Policy, trajectory: Trajectory) -> None:
    trajectory.ends[0, 1] = 1
    config, state = replace(CONFIG, stop_at_end=True), state_of(policy)
    logits, _, _ = policy.unroll(trajectory.observations, trajectory.actions, state)
    entropy = policy.actions.entropy(logits)
    counted = torch.cat([entropy[0, :2], entropy[1:].flatten()])
    losses = behaviour_losses(policy, trajectory, state, config, entropy_of_last=True)
    torch.testing.assert_close(losses.entropy, -0.01 * counted.mean())


def test_a_scale_divides_what_the_actor_learns_from(policy: Policy, trajectory: Trajectory) -> None:
    trajectory.rewards *= 100
    state, scale = state_of(policy), ReturnScale(2)
    before = behaviour_losses(policy, trajectory, state, CONFIG)
    after = behaviour_losses(policy, trajectory, state, CONFIG, scale=scale)
    divisor = after.measured["returns_scale"]
    assert divisor > 1 and "returns_scale" not in before.measured
    torch.testing.assert_close(after.actions, before.actions / divisor)
    assert torch.equal(after.values, before.values) and torch.equal(after.entropy, before.entropy)
    values = policy.values.mean(policy.unroll(trajectory.observations, trajectory.actions, state)[1]).detach()
    returns = lambda_returns(trajectory.rewards, values, trajectory.ends, 0.9, 0.8)
    torch.testing.assert_close(divisor, ReturnScale(2)(returns))


def test_where_only_the_critic_learns_the_actor_has_no_gradient(policy: Policy, trajectory: Trajectory) -> None:
    before = behaviour_losses(policy, trajectory, state_of(policy), CONFIG)
    losses = behaviour_losses(policy, trajectory, state_of(policy), CONFIG, critic_only=True)
    assert not losses.actions and not losses.entropy and torch.equal(losses.values, before.values)
    assert torch.equal(losses.measured["policy_entropy"], before.measured["policy_entropy"])
    losses.total.backward()
    assert policy.actor.weight.grad is None and policy.critic.weight.grad is not None
    assert policy.recurrence.weight_ih.grad is not None


def test_nothing_waits_for_the_device(policy: Policy, target: Policy, trajectory: Trajectory) -> None:
    config, aside = replace(CONFIG, stop_at_end=True), (target, state_of(target))
    given, scale = (policy, trajectory, state_of(policy), config, aside), ReturnScale(2)
    with without_synchronisation():
        behaviour_losses(*given, scale=scale)
        follow(target, policy, 0.9)


def test_losses_under_autocast_are_full_precision(policy: Policy, target: Policy, trajectory: Trajectory) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = behaviour_losses(policy, trajectory, state_of(policy), CONFIG, (target, state_of(target)))
    assert {value.dtype for value in losses.named().values()} == {torch.float32}


def test_a_target_follows_by_a_share_of_the_way(policy: Policy, target: Policy) -> None:
    before = {name: value.clone() for name, value in target.state_dict().items()}
    places = [parameter.data_ptr() for parameter in target.parameters()]
    online = {name: value.clone() for name, value in policy.state_dict().items()}
    follow(target, policy, 0.9)
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * online[name])
    assert [parameter.data_ptr() for parameter in target.parameters()] == places
    assert all(torch.equal(value, online[name]) for name, value in policy.state_dict().items())
    assert not any(parameter.requires_grad for parameter in target.parameters())
