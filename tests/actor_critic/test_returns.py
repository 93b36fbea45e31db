"""Identities of lambda-returns and of the actor-critic loss. Numbers of the published code: tests/golden."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds.actor_critic import actor_critic_losses, lambda_returns

GAMMA = 0.9


def episode(batch: int = 3, time: int = 6, seed: int = 0, ends: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    draws = small.generator(seed)
    rewards = torch.randn(batch, time, generator=draws)
    values = torch.randn(batch, time, generator=draws)
    flags = torch.rand(batch, time, generator=draws) < 0.3 if ends else torch.zeros(batch, time)
    return rewards, values, flags.long()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99))
def test_lambda_zero_is_the_one_step_target(seed: int) -> None:
    rewards, values, ends = episode(seed=seed, ends=True)
    returns = lambda_returns(rewards, values, ends, GAMMA, 0.0)
    torch.testing.assert_close(returns[:, :-1], rewards[:, :-1] + GAMMA * (1 - ends[:, :-1]) * values[:, 1:])
    assert torch.equal(returns[:, -1], values[:, -1])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99))
def test_lambda_one_is_the_discounted_sum_up_to_the_end_or_the_last_value(seed: int) -> None:
    rewards, values, ends = episode(seed=seed, ends=True)
    returns = lambda_returns(rewards, values, ends, GAMMA, 1.0)
    for b in range(3):
        for t in range(5):
            expected, discount = torch.tensor(0.0), 1.0
            for s in range(t, 5):
                expected = expected + discount * rewards[b, s]
                discount *= GAMMA
                if ends[b, s]:
                    break
            else:
                expected = expected + discount * values[b, -1]
            torch.testing.assert_close(returns[b, t], expected)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), lambda_=st.floats(0, 1), cut=st.integers(0, 4))
def test_nothing_after_an_end_reaches_before_it(seed: int, lambda_: float, cut: int) -> None:
    rewards, values, ends = episode(seed=seed)
    ends[:, cut] = 1
    before = lambda_returns(rewards, values, ends, GAMMA, lambda_)[:, : cut + 1]
    rewards[:, cut + 1 :] += 100
    values[:, cut + 1 :] += 100
    assert torch.equal(lambda_returns(rewards, values, ends, GAMMA, lambda_)[:, : cut + 1], before)
    torch.testing.assert_close(before[:, cut], rewards[:, cut])


@given(lambda_=st.floats(0, 1))
@settings(deadline=None, max_examples=20)
def test_values_that_satisfy_the_bellman_equation_are_their_own_returns(lambda_: float) -> None:
    rewards, values, ends = episode()
    for t in reversed(range(5)):
        values[:, t] = rewards[:, t] + GAMMA * values[:, t + 1]
    torch.testing.assert_close(lambda_returns(rewards, values, ends, GAMMA, lambda_), values, rtol=1e-4, atol=1e-5)


def losses(logits: Tensor, values: Tensor, seed: int = 0, **changes: float):  # type: ignore[no-untyped-def]
    rewards, _, ends = episode(seed=seed, ends=True)
    actions = torch.randint(small.ACTIONS, (3, 6), generator=small.generator(seed))
    settings_ = {"gamma": GAMMA, "lambda_": 0.8, "entropy_weight": 0.01} | changes
    return actor_critic_losses(logits, values, actions, rewards, ends, **settings_)


def outputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = small.generator(seed + 1000)
    return torch.randn(3, 6, small.ACTIONS, generator=draws).requires_grad_(), torch.randn(
        3, 6, generator=draws
    ).requires_grad_()


def test_the_last_step_only_bootstraps() -> None:
    logits, values = outputs()
    losses(logits, values).total.backward()
    assert logits.grad is not None and values.grad is not None
    assert not logits.grad[:, -1].any() and not values.grad[:, -1].any()
    assert logits.grad[:, :-1].any(dim=-1).all() and values.grad[:, :-1].all()


def test_actor_and_critic_do_not_train_each_other() -> None:
    logits, values = outputs()
    parts = losses(logits, values)
    assert torch.autograd.grad(parts.actions, values, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(parts.values, logits, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(parts.entropy, values, allow_unused=True)[0] is None


def test_the_value_gradient_is_that_of_the_squared_error_to_fixed_returns() -> None:
    logits, values = outputs()
    losses(logits, values).values.backward()
    rewards, _, ends = episode(ends=True)
    returns = lambda_returns(rewards, values.detach(), ends, GAMMA, 0.8)
    expected = 2 * (values.detach() - returns)[:, :-1] / (3 * 5)
    assert values.grad is not None
    torch.testing.assert_close(values.grad[:, :-1], expected)


def test_uniform_logits_have_the_largest_entropy_and_no_entropy_gradient() -> None:
    logits = torch.zeros(3, 6, small.ACTIONS, requires_grad=True)
    entropy = losses(logits, torch.zeros(3, 6), entropy_weight=0.5).entropy
    torch.testing.assert_close(entropy, -0.5 * torch.tensor(float(small.ACTIONS)).log())
    entropy.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-8, rtol=0)


def test_an_action_better_than_expected_becomes_more_likely() -> None:
    logits = torch.zeros(1, 2, small.ACTIONS, requires_grad=True)
    actions, rewards = torch.tensor([[1, 0]]), torch.tensor([[1.0, 0.0]])
    parts = actor_critic_losses(
        logits, torch.zeros(1, 2), actions, rewards, torch.zeros(1, 2), gamma=GAMMA, lambda_=0.8, entropy_weight=0.0
    )
    parts.total.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0], torch.tensor([1 / 3, -2 / 3, 1 / 3]))
