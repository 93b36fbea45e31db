"""Rows of mean 0 and variance 1, as torch computes them."""

import pytest
import torch
from torch.nn import functional as F

from tests import small
from tokenworlds.ops.layer_norm import LayerNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 3, 64, 100])
def test_equals_torch_s_norm_without_weights_to_the_last_bit(dtype: torch.dtype, width: int) -> None:
    x = torch.randn(5, 2, width, generator=small.generator(), dtype=dtype, requires_grad=True)
    expected = F.layer_norm(x, (width,), eps=1e-3)
    found = LayerNorm(width, 1e-3).to(dtype)(x)
    assert torch.equal(found, expected)
    upstream = torch.randn(5, 2, width, generator=small.generator(1), dtype=dtype)
    gradients = (torch.autograd.grad(out, x, upstream)[0] for out in (found, expected))
    torch.testing.assert_close(*gradients)


def test_has_nothing_to_learn_or_to_save() -> None:
    module = LayerNorm(4)
    assert not list(module.parameters()) and not module.state_dict()
