"""The scale of returns: which batches count, and that a resumed one goes on. Numbers of the published code:
tests/golden."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.actor_critic import ReturnScale


def batches(*sizes: int, spread: float = 10.0) -> list[Tensor]:
    draws = small.generator()
    return [spread * torch.randn(size, 4, generator=draws) for size in sizes]


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), limit=st.integers(1, 4))
def test_the_window_is_the_last_batches_and_the_present_one(sizes: list[int], limit: int) -> None:
    """Of whatever sizes."""
    scale, given = ReturnScale(limit), batches(*sizes)
    for index, batch in enumerate(given):
        divisor = scale(batch)
        window = torch.cat(given[max(0, index - limit) : index + 1]).flatten()
        expected = window.quantile(torch.tensor([0.025, 0.975]))
        torch.testing.assert_close(scale.quantiles(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(divisor, ((expected[1] - expected[0]) / 2).clamp(min=1), rtol=1e-4, atol=1e-4)


def test_small_returns_are_not_blown_up() -> None:
    assert ReturnScale(3)(batches(5, spread=0.01)[0]) == 1


@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_resumed_scale_goes_on(before: int) -> None:
    given = batches(*[3] * 8)
    scale, resumed = ReturnScale(3), ReturnScale(3)
    for batch in given[:before]:
        scale(batch)
    resumed.load_state(scale.state())
    for batch in given[before:]:
        assert torch.equal(scale(batch), resumed(batch))


def test_nothing_waits_for_the_device() -> None:
    scale = ReturnScale(2)
    with without_synchronisation():
        for batch in batches(3, 3, 2, 3):
            scale(batch)


def test_returns_of_a_graph_leave_no_trace() -> None:
    returns = batches(3)[0].requires_grad_()
    assert not ReturnScale(2)(returns).requires_grad
