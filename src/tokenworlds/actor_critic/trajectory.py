"""What a policy did in imagination, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Trajectory:
    """H looks: observation t is what the policy saw when it chose action t. The last action is not carried out, unless
    that was asked for: T is H - 1 or H."""

    observations: Tensor  # (B, H, *seen)
    actions: Tensor  # (B, H, ...)
    rewards: Float[Tensor, "B T"]
    ends: Int[Tensor, "B T"]
