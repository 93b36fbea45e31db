"""Identities of lambda-returns and of the actor-critic loss. Numbers of the published code: tests/golden."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tokenworlds.actor_critic import ActorCriticLosses, action_head, actor_critic_losses, lambda_returns, until_end
from tokenworlds.config import Scalar
from tokenworlds.world_models import heads as scalars

GAMMA = 0.9
BATCH, TIME = 3, 5
ACTIONS = action_head(small.DISCRETE, 1)


def episode(seed: int = 0, ends: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values (one more) and end flags."""
    draws = small.generator(seed)
    rewards = torch.randn(BATCH, TIME, generator=draws)
    values = torch.randn(BATCH, TIME + 1, generator=draws)
    flags = torch.rand(BATCH, TIME, generator=draws) < 0.3 if ends else torch.zeros(BATCH, TIME)
    return rewards, values, flags.long()


# Returns


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99))
def test_lambda_zero_is_the_one_step_target(seed: int) -> None:
    rewards, values, ends = episode(seed, ends=True)
    returns = lambda_returns(rewards, values, ends, GAMMA, 0.0)
    torch.testing.assert_close(returns, rewards + GAMMA * (1 - ends) * values[:, 1:])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99))
def test_lambda_one_is_the_discounted_sum_up_to_the_end_or_the_last_value(seed: int) -> None:
    rewards, values, ends = episode(seed, ends=True)
    returns = lambda_returns(rewards, values, ends, GAMMA, 1.0)
    for b in range(BATCH):
        for t in range(TIME):
            expected, discount = torch.tensor(0.0), 1.0
            for s in range(t, TIME):
                expected = expected + discount * rewards[b, s]
                discount *= GAMMA
                if ends[b, s]:
                    break
            else:
                expected = expected + discount * values[b, -1]
            torch.testing.assert_close(returns[b, t], expected)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), lambda_=st.floats(0, 1), cut=st.integers(0, TIME - 1))
def test_nothing_after_an_end_reaches_before_it(seed: int, lambda_: float, cut: int) -> None:
    rewards, values, ends = episode(seed)
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
    for t in reversed(range(TIME)):
        values[:, t] = rewards[:, t] + GAMMA * values[:, t + 1]
    returns = lambda_returns(rewards, values, ends, GAMMA, lambda_)
    torch.testing.assert_close(returns, values[:, :-1], rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.lists(st.booleans(), min_size=TIME, max_size=TIME), min_size=1, max_size=4))
def test_the_mask_is_true_up_to_and_including_the_first_end(rows: list[list[bool]]) -> None:
    expected = [[not any(row[:t]) for t in range(TIME)] for row in rows]
    ends = torch.tensor(rows)
    assert until_end(ends).tolist() == until_end(ends.long()).tolist() == expected
    assert until_end(ends).dtype is torch.bool


# Losses


@pytest.fixture(params=[Scalar.regression, Scalar.two_hot])
def kind(request: pytest.FixtureRequest) -> Iterator[Scalar]:
    yield request.param


def losses(
    logits: Tensor, outputs: Tensor, kind: Scalar, mask: Tensor | None = None, weight: float = 0.01
) -> ActorCriticLosses:
    """Of a drawn trajectory, whose returns are ``episode``'s rewards."""
    returns, baselines, _ = episode()
    actions = torch.randint(small.ACTIONS, (BATCH, TIME), generator=small.generator())
    head = scalars.build(kind)
    return actor_critic_losses(
        logits, outputs, actions, returns, baselines[:, :-1], head, ACTIONS, entropy_weight=weight, mask=mask
    )


def outputs_of(kind: Scalar) -> tuple[Tensor, Tensor]:
    """An actor's and a critic's."""
    draws = small.generator(1000)
    logits = torch.randn(BATCH, TIME, small.ACTIONS, generator=draws)
    outputs = torch.randn(BATCH, TIME, scalars.build(kind).width, generator=draws)
    return logits.requires_grad_(), outputs.requires_grad_()


def test_actor_and_critic_do_not_train_each_other(kind: Scalar) -> None:
    logits, outputs = outputs_of(kind)
    parts = losses(logits, outputs, kind)
    assert torch.autograd.grad(parts.actions, outputs, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(parts.values, logits, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(parts.entropy, outputs, allow_unused=True)[0] is None


def test_the_value_loss_of_iris_is_exactly_the_squared_error() -> None:
    logits, outputs = outputs_of(Scalar.regression)
    returns = episode()[0]
    found, expected = losses(logits, outputs, Scalar.regression).values, F.mse_loss(outputs.squeeze(-1), returns)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(loss, outputs)[0] for loss in (found, expected)]
    assert torch.equal(*gradients)


def test_uniform_logits_have_the_largest_entropy_and_no_entropy_gradient(kind: Scalar) -> None:
    _, outputs = outputs_of(kind)
    logits = torch.zeros(BATCH, TIME, small.ACTIONS, requires_grad=True)
    parts, largest = losses(logits, outputs, kind, weight=0.5), torch.tensor(float(small.ACTIONS)).log()
    torch.testing.assert_close(parts.entropy, -0.5 * largest)
    torch.testing.assert_close(parts.measured["policy_entropy"], largest)
    assert not parts.measured["policy_entropy"].requires_grad
    parts.entropy.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-8, rtol=0)


def test_an_action_better_than_the_baseline_becomes_more_likely(kind: Scalar) -> None:
    logits, head = torch.zeros(1, 1, small.ACTIONS, requires_grad=True), scalars.build(kind)
    outputs, actions = torch.zeros(1, 1, head.width), torch.tensor([[1]])
    returns, baselines = torch.tensor([[1.5]]), torch.tensor([[0.5]])
    actor_critic_losses(
        logits, outputs, actions, returns, baselines, head, ACTIONS, entropy_weight=0.0
    ).total.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0], torch.tensor([1 / 3, -2 / 3, 1 / 3]))


def test_masked_steps_do_not_count(kind: Scalar) -> None:
    """The mean is that of the rest: here of the first row alone, and of its first two steps."""
    logits, outputs = outputs_of(kind)
    mask = torch.zeros(BATCH, TIME, dtype=torch.bool)
    mask[0, :2] = True
    masked = losses(logits, outputs, kind, mask)
    masked.total.backward()
    for gradient in (logits.grad, outputs.grad):
        assert gradient is not None and torch.equal(gradient.any(dim=-1), mask)
    returns, baselines, _ = episode()
    actions = torch.randint(small.ACTIONS, (BATCH, TIME), generator=small.generator())
    few = [x[:1, :2] for x in (logits, outputs, actions, returns, baselines)]
    alone = actor_critic_losses(*few, scalars.build(kind), ACTIONS, entropy_weight=0.01)
    for name, value in alone.named().items():
        torch.testing.assert_close(masked.named()[name], value)
    torch.testing.assert_close(masked.measured["policy_entropy"], alone.measured["policy_entropy"])
