"""Named losses and their sum."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from tokenworlds.losses import Losses, masked_mean


@dataclass
class TwoLosses(Losses):
    first: Tensor
    second: Tensor


def test_the_total_is_the_sum_of_the_named_losses_and_carries_their_gradient() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    losses = TwoLosses(first=x * 2, second=x.square())
    assert list(losses.named()) == ["first", "second"]
    assert losses.total == 15
    losses.total.backward()
    assert x.grad == 8


def test_what_is_measured_is_neither_named_nor_summed() -> None:
    losses = TwoLosses(torch.tensor(1.0), torch.tensor(2.0), measured={"entropy": torch.tensor(5.0)})
    assert list(losses.named()) == ["first", "second"] and losses.total == 3
    assert losses.measured == {"entropy": 5} and TwoLosses(torch.tensor(1.0), torch.tensor(2.0)).measured == {}


@dataclass
class ToldLosses(TwoLosses):
    told: Tensor | None = field(default=None, kw_only=True)


@dataclass
class ThreeLosses(ToldLosses):
    third: Tensor


def test_fields_that_are_given_by_name_alone_are_no_losses() -> None:
    losses = ThreeLosses(torch.tensor(1.0), torch.tensor(2.0), third=torch.tensor(4.0), told=torch.ones(3))
    assert list(losses.named()) == ["first", "second", "third"] and losses.total == 7


def test_a_masked_mean_is_that_of_what_the_mask_leaves_and_zero_of_nothing() -> None:
    values = torch.tensor([[1.0, 2.0], [30.0, 4.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [False, True]])
    mean = masked_mean(values, mask)
    assert mean.item() == pytest.approx(7 / 3)
    mean.backward()
    assert torch.equal(values.grad, mask / 3)
    assert masked_mean(values, torch.zeros_like(mask)) == 0
