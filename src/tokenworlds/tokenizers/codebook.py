"""Quantisers of image tokenizers, by name, and the usual one: the nearest vector of a codebook.

A quantiser maps latents to tokens and tokens to code vectors. Shapes: E is the width of a code vector, (h, w) the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ImageTokenizerConfig, Quantiser

QUANTISERS = {  # module of this package, imported when it is chosen, and class
    Quantiser.nearest: ("codebook", "Codebook"),
    Quantiser.fsq: ("fsq", "ScalarCodes"),
    Quantiser.ema: ("ema", "MovingCodebook"),
    Quantiser.lfq: ("lfq", "SignCodes"),
}


@dataclass
class Quantised:
    """Codes with a gradient for the latents, and the loss of the quantiser with its weight; what is ``measured`` is
    logged. ``further`` is a loss beside the commitment, with its weight, where there is one."""

    codes: Float[Tensor, "N E h w"]
    commitment: Float[Tensor, ""]
    further: Float[Tensor, ""] | None = None
    measured: dict[str, Tensor] = field(default_factory=dict)


class Codebook(nn.Embedding):
    """Vector quantisation: the nearest vector of a learned table (IRIS, REM, M3)."""

    def __init__(self, vocab_size: int, width: int, beta: float) -> None:
        super().__init__(vocab_size, width)
        self.weight.data.uniform_(-1.0 / vocab_size, 1.0 / vocab_size)
        self.beta = beta

    @classmethod
    def of(cls, config: ImageTokenizerConfig) -> Codebook:
        return cls(config.vocab_size, config.embed_dim, config.beta)

    def tokens(self, z: Float[Tensor, "N E h w"]) -> Int[Tensor, "N h w"]:
        return tokens_of(z, self.weight)

    def straight_through(self, z: Float[Tensor, "N E h w"]) -> Quantised:
        """z + sg(e - z), and the commitment |sg(z) - e|^2 + beta |z - sg(e)|^2, in the mean."""
        codes = rearrange(self(self.tokens(z)), "n h w e -> n e h w")
        commitment = F.mse_loss(codes, z.detach()) + self.beta * F.mse_loss(z, codes.detach())
        return Quantised(z + (codes - z).detach(), commitment)


def build(config: ImageTokenizerConfig) -> Any:
    """The quantiser of a configuration."""
    module, kind = QUANTISERS[config.quantiser]
    return getattr(import_module(f"tokenworlds.tokenizers.{module}"), kind).of(config)


def tokens_of(z: Float[Tensor, "N E h w"], codebook: Float[Tensor, "V E"]) -> Int[Tensor, "N h w"]:
    """Nearest codes of latents that are laid out as maps."""
    tokens = nearest_codes(rearrange(z, "n e h w -> (n h w) e"), codebook)
    return rearrange(tokens, "(n h w) -> n h w", h=z.shape[2], w=z.shape[3])


def nearest_codes(z: Float[Tensor, "N E"], codebook: Float[Tensor, "V E"]) -> Tensor:
    """argmin_v |z|^2 + |e_v|^2 - 2 z.e_v, the first index on ties."""
    distances = torch.addmm(codebook.square().sum(1), z, codebook.T, alpha=-2.0)  # |z|^2 is the same for every code
    return distances.argmin(dim=1)
