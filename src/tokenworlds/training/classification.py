"""F1 and average precision: how well outcomes are told apart where most of them are alike."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def macro_f1(predicted: Int[Tensor, "N"], true: Int[Tensor, "N"]) -> float | None:
    """Mean over the classes that were predicted or occur; None of no examples."""
    scores = [f1(predicted == label, true == label) for label in torch.cat([predicted, true]).unique()]
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def f1(predicted: Bool[Tensor, "N"], true: Bool[Tensor, "N"]) -> float | None:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); None where nothing is, or is said to be, true."""
    marked = int(predicted.sum() + true.sum())
    return 2 * int((predicted & true).sum()) / marked if marked else None


def average_precision(scores: Float[Tensor, "N"], true: Bool[Tensor, "N"]) -> float | None:
    """Mean over the true examples of the precision among those with at least their score, equal scores taken together;
    None where nothing is true."""
    if not true.any():
        return None
    _, places, counts = scores.unique(return_inverse=True, return_counts=True)  # in ascending order
    hits = torch.zeros(len(counts), dtype=torch.float64, device=scores.device).index_add_(0, places, true.double())
    at_least = counts.flip(0).cumsum(0).flip(0), hits.flip(0).cumsum(0).flip(0)
    return float((hits * at_least[1] / at_least[0]).sum() / hits.sum())
