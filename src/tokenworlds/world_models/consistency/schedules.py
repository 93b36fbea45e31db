"""Noise levels of consistency training and sampling (Song et al., 2023; Song and Dhariwal, 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.config import ConsistencyConfig

HUBER = 0.00054  # c of the pseudo-Huber distance, times the root of the number of elements


def points(update: int, planned: int, first: int, last: int) -> int:
    """Noise levels after so many updates of ``planned``: one more than the intervals, of which there are ``first`` at
    the start and twice as many after every stage of equal length, up to ``last``."""
    length = max(1, int(planned / (math.log2(last // first) + 1)))
    return min(first << min(update // length, last.bit_length()), last) + 1


def all_points(first: int, last: int) -> list[int]:
    """The values that ``points`` takes, ascending."""
    return sorted({min(first << stage, last) + 1 for stage in range(last.bit_length() + 1)})


def grid(count: int, config: ConsistencyConfig) -> Float[Tensor, "N"]:
    """Levels from ``sigma_min`` to ``sigma_max``, evenly spaced in their root of order ``rho``; float64 on
    the host."""
    low, high = (level ** (1 / config.rho) for level in (config.sigma_min, config.sigma_max))
    levels = torch.linspace(low, high, count, dtype=torch.float64, device="cpu") ** config.rho
    levels[0], levels[-1] = config.sigma_min, config.sigma_max
    return levels


def probabilities(levels: Float[Tensor, "N"], mean: float, std: float) -> Float[Tensor, "N1"]:
    """Of the intervals between levels: the mass that a normal distribution of their logarithm has there."""
    masses = torch.erf((levels.log() - mean) / (std * math.sqrt(2))).diff()
    return masses / masses.sum()


def ladder(config: ConsistencyConfig) -> list[float]:
    """Levels of a sampler, in the order of their use: a grid without its lowest level, or (``published_noise``) evenly
    spaced ones, of which the last leaves everything as it is."""
    count = config.evaluations
    if config.published_noise:
        high, low = config.sigma_max, config.sigma_min
        return [high + (low - high) * index / max(count - 1, 1) for index in range(count)]
    return [float(level) for level in grid(count + 1, config).flip(0)[:-1]]


def pseudo_huber(a: Float[Tensor, "*B C h w"], b: Float[Tensor, "*B C h w"]) -> Float[Tensor, "*B C h w"]:
    """Elementwise distance: quadratic near zero, then linear."""
    c = HUBER * math.sqrt(math.prod(a.shape[-3:]))
    return ((a - b).square() + c**2).sqrt() - c


@dataclass
class Intervals:
    """The levels of one stage of training, and the cumulated probabilities of the intervals between them."""

    levels: Float[Tensor, "N"]
    cumulated: Float[Tensor, "N1"]

    @classmethod
    def of(cls, count: int, config: ConsistencyConfig, device: torch.device) -> Intervals:
        levels = grid(count, config)
        cumulated = probabilities(levels, config.level_mean, config.level_std).cumsum(0)
        return cls(levels.float().to(device), cumulated.float().to(device))

    def draw(self, uniforms: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """Indices of intervals, by inverse of the cumulated probabilities."""
        drawn = torch.searchsorted(self.cumulated, uniforms.contiguous(), right=True)
        return drawn.clamp(max=len(self.cumulated) - 1)  # rounding may leave the last sum below a uniform close to 1
