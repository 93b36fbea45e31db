"""The tester of hot paths sees what it is there for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.synchronisation import without_synchronisation

WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "if": lambda x: bool(x.sum() > 0),
    "nonzero": lambda x: x.nonzero(),
    "a boolean mask": lambda x: x[x > 0],
    "a tensor from the host": lambda x: x + torch.tensor([1.0, 2.0]),
    "a list of indices": lambda x: x[[0, 1]],
    "repeat by data": lambda x: x.repeat_interleave(x.long()),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_seen(name: str) -> None:
    x = torch.ones(2)
    with pytest.raises(AssertionError), without_synchronisation():
        WAITING[name](x)


def test_what_does_not_wait_passes() -> None:
    x = torch.ones(2)
    with without_synchronisation():
        x[x.long() - 1].where(x > 0, 0).cumsum(0).sum()
