"""Tokens of real numbers: the nearest of fixed values in symlog (M3).

Shapes: N vectors of n numbers, one token a number.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.config import Support, VectorTokenizerConfig
from tokenworlds.envs.spec import VectorSpec
from tokenworlds.ops.symlog import symexp, symlog
from tokenworlds.tokenizers import pictures
from tokenworlds.tokenizers.modality import ModalityTokenizer

EDGE, LIMIT, POINTS = math.log1p(math.pi), 6.0, 32  # published: even up to the edge, and even again up to the limit


class VectorTokenizer(ModalityTokenizer):
    """Observations have their own units, codes are in symlog."""

    support: Tensor
    mid_points: Tensor

    def __init__(self, spec: VectorSpec, config: VectorTokenizerConfig | None = None) -> None:
        super().__init__()
        support = values(config or VectorTokenizerConfig())
        self.register_buffer("support", support, persistent=False)
        self.register_buffer("mid_points", (support[1:] + support[:-1]) / 2, persistent=False)
        self.num_tokens, self.vocab_sizes = spec.size, (len(support),)

    def encode(self, observations: Float[Tensor, "N n"]) -> Int[Tensor, "N n"]:
        """Tokens of the nearest values, of two equally near ones the larger."""
        return torch.bucketize(symlog(observations.float()), self.mid_points, right=True)

    def codes(self, symbols: Int[Tensor, "N n"]) -> Float[Tensor, "N n"]:
        """The fixed values, in symlog."""
        return self.support[symbols]

    def decode(self, symbols: Int[Tensor, "N n"]) -> Float[Tensor, "N n"]:
        return symexp(self.codes(symbols))

    def render(self, observations: Float[Tensor, "N n"]) -> Float[Tensor, "N 3 Y X"]:
        """A bar a number, in symlog."""
        return pictures.bars(symlog(observations.float()))


def values(config: VectorTokenizerConfig) -> Float[Tensor, "V"]:
    """Published: 63 from 0 upwards, 32 up to the edge and 31 beyond it, and their negatives; or evenly spaced ones."""
    if config.support is Support.uniform:
        return torch.linspace(-config.limit, config.limit, config.count, dtype=torch.float64).float()
    inner = torch.linspace(0, EDGE, POINTS, dtype=torch.float64)  # rounded to float32 once, at the end
    outer = torch.linspace(EDGE, LIMIT, POINTS, dtype=torch.float64)[1:]
    return torch.cat([-outer.flip(0), -inner[1:].flip(0), inner, outer]).float()
