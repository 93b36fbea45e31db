"""Dropout that is cheap on a CPU, where torch samples one double per element from a serial generator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 1 << 16  # a sample has 16 bits; one number of the generator holds four


class Dropout(nn.Module):
    """``nn.Dropout``, on other devices than a CPU torch's own. On a CPU the rate is rounded to a multiple of 2^-16 (0.1
    to 0.100006), also in the scale 1 / (1 - rate), so that the expectation stays exact."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= round(rate * LEVELS) < LEVELS:
            raise ValueError(f"a dropout rate must be in [0, 1), found {rate}.")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        return _CPUDropout.apply(x, round(self.rate * LEVELS))

    def extra_repr(self) -> str:
        return f"{self.rate}"


class _CPUDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        ctx.scale = LEVELS / (LEVELS - threshold)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        is_dropped = (draws[: x.numel()] < threshold - LEVELS // 2).view(x.shape)
        ctx.save_for_backward(is_dropped)
        return torch.where(is_dropped, 0.0, x).mul_(ctx.scale)  # one pass less than filling in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (is_dropped,) = ctx.saved_tensors
        return torch.where(is_dropped, 0.0, gradients[0]).mul_(ctx.scale), None
