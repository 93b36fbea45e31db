"""Distances of a picture from its reconstruction, pixel by pixel. Pixels are in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.config import ImageTokenizerConfig, PixelDistanceConfig, Reconstruction

MARGIN = 0.1  # of the range of pixels on either side, so that logits stay finite (DALL-E, appendix A.3)

Distance = Callable[..., Tensor]
"""(reconstruction, frames) to the mean distance; with ``reduction="none"`` to that of every value."""


def distance(config: ImageTokenizerConfig) -> Distance:
    """The distance that a configuration chooses."""
    sizes = config.pixels or PixelDistanceConfig()
    distances: dict[Reconstruction, Distance] = {
        Reconstruction.l1: F.l1_loss,
        Reconstruction.mse: F.mse_loss,
        Reconstruction.huber: partial(F.huber_loss, delta=sizes.huber),
        Reconstruction.charbonnier: partial(charbonnier, epsilon=sizes.charbonnier),
        Reconstruction.logit_laplace: logit_laplace,
    }
    return distances[config.reconstruction]


def charbonnier(
    x: Float[Tensor, "*B"], y: Float[Tensor, "*B"], epsilon: float, reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """sqrt((x - y)^2 + epsilon^2) - epsilon (Charbonnier et al. 1994), 0 for equal pictures."""
    return _reduced(((x - y).square() + epsilon**2).sqrt() - epsilon, reduction)


def logit_laplace(x: Float[Tensor, "*B"], y: Float[Tensor, "*B"], reduction: str = "mean") -> Float[Tensor, "..."]:
    """Negative log-density of a Laplace distribution of unit scale over the pixels' logits (DALL-E, appendix A.3), up
    to a constant: |logit(x) - logit(y)|. Reconstructed pixels outside of the range count as its border, and the rest
    of their error by its size, so that they have a gradient, too."""
    inside = x.clamp(-1, 1)
    return _reduced((_logits(inside) - _logits(y)).abs() + (x - inside).abs(), reduction)


def _logits(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    return (0.5 + x * (0.5 - MARGIN)).logit()


def _reduced(errors: Float[Tensor, "*B"], reduction: str) -> Float[Tensor, "..."]:
    return errors if reduction == "none" else errors.mean()
