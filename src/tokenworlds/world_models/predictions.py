"""What a world model predicts of real segments, element by element, for evaluation to compare."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class TokenPredictions:
    """Of each token: its cross-entropy, whether it is the most likely one (with all its symbols), whether it counts.
    ``known`` frames precede the first of the T predicted steps."""

    errors: Float[Tensor, "B T K"]
    is_right: Bool[Tensor, "B T K"]
    counts: Bool[Tensor, "B T K"]
    known: int


@dataclass
class OutcomePredictions:
    """Of each step: the sign of its reward, which is 0 up to a half, as expected and as it was; the logits of its end,
    and whether it was one; whether it counts."""

    signs: Int[Tensor, "*B"]
    true_signs: Int[Tensor, "*B"]
    end_logits: Float[Tensor, "*B 2"]
    ends: Int[Tensor, "*B"]
    counts: Bool[Tensor, "*B"]


@dataclass
class Predictions:
    """Those of a batch of segments."""

    tokens: TokenPredictions | None  # None: without tokens
    outcomes: OutcomePredictions
