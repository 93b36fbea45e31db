"""The denoiser: a U-Net with adaptive group normalisation, conditioned on past states, actions and noise level
(that of DIAMOND, Alonso et al., 2024).

Shapes: n context states of C channels, the newest last; V width of the condition.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ConsistencyConfig
from tokenworlds.ops.convolutions import Upsample

GROUP, HEAD = 32, 8  # channels of a normalisation group and of an attention head
EPS = 1e-5


def groups(channels: int) -> int:
    return max(1, channels // GROUP)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups(channels), channels, EPS)


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)


class AdaptiveNorm(nn.Module):
    """Group normalisation whose scale and shift follow from a condition."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.groups = groups(channels)
        self.linear = nn.Linear(condition_dim, 2 * channels)

    def forward(self, x: Float[Tensor, "B C h w"], condition: Float[Tensor, "B V"]) -> Float[Tensor, "B C h w"]:
        scale, shift = self.linear(condition)[..., None, None].chunk(2, dim=1)
        return F.group_norm(x, self.groups, eps=EPS) * (1 + scale) + shift


class Attention(nn.Module):
    """Self-attention between pixels, added to the normalised input (in DIAMOND, too)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.norm = norm(channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.projection.weight)
        assert self.projection.bias is not None
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        x = self.norm(x)
        parts = rearrange(self.query_key_value(x), "b (k n d) h w -> k b n (h w) d", k=3, n=self.heads)
        mixed = F.scaled_dot_product_attention(*parts.unbind(0))
        return x + self.projection(rearrange(mixed, "b n (h w) d -> b (n d) h w", h=x.shape[2]))


class Block(nn.Module):
    """Two convolutions behind adaptive norms beside a shortcut, then perhaps attention."""

    def __init__(self, channels_in: int, channels_out: int, condition_dim: int, has_attention: bool) -> None:
        super().__init__()
        is_wider = channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if is_wider else nn.Identity()
        self.norm1 = AdaptiveNorm(channels_in, condition_dim)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.norm2 = AdaptiveNorm(channels_out, condition_dim)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.attention = Attention(channels_out) if has_attention else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "B C1 h w"], condition: Float[Tensor, "B V"]) -> Float[Tensor, "B C2 h w"]:
        h = self.conv1(F.silu(self.norm1(x, condition)))
        h = self.conv2(F.silu(self.norm2(h, condition)))
        y: Tensor = self.attention(self.shortcut(x) + h)
        return y


class UNet(nn.Module):
    """Every level of the way up reads what the one of the way down put out."""

    def __init__(self, channels: list[int], depths: list[int], attention: list[int], condition_dim: int) -> None:
        super().__init__()
        self.levels = len(channels)
        wider = list(pairwise([channels[0], *channels]))  # widths before and in each level

        def blocks(widths: list[tuple[int, int]], has_attention: int) -> nn.ModuleList:
            return nn.ModuleList(Block(*pair, condition_dim, bool(has_attention)) for pair in widths)

        levels = list(zip(wider, depths, attention))
        self.down = nn.ModuleList(
            blocks([(before, here), *[(here, here)] * (depth - 1)], has) for (before, here), depth, has in levels
        )
        self.middle = blocks([(channels[-1], channels[-1])] * 2, True)
        self.up = nn.ModuleList(
            blocks([*[(2 * here, here)] * depth, (here + before, before)], has)
            for (before, here), depth, has in reversed(levels)
        )
        self.downsample = nn.ModuleList(conv3x3(width, width, stride=2) for width in channels[:-1])
        self.upsample = nn.ModuleList(Upsample(width) for width in reversed(channels[:-1]))
        for halving in self.downsample:
            assert isinstance(halving, nn.Conv2d)
            nn.init.orthogonal_(halving.weight)

    def forward(self, x: Float[Tensor, "B C h w"], condition: Float[Tensor, "B V"]) -> Float[Tensor, "B C h w"]:
        rows, columns = x.shape[2:]
        multiple = 2 ** (self.levels - 1)
        x = F.pad(x, (0, -columns % multiple, 0, -rows % multiple))
        remembered: list[Tensor] = []
        for level, some in enumerate(cast(list[nn.ModuleList], self.down)):
            x = self.downsample[level - 1](x) if level else x
            remembered.append(x)
            for block in some:
                x = block(x, condition)
                remembered.append(x)
        for block in self.middle:
            x = block(x, condition)
        for level, some in enumerate(cast(list[nn.ModuleList], self.up)):
            x = self.upsample[level - 1](x) if level else x
            for block in some:
                x = block(torch.cat([x, remembered.pop()], dim=1), condition)
        return x[:, :, :rows, :columns]


class Denoiser(nn.Module):
    """From a noisy delta, the states before it and the actions there; a constant at first, for the last convolution
    starts at zero."""

    frequencies: Tensor

    def __init__(self, config: ConsistencyConfig, channels: int, num_actions: int) -> None:
        super().__init__()
        width, states = config.condition_dim, config.context_states
        self.register_buffer("frequencies", torch.randn(width // 2))
        self.embed_action = nn.Embedding(num_actions, width // states)
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.conv_in = conv3x3((states + 1) * channels, config.channels[0])
        self.unet = UNet(config.channels, config.depths, config.attention, width)
        self.norm_out = norm(config.channels[0])
        self.conv_out = conv3x3(config.channels[0], channels)
        nn.init.zeros_(self.conv_out.weight)

    def noise_features(self, c_noise: Float[Tensor, "B"]) -> Float[Tensor, "B V"]:
        """Cosines and sines of random frequencies."""
        angles = 2 * math.pi * c_noise.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)

    def forward(
        self,
        noisy: Float[Tensor, "B C h w"],
        c_noise: Float[Tensor, "B"],
        context: Float[Tensor, "B n C h w"],
        actions: Int[Tensor, "B n"],
    ) -> Float[Tensor, "B C h w"]:
        condition = self.condition(self.noise_features(c_noise) + self.embed_action(actions).flatten(1))
        x = self.unet(self.conv_in(torch.cat([context.flatten(1, 2), noisy], dim=1)), condition)
        y: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return y
