"""Heads that predict a number: symlog and its inverse, two-hot weights, losses and what imagination takes. Numbers of
the published code: tests/golden."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.config import Scalar
from tokenworlds.ops.symlog import symexp, symlog
from tokenworlds.world_models import heads as scalars
from tokenworlds.world_models.heads import HLGaussHead, TwoHotHead

WIDTHS = {Scalar.sign: 3, Scalar.regression: 1, Scalar.symlog: 1, Scalar.two_hot: 255, Scalar.hl_gauss: 129}
TWO_HOT = TwoHotHead()


def drawn(kind: Scalar, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, WIDTHS[kind], generator=small.generator(seed))


def sure_of(number: float) -> Tensor:
    """Outputs of the two-hot head that leave no doubt about a number's two neighbours."""
    return TWO_HOT.weights(symlog(torch.tensor([number], dtype=torch.float64))).log().clamp(min=-1e4)


@settings(deadline=None, max_examples=50)
@given(x=st.floats(-1e6, 1e6))
def test_symexp_undoes_symlog(x: float) -> None:
    number = torch.tensor([x], dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(number)), number)
    assert torch.equal(symlog(-number), -symlog(number))


@pytest.mark.parametrize("kind", Scalar)
@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_a_head_makes_one_number_of_its_outputs(kind: Scalar, shape: tuple[int, ...]) -> None:
    head, outputs = scalars.build(kind), drawn(kind, *shape)
    targets = torch.randn(shape, generator=small.generator(1))
    assert head.width == WIDTHS[kind]
    assert head.loss(outputs, targets).shape == shape
    assert head.mean(outputs).shape == head.sample(outputs, torch.rand(shape)).shape == shape


@pytest.mark.parametrize("kind", Scalar)
def test_the_loss_of_a_prediction_is_its_own(kind: Scalar) -> None:
    head, outputs = scalars.build(kind), drawn(kind, 2, 3)
    targets = torch.randn(2, 3, generator=small.generator(1))
    whole = head.loss(outputs, targets)
    for b in range(2):
        torch.testing.assert_close(head.loss(outputs[b], targets[b]), whole[b])


@pytest.mark.parametrize("kind", Scalar)
def test_descending_the_loss_brings_the_mean_to_the_target(kind: Scalar) -> None:
    """From the same outputs for all targets, as a network starts."""
    head, targets = scalars.build(kind), torch.tensor([-1.0, 0.0, 1.0])
    outputs = torch.zeros(3, head.width, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(outputs, targets).sum().backward()
        optimizer.step()
    torch.testing.assert_close(head.mean(outputs.detach()), targets, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in Scalar if kind is not Scalar.sign])
def test_imagination_takes_the_mean(kind: Scalar) -> None:
    head, outputs = scalars.build(kind), drawn(kind, 5)
    assert torch.equal(head.sample(outputs, torch.rand(5)), head.mean(outputs))


@pytest.mark.parametrize("kind", Scalar)
def test_nothing_waits_for_the_device(kind: Scalar) -> None:
    head, outputs, uniforms = scalars.build(kind), drawn(kind, 2, 3), torch.rand(2, 3)
    with without_synchronisation():
        head.loss(outputs, uniforms)
        head.sample(outputs, uniforms)
        head.mean(outputs)


@pytest.mark.parametrize("kind", Scalar)
def test_autocast_leaves_the_numbers_in_full_precision(kind: Scalar) -> None:
    head, outputs, targets = scalars.build(kind), drawn(kind, 7), torch.randn(7, generator=small.generator(1))
    expected = head.loss(outputs, targets), head.mean(outputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head.loss(outputs, targets), expected[0])
        assert torch.equal(head.mean(outputs), expected[1])


# Signs


def test_signs_are_drawn_in_their_proportions() -> None:
    head, count = scalars.build(Scalar.sign), 1000
    outputs = torch.tensor([0.2, 0.5, 0.3]).log().expand(count, 3)
    signs = head.sample(outputs, (torch.arange(count) + 0.5) / count)
    assert [(signs == sign).sum().item() for sign in (-1.0, 0.0, 1.0)] == [200, 500, 300]
    torch.testing.assert_close(signs.mean(), head.mean(outputs)[0])


# Two-hot


@settings(deadline=None, max_examples=50)
@given(y=st.floats(-25, 25))
def test_two_neighbours_share_the_weight_and_average_to_the_number(y: float) -> None:
    number = torch.tensor([y], dtype=torch.float64)
    weights, buckets = TWO_HOT.weights(number)[0], TWO_HOT.buckets(number)
    used = weights.nonzero().flatten()
    assert 1 <= len(used) <= 2 and used[-1] - used[0] <= 1 and weights.min() >= 0
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close((weights * buckets).sum(), number[0].clamp(-20, 20 - 1e-5))


def test_the_expectation_is_taken_in_symlog_space() -> None:
    outputs = torch.full((1, TWO_HOT.width), -1e4, dtype=torch.float64)
    outputs[0, 0], outputs[0, -1] = math.log(0.25), math.log(0.75)  # of -20 and 20
    torch.testing.assert_close(TWO_HOT.mean(outputs), symexp(torch.tensor([10.0], dtype=torch.float64)))


def test_equal_outputs_mean_zero() -> None:
    torch.testing.assert_close(TWO_HOT.mean(torch.zeros(1, TWO_HOT.width)), torch.zeros(1), atol=1e-5, rtol=0)


def test_the_loss_of_a_two_hot_target_is_least_where_the_outputs_equal_it() -> None:
    targets = torch.tensor([0.7, -3.0, 100.0], dtype=torch.float64)
    weights = TWO_HOT.weights(symlog(targets))
    entropy = -torch.special.xlogy(weights, weights).sum(dim=-1)
    torch.testing.assert_close(TWO_HOT.loss(weights.log().clamp(min=-1e4), targets), entropy)
    uniform = torch.zeros(3, TWO_HOT.width, dtype=torch.float64)
    torch.testing.assert_close(TWO_HOT.loss(uniform, targets), torch.full_like(targets, TWO_HOT.width).log())


# HL-Gauss


@settings(deadline=None, max_examples=50)
@given(number=st.floats(-1e4, 1e4), scale=st.sampled_from([1.0, 100.0]))
def test_the_mean_of_a_gaussian_target_is_the_number(number: float, scale: float) -> None:
    head = HLGaussHead(scale=scale)
    given = torch.tensor([number], dtype=torch.float64)
    weights = head.weights(symlog(given))
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert weights.min() >= 0
    torch.testing.assert_close(head.mean(weights.log()), given, rtol=0.01, atol=1e-4)


def test_a_gaussian_target_has_the_mass_of_its_buckets() -> None:
    """Of a number in the middle of a bucket: what lies within half a width, and within one and a half."""
    head = HLGaussHead()
    weights = head.weights(torch.zeros(1, dtype=torch.float64))[0]
    middle = head.width // 2
    assert weights[middle].item() == pytest.approx(math.erf(0.5 / 0.75 / math.sqrt(2)))
    assert weights[middle - 1 : middle + 2].sum().item() == pytest.approx(math.erf(1.5 / 0.75 / math.sqrt(2)))


def test_buckets_of_a_scale_end_where_the_scaled_numbers_do() -> None:
    for scale in (1.0, 100.0):
        head = HLGaussHead(scale=scale)
        edges = head.edges(torch.zeros(1, dtype=torch.float64))
        assert len(edges) == head.width + 1 == 130
        torch.testing.assert_close(scale * symexp(edges[-1]), symexp(torch.tensor(15.0, dtype=torch.float64)))
        torch.testing.assert_close(edges.diff().max(), edges.diff().min())


@pytest.mark.parametrize("number", [1e9, -1e9, math.inf, -math.inf])
def test_numbers_outside_of_the_range_count_as_its_end(number: float) -> None:
    head, outputs = HLGaussHead(scale=100.0), torch.zeros(1, 129)
    end = symexp(torch.tensor([math.copysign(head.high, number)]))
    torch.testing.assert_close(head.loss(outputs, torch.tensor([number])), head.loss(outputs, end))
    assert head.weights(torch.tensor([number])).argmax() == (0 if number < 0 else 128)


def test_the_initial_bias_prefers_small_numbers() -> None:
    layer, head = torch.nn.Linear(4, 129), HLGaussHead()
    scalars.initialise_bias(layer, head)
    torch.testing.assert_close(layer.bias, -0.2 * torch.linspace(-15, 15, 129).abs())
    torch.testing.assert_close(head.mean(layer.bias.detach()), torch.tensor(0.0), atol=1e-4, rtol=0)
    bias = HLGaussHead(scale=100.0).initial_bias()
    assert bias.argmax() == 64 and bias[0] == bias[-1] == pytest.approx(-0.2 * math.log1p(math.expm1(15) / 100))


@pytest.mark.parametrize("kind", [kind for kind in Scalar if kind is not Scalar.hl_gauss])
def test_other_heads_leave_the_bias_as_it_was_drawn(kind: Scalar) -> None:
    layer = torch.nn.Linear(4, WIDTHS[kind])
    drawn = layer.bias.clone()
    scalars.initialise_bias(layer, scalars.build(kind))
    assert torch.equal(layer.bias, drawn)
