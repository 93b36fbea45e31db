"""The consistency function: from a noisy delta of any level to the delta, which it leaves as it is at the lowest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.config import ConsistencyConfig
from tokenworlds.world_models.consistency import schedules
from tokenworlds.world_models.consistency.unet import Denoiser

PUBLISHED_OFFSET = 0.3  # that of DIAMOND, which also adds such noise


class Coefficients(NamedTuple):
    """Factors of the input, of its part in the output and of the network's, and what the network knows of the level."""

    c_in: Float[Tensor, "*B"]
    c_skip: Float[Tensor, "*B"]
    c_out: Float[Tensor, "*B"]
    c_noise: Float[Tensor, "*B"]


class ConsistencyFunction(nn.Module):
    """D(noisy, sigma) = c_skip noisy + c_out U(c_in noisy, c_noise). Noise, coefficients and output have the number
    format of the noisy input, also where autocast lowers that of the network U."""

    def __init__(self, config: ConsistencyConfig, channels: int, num_actions: int) -> None:
        super().__init__()
        self.config = config
        self.ladder = schedules.ladder(config)
        self.network = Denoiser(config, channels, num_actions)

    def coefficients(self, sigma: Float[Tensor, "*B"]) -> Coefficients:
        low, data, is_published = self.config.sigma_min, self.config.sigma_data, self.config.published_noise
        level = (sigma.square() + PUBLISHED_OFFSET**2).sqrt() if is_published else sigma
        c_in = (level.square() + data**2).rsqrt()
        c_skip = data**2 / ((level - low).square() + data**2)
        return Coefficients(c_in, c_skip, data * (level - low) * c_in, level if is_published else level.log() / 4)

    def forward(
        self,
        noisy: Float[Tensor, "B C h w"],
        sigma: Float[Tensor, "B"],
        context: Float[Tensor, "B n C h w"],
        actions: Int[Tensor, "B n"],
    ) -> Float[Tensor, "B C h w"]:
        *factors, c_noise = self.coefficients(sigma)
        c_in, c_skip, c_out = (factor[:, None, None, None] for factor in factors)
        scaled = noisy if self.config.published_noise else c_in * noisy
        raw = self.network(scaled, c_noise, context.to(noisy.dtype) / self.config.sigma_data, actions)
        return c_skip * noisy + c_out * raw.to(noisy.dtype)

    def sample(
        self, context: Float[Tensor, "B n C h w"], actions: Int[Tensor, "B n"], noise: Float[Tensor, "S B C h w"]
    ) -> Float[Tensor, "B C h w"]:
        """A delta: at every level of the ladder noise is added to the last one, which the function removes."""
        x = torch.zeros_like(noise[0])
        for level, fresh in zip(self.ladder, noise, strict=True):
            added = max(level**2 - self.config.sigma_min**2, 0.0) ** 0.5
            x = self(x + added * fresh, torch.full_like(x[:, 0, 0, 0], level), context, actions)
        return x
