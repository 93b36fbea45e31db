"""Prediction of a reward or a value: the class of its sign, the number itself or its symlog, or a distribution over
buckets that are even in symlog (Delta-IRIS: the two-hot targets of DreamerV3; M3: HL-Gauss).

Shapes: W outputs of a network for each prediction.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import Scalar
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.ops.symlog import symexp, symlog
from tokenworlds.world_models.base import cross_entropy


class ScalarHead(ABC):
    """Interprets ``width`` outputs of a network as a prediction of a number. Not a module: it has no parameters."""

    width: int

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Unreduced loss per element."""

    @abstractmethod
    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        """The expected number."""

    def target(self, numbers: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """What ``mean`` is to be for these numbers."""
        return numbers

    def sample(self, outputs: Float[Tensor, "*B W"], uniforms: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The number in imagination: the expected one, unless a head samples it by the uniforms."""
        return self.mean(outputs)

    def initial_bias(self) -> Float[Tensor, "W"] | None:
        """Initial bias of the network's last layer; None: as the layer drew it."""
        return None


class SignHead(ScalarHead):
    """Cross-entropy over the signs -1, 0, 1 (IRIS section 2.2), one of which imagination samples."""

    width = 3

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return cross_entropy(outputs, targets.sign().long() + 1)

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        probabilities = outputs.softmax(dim=-1)
        return probabilities[..., 2] - probabilities[..., 0]

    def target(self, numbers: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return numbers.sign()

    def sample(self, outputs: Float[Tensor, "*B W"], uniforms: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return (sample_categorical(outputs, uniforms) - 1).float()


class RegressionHead(ScalarHead):
    """Squared error of the number."""

    width = 1

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return F.mse_loss(outputs.squeeze(-1), targets, reduction="none")

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        return outputs.squeeze(-1)


class SymlogHead(RegressionHead):
    """Squared error of the number's symlog."""

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return super().loss(outputs, symlog(targets))

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        return symexp(super().mean(outputs))


class BucketHead(ScalarHead):
    """Cross-entropy over buckets of symlog numbers; the expectation is taken in symlog space."""

    @abstractmethod
    def buckets(self, like: Float[Tensor, "*B"]) -> Float[Tensor, "W"]:
        """Centres of the buckets in symlog, with dtype and device of ``like``."""

    @abstractmethod
    def weights(self, y: Float[Tensor, "*B"]) -> Float[Tensor, "*B W"]:
        """Target distribution of numbers in symlog."""

    def loss(self, outputs: Float[Tensor, "*B W"], targets: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return -(self.weights(symlog(targets)) * outputs.log_softmax(dim=-1)).sum(dim=-1)

    def mean(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        # a sum, which autocast leaves in full precision, unlike a product of matrices
        probabilities = outputs.softmax(dim=-1)
        return symexp((probabilities * self.buckets(probabilities)).sum(dim=-1))


class TwoHotHead(BucketHead):
    """Targets with weights on the two neighbouring buckets."""

    margin = 1e-5  # below ``high``, so that there is always an upper neighbour

    def __init__(self, width: int = 255, low: float = -20.0, high: float = 20.0) -> None:
        self.width, self.low, self.high = width, low, high

    def buckets(self, like: Float[Tensor, "*B"]) -> Float[Tensor, "W"]:
        return torch.linspace(self.low, self.high, self.width, dtype=like.dtype, device=like.device)

    def weights(self, y: Float[Tensor, "*B"]) -> Float[Tensor, "*B W"]:
        """Weights of the last bucket strictly below y and of the next one, linear in the distance."""
        buckets, y = self.buckets(y), y.clamp(self.low, self.high - self.margin).unsqueeze(-1)
        lower = ((buckets < y).sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # nothing is below the first bucket
        below, above = buckets[lower], buckets[lower + 1]
        index = torch.arange(self.width, device=y.device)
        distances = torch.where(index == lower, above - y, torch.where(index == lower + 1, y - below, 0.0))
        return distances / (above - below)


class HLGaussHead(BucketHead):
    """Targets are the masses of a normal distribution of 0.75 bucket widths around the number (Farebrother et al.,
    2024). The buckets divide symlog(symexp(+-15) / scale).

    The published code does not clamp numbers outside of the range, which gives 0/0 far from it; here they are clamped.
    """

    LIMIT = 15.0  # in symlog, of numbers that ``scale`` has not divided
    SMOOTHNESS = 0.75  # standard deviation in bucket widths
    SLOPE = 0.2  # of the initial bias

    def __init__(self, width: int = 129, scale: float = 1.0) -> None:
        self.width, self.scale = width, scale
        self.high = math.log1p(math.expm1(self.LIMIT) / scale)

    def edges(self, like: Float[Tensor, "*B"]) -> Float[Tensor, "W1"]:
        return torch.linspace(-self.high, self.high, self.width + 1, dtype=like.dtype, device=like.device)

    def buckets(self, like: Float[Tensor, "*B"]) -> Float[Tensor, "W"]:
        edges = self.edges(like)
        return (edges[1:] + edges[:-1]) / 2

    def weights(self, y: Float[Tensor, "*B"]) -> Float[Tensor, "*B W"]:
        deviation = self.SMOOTHNESS * 2 * self.high / self.width
        y = y.clamp(-self.high, self.high).unsqueeze(-1)
        cumulated = torch.erf((self.edges(y) - y) / (math.sqrt(2) * deviation))
        return cumulated.diff(dim=-1) / (cumulated[..., -1:] - cumulated[..., :1])

    def initial_bias(self) -> Float[Tensor, "W"]:
        """-0.2 |s|, so that small numbers are likely at first. With a scale, s are not the buckets' centres, as
        published."""
        s = symlog(symexp(torch.linspace(-self.LIMIT, self.LIMIT, self.width)) / self.scale)
        return -self.SLOPE * s.abs()


HEADS: dict[Scalar, type[ScalarHead]] = {
    Scalar.sign: SignHead,
    Scalar.regression: RegressionHead,
    Scalar.symlog: SymlogHead,
    Scalar.two_hot: TwoHotHead,
}


def build(kind: Scalar, *, width: int = 129, scale: float = 1.0) -> ScalarHead:
    """A head; ``width`` and ``scale`` are parameters of HL-Gauss alone."""
    return HLGaussHead(width, scale) if kind is Scalar.hl_gauss else HEADS[kind]()


@torch.no_grad()
def initialise_bias(layer: nn.Module, head: ScalarHead) -> None:
    """Set the bias of the linear layer in front of a head, if the head has an initial bias."""
    assert isinstance(layer, nn.Linear) and layer.out_features == head.width
    if (bias := head.initial_bias()) is not None:
        layer.bias.copy_(bias)
