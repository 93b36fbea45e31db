"""The recurrent policy: unrolling is stepping, burn-in skips padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds.actor_critic import PixelPolicy, PolicyState

BATCH, TIME = 3, 5


@pytest.fixture(scope="module")
def policy() -> PixelPolicy:
    torch.manual_seed(0)
    return PixelPolicy(small.ACTIONS, 8, small.RESOLUTION)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return small.frames(*shape, seed=seed).float() / 255


def assert_same(state: PolicyState, other: PolicyState) -> None:
    torch.testing.assert_close(state.hidden, other.hidden)
    torch.testing.assert_close(state.cell, other.cell)


def test_unrolling_equals_single_steps_in_values_and_gradients(policy: PixelPolicy) -> None:
    frames, state = pictures(BATCH, TIME), policy.burn_in(pictures(BATCH, 2, seed=1), torch.ones(BATCH, 2) > 0)
    gradients = []
    for is_unrolled in (True, False):
        policy.zero_grad()
        if is_unrolled:
            logits, values, last = policy.unroll(frames, state)
        else:
            current, steps = state, []
            for t in range(TIME):
                *step, current = policy(frames[:, t], current)
                steps.append(step)
            assert_same(current, last)
            torch.testing.assert_close(torch.stack([s[0] for s in steps], dim=1), logits)
            torch.testing.assert_close(torch.stack([s[1] for s in steps], dim=1), values)
            logits, values = torch.stack([s[0] for s in steps], dim=1), torch.stack([s[1] for s in steps], dim=1)
        (logits.square().sum() + values.square().sum()).backward()
        gradients.append([parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(policy.parameters()))
    for unrolled, stepped in zip(*gradients):
        torch.testing.assert_close(unrolled, stepped, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(valid=st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH))
def test_burn_in_of_a_padded_row_is_the_burn_in_of_its_real_frames(policy: PixelPolicy, valid: list[int]) -> None:
    frames = pictures(BATCH, TIME)
    mask = torch.arange(TIME) >= TIME - torch.tensor(valid)[:, None]
    state = policy.burn_in(frames, mask)
    for row, count in enumerate(valid):
        alone = policy.initial_state(1)
        for t in range(TIME - count, TIME):
            with torch.no_grad():
                alone = policy.advance(policy.features(frames[row : row + 1, t]), alone)
        torch.testing.assert_close(state.hidden[row : row + 1], alone.hidden)
        torch.testing.assert_close(state.cell[row : row + 1], alone.cell)


def test_burn_in_has_no_gradient_and_ignores_what_stands_in_padding(policy: PixelPolicy) -> None:
    frames, mask = pictures(BATCH, TIME), torch.arange(TIME).expand(BATCH, -1) >= 2
    state = policy.burn_in(frames, mask)
    assert not state.hidden.requires_grad
    other = torch.where(mask[..., None, None, None], frames, pictures(BATCH, TIME, seed=9))
    assert torch.equal(policy.burn_in(other, mask).hidden, state.hidden)


def test_burn_in_of_no_frames_is_the_zero_state(policy: PixelPolicy) -> None:
    state = policy.burn_in(pictures(BATCH, 0), torch.zeros(BATCH, 0, dtype=torch.bool))
    assert state.hidden.shape == (BATCH, 8) and not state.hidden.any() and not state.cell.any()


def test_rows_of_a_batch_do_not_meet(policy: PixelPolicy) -> None:
    frames = pictures(BATCH, TIME)
    logits, values, _ = policy.unroll(frames, policy.initial_state(BATCH))
    alone, value, _ = policy.unroll(frames[1:2], policy.initial_state(1))
    torch.testing.assert_close(alone, logits[1:2])
    torch.testing.assert_close(value, values[1:2])


def test_the_policy_itself_remembers_nothing(policy: PixelPolicy) -> None:
    frames, state = pictures(BATCH), policy.initial_state(BATCH)
    first = policy(frames, state)[0]
    policy(pictures(BATCH, seed=1), state)
    assert torch.equal(policy(frames, state)[0], first)


def test_gradient_flows_through_time_but_not_into_the_burn_in(policy: PixelPolicy) -> None:
    frames = pictures(1, 3).requires_grad_()
    state = policy.burn_in(frames, torch.ones(1, 3, dtype=torch.bool))
    more = pictures(1, 3, seed=1).requires_grad_()
    logits, _, _ = policy.unroll(more, state)
    logits[:, -1].sum().backward()
    assert frames.grad is None
    assert more.grad is not None and more.grad.flatten(2).any(dim=-1).all()
