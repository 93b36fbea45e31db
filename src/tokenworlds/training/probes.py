"""Linear probes: what a ridge regression reads out of frozen features, on examples that it was not fitted to.

The strength of the penalty is that with the least leave-one-out error, which has a closed form; nothing is drawn.

Shapes: N examples to fit, M to test, F features, T targets.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.training.classification import macro_f1

STRENGTHS = torch.logspace(-9, 3, 13, dtype=torch.float64)  # of the penalty, relative to the mean square of an example


def predictions(
    fitted: Float[Tensor, "N F"], targets: Float[Tensor, "N T"], tested: Float[Tensor, "M F"]
) -> Float[Tensor, "M T"]:
    """What a ridge regression with an intercept predicts, features divided by their standard deviations."""
    fitted, targets, tested = (values.detach().cpu().double() for values in (fitted, targets, tested))
    mean, deviation = fitted.mean(dim=0), fitted.std(dim=0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    fitted, tested = (fitted - mean) / scale, (tested - mean) / scale
    middle = targets.mean(dim=0)
    values, vectors = _spectrum(fitted)
    rotated = vectors.T @ (targets - middle)
    penalties = STRENGTHS * values.mean().clamp(min=1e-12)
    weights = [vectors @ (rotated / (values + penalty).unsqueeze(1)) for penalty in penalties]
    errors = torch.stack([_left_out(*pair, values, vectors) for pair in zip(weights, penalties)])
    return middle + tested @ (fitted.T @ weights[int(errors.argmin())])


def _spectrum(features: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (N - 1) and eigenvectors (N, N - 1) of the products of centred examples, without the constant one:
    a reflection turns that into the first axis, which is left out. (Found among the others, its eigenvalue is zero but
    for rounding, which a small penalty enlarges above all else.)"""
    count = len(features)  # as many as examples: there are more features than these
    normal = torch.full((count,), count**-0.5, dtype=features.dtype)
    normal[0] -= 1
    reflection = torch.eye(count, dtype=features.dtype) - 2 * torch.outer(normal, normal) / normal.square().sum()
    basis = reflection[:, 1:]
    turned = basis.T @ features
    values, vectors = torch.linalg.eigh(turned @ turned.T)
    return values.clamp(min=0), basis @ vectors


def _left_out(weights: Tensor, penalty: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
    """Squared error on examples left out one at a time: their weights divided by the diagonal of the inverse, to which
    the intercept, which has no penalty, leaves all but the constant eigenvector."""
    inverse = (vectors.square() / (values + penalty)).sum(dim=1, keepdim=True)
    return (weights / inverse).square().sum()


def explained(
    fitted: Float[Tensor, "N F"], targets: Float[Tensor, "N"], tested: Float[Tensor, "M F"], true: Float[Tensor, "M"]
) -> float | None:
    """R^2: 1 minus the squared error over that of the tested examples' mean; None where either targets are equal."""
    if _is_constant(targets) or _is_constant(true):
        return None
    true = true.detach().cpu().double()
    errors = predictions(fitted, targets.unsqueeze(1), tested).squeeze(1) - true
    return 1 - float(errors.square().sum() / (true - true.mean()).square().sum())


def told_apart(
    fitted: Float[Tensor, "N F"], labels: Int[Tensor, "N"], tested: Float[Tensor, "M F"], true: Int[Tensor, "M"]
) -> float | None:
    """Macro-F1 of the class whose indicator is predicted as the largest; None where either labels are equal."""
    if _is_constant(labels) or _is_constant(true):
        return None
    classes, places = labels.cpu().unique(return_inverse=True)
    indicators = F.one_hot(places, len(classes)).double()
    return macro_f1(classes[predictions(fitted, indicators, tested).argmax(dim=1)], true.cpu())


def _is_constant(values: Tensor) -> bool:
    return len(values) == 0 or bool((values == values[0]).all())
