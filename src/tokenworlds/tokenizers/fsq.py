"""Finite scalar quantisation (Mentzer et al. 2023): a code is a few numbers, each rounded to one of a few levels, and
no codebook has to be learned or kept in use.

Shapes: L numbers of a code, E the width of a code vector.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.config import ImageTokenizerConfig
from tokenworlds.tokenizers.codebook import Quantised

MARGIN = 1e-3  # of the range of levels, so that rounding never leaves it


class FiniteScalars(nn.Module):
    """``levels[i]`` levels of number i; the first number is the lowest digit of a token. No parameters."""

    levels: Tensor
    steps: Tensor
    below: Tensor
    reach: Tensor
    offset: Tensor

    def __init__(self, levels: list[int]) -> None:
        super().__init__()
        buffers = {
            "levels": levels,
            "steps": [math.prod(levels[:index]) for index in range(len(levels))],
            "below": [level // 2 for level in levels],
            "reach": [(level - 1) * (1 - MARGIN) / 2 for level in levels],
            "offset": [0.0 if level % 2 else 0.5 for level in levels],  # an even number has one more level below zero
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def bound(self, z: Float[Tensor, "*N L"]) -> Float[Tensor, "*N L"]:
        """tanh(z + tan(o / r)) r - o with the reach r, half of the range of levels, and the offset o."""
        return (z + (self.offset / self.reach).tan()).tanh() * self.reach - self.offset

    def forward(self, z: Float[Tensor, "*N L"]) -> Float[Tensor, "*N L"]:
        """The scalars, in [-1, 1], with the gradient of the bounded numbers."""
        bounded = self.bound(z)
        return (bounded + (bounded.round() - bounded).detach()) / self.below

    @torch.no_grad()
    def tokens(self, z: Float[Tensor, "*N L"]) -> Int[Tensor, "*N"]:
        return ((self.bound(z).round().long() + self.below) * self.steps).sum(dim=-1)

    def scalars(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N L"]:
        places = tokens.unsqueeze(-1) // self.steps % self.levels
        return (places - self.below).to(self.reach.dtype) / self.below


class ScalarCodes(nn.Module):
    """The quantiser of an image tokenizer whose code vectors are finite scalars, with linear maps in and out."""

    def __init__(self, levels: list[int], width: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(width, len(levels))
        self.scalars = FiniteScalars(levels)
        self.project_out = nn.Linear(len(levels), width)

    @classmethod
    def of(cls, config: ImageTokenizerConfig) -> ScalarCodes:
        return cls(config.fsq_levels, config.embed_dim)

    def forward(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N E"]:
        return self.project_out(self.scalars.scalars(tokens))

    def tokens(self, z: Float[Tensor, "N E h w"]) -> Int[Tensor, "N h w"]:
        return self.scalars.tokens(self._numbers(z))

    def straight_through(self, z: Float[Tensor, "N E h w"]) -> Quantised:
        """The codes with a gradient for z, and a commitment of zero."""
        codes = rearrange(self.project_out(self.scalars(self._numbers(z))), "n h w e -> n e h w")
        return Quantised(codes, z.new_zeros(()))

    def _numbers(self, z: Float[Tensor, "N E h w"]) -> Float[Tensor, "N h w L"]:
        """In the parameters' number format, also under autocast."""
        numbers: Tensor = self.project_in(rearrange(z, "n e h w -> n h w e"))
        return numbers.to(self.project_in.weight.dtype)
