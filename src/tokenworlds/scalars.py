"""How a reward or a value is predicted: by the class of its sign, by the number itself, or by a distribution over
buckets that are even in symlog (Delta-IRIS; the two-hot targets of DreamerV3)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.config import Scalar
from tokenworlds.rng import sample_categorical


def symlog(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """sign(x) ln(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """sign(x) (e^|x| - 1), the inverse of ``symlog``."""
    return x.sign() * x.abs().expm1()


class ScalarHead(ABC):
    """What ``width`` outputs of a network say about a number. Not a module: it has no parameters."""

    width: int

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Of every prediction; not reduced."""

    @abstractmethod
    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        """The number that is expected."""

    def sample(self, outputs: Float[Tensor, "*B W"], uniforms: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """What happens in imagination: the expected number, unless a head draws one with the uniforms."""
        return self.mean(outputs)


class SignHead(ScalarHead):
    """Cross-entropy over the signs -1, 0, 1 (IRIS section 2.2); imagination draws one of them."""

    width = 3

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        labels = targets.sign().long() + 1
        return F.cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="none").view_as(labels)

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        probabilities = outputs.softmax(dim=-1)
        return probabilities[..., 2] - probabilities[..., 0]

    def sample(self, outputs: Float[Tensor, "*B W"], uniforms: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return (sample_categorical(outputs, uniforms) - 1).float()


class RegressionHead(ScalarHead):
    """The squared error of the number itself."""

    width = 1

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return F.mse_loss(self.mean(outputs), targets, reduction="none")

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        return outputs.squeeze(-1)


class TwoHotHead(ScalarHead):
    """Cross-entropy over buckets that are even in symlog; a number's weight lies on its two neighbours."""

    margin = 1e-5  # below ``high``, so that there is always an upper neighbour

    def __init__(self, width: int = 255, low: float = -20.0, high: float = 20.0) -> None:
        self.width, self.low, self.high = width, low, high

    def buckets(self, like: Float[Tensor, "*B"]) -> Float[Tensor, "W"]:
        return torch.linspace(self.low, self.high, self.width, dtype=like.dtype, device=like.device)

    def two_hot(self, y: Float[Tensor, "*B"]) -> Float[Tensor, "*B W"]:
        """Weights of the last bucket strictly below y and of the next one, linear in the distance."""
        buckets, y = self.buckets(y), y.clamp(self.low, self.high - self.margin).unsqueeze(-1)
        lower = ((buckets < y).sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # nothing is below the first bucket
        below, above = buckets[lower], buckets[lower + 1]
        index = torch.arange(self.width, device=y.device)
        distances = torch.where(index == lower, above - y, torch.where(index == lower + 1, y - below, 0.0))
        return distances / (above - below)

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return -(self.two_hot(symlog(targets)) * outputs.log_softmax(dim=-1)).sum(dim=-1)

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        """The expectation is taken in symlog space; as a sum, which autocast leaves in full precision."""
        probabilities = outputs.softmax(dim=-1)
        return symexp((probabilities * self.buckets(probabilities)).sum(dim=-1))


HEADS: dict[Scalar, type[ScalarHead]] = {
    Scalar.sign: SignHead,
    Scalar.regression: RegressionHead,
    Scalar.two_hot: TwoHotHead,
}


def build(kind: Scalar) -> ScalarHead:
    return HEADS[kind]()
