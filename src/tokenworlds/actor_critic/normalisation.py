"""The spread of recent returns, which advantages are measured in (M3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class ReturnScale:
    """max(1, half the distance between two quantiles of the returns) over the current batch and ``limit`` before it.

    The window, one row a batch, is allocated at the first. Rows that are not filled yet, and what a smaller batch
    leaves of its row, hold NaN.
    """

    QUANTILES = (0.025, 0.975)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._window = torch.empty(0, 0)
        self._count = 0  # batches recorded

    @torch.no_grad()
    def __call__(self, returns: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Record a batch and return the divisor."""
        self._make_room(returns)
        row = self._window[self._count % len(self._window)]
        row[: returns.numel()] = returns.flatten()
        row[returns.numel() :].fill_(torch.nan)
        self._count += 1
        low, high = self.quantiles().unbind()
        return ((high - low) / 2).clamp(min=1)

    def quantiles(self) -> Float[Tensor, "2"]:
        """Quantiles of all returns in the window, interpolated linearly; without waiting for the device, as torch's own
        do."""
        returns = self._window[: self._count].flatten().sort().values  # NaN comes last
        last = returns.isnan().logical_not().sum().double() - 1
        ranks = torch.stack([last * quantile for quantile in self.QUANTILES])
        below = returns.take(ranks.floor().long())
        return below.lerp(returns.take(ranks.ceil().long()), ranks.frac().to(returns))

    def _make_room(self, returns: Float[Tensor, "B T"]) -> None:
        if len(self._window) == 0:
            self._window = returns.new_full((self.limit + 1, returns.numel()), torch.nan)
        self._window = self._window.to(returns)  # a checkpoint may have left it elsewhere
        if (missing := returns.numel() - self._window.shape[1]) > 0:
            self._window = F.pad(self._window, (0, missing), value=torch.nan)

    def state(self) -> dict[str, Tensor]:
        """Window and count, for a checkpoint."""
        return {"returns": self._window.clone(), "count": torch.tensor(self._count)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self._window, self._count = tensors["returns"].clone(), int(tensors["count"])
