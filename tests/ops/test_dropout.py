"""Dropout on a CPU: the same law as torch's."""

import pytest
import torch
from torch import Tensor

from tokenworlds.ops.dropout import Dropout


def trained(rate: float, x: Tensor, seed: int = 0) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        out: Tensor = Dropout(rate).train()(x)
    return out


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_elements_are_dropped_at_the_rate_and_the_mean_is_kept(rate: float) -> None:
    out = trained(rate, torch.ones(1000, 1001))
    assert (out == 0).double().mean().item() == pytest.approx(rate, abs=0.002)
    assert out.double().mean().item() == pytest.approx(1, abs=0.01)


def test_what_is_kept_is_scaled_by_the_rounded_rate() -> None:
    out = trained(0.1, torch.full((1000,), 3.0, dtype=torch.float64))
    assert set(out.tolist()) == {0.0, 3 * 65536 / (65536 - 6554)}


def test_neighbours_are_dropped_independently() -> None:
    """Four draws share one number of the generator."""
    dropped = trained(0.3, torch.ones(250_000, 4)) == 0
    joint = dropped.double().T @ dropped.double() / len(dropped)
    expected = torch.full((4, 4), 0.09, dtype=torch.float64).fill_diagonal_(0.3)
    torch.testing.assert_close(joint, expected, rtol=0, atol=0.004)


def test_a_seed_decides_what_is_dropped() -> None:
    x = torch.ones(7, 11, 13)
    assert torch.equal(trained(0.5, x), trained(0.5, x))
    assert not torch.equal(trained(0.5, x), trained(0.5, x, seed=1))


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.full((5, 9, 3), 2.0, requires_grad=True)
    out = trained(0.4, x)
    out.backward(torch.full_like(out, 2.0))
    assert x.grad is not None and torch.equal(x.grad, out)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (2, 0, 4), ()])
def test_any_shape_is_kept_and_the_input_untouched(shape: tuple[int, ...]) -> None:
    x = torch.ones(shape)
    assert trained(0.5, x).shape == shape
    assert torch.equal(x, torch.ones(shape))


def test_layout_of_a_transposed_input_does_not_matter() -> None:
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).T.requires_grad_()
    out = trained(0.5, x)
    kept = out != 0
    torch.testing.assert_close(out, torch.where(kept, x * 2, 0.0))


def test_number_formats_are_kept() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert trained(0.5, torch.ones(9, dtype=dtype)).dtype == dtype


def test_evaluation_and_rate_zero_are_the_identity_and_draw_nothing() -> None:
    x = torch.ones(10)
    before = torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), found"):
        Dropout(rate)
