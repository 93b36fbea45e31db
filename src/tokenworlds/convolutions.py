"""Convolutional stacks between pictures and maps of latent vectors: residual blocks with group normalisation.

The blocks are those of IRIS's image tokenizer, too; ``FrameEncoder`` and ``FrameDecoder`` are the stacks of Delta-IRIS,
whose layers are numbered as in the published checkpoints.
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import EncoderConfig, StackConfig

GROUPS = 32


class ResidualBlock(nn.Module):
    """x + conv(drop(silu(norm(conv(silu(norm(x))))))); a 1x1 convolution on the shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, dropout: float = 0.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels_in, eps)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels_out, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Float[Tensor, "B C1 Y X"]) -> Float[Tensor, "B C2 Y X"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class Upsample(nn.Module):
    """Double by nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y2 X2"]:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Halve(nn.Module):
    """2x2 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2, stride=2)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y2 X2"]:
        out: Tensor = self.conv(x)
        return out


class FrameEncoder(nn.Module):
    """(N, C, Y, X) to a map (N, latent, h, w), h = Y / 2^halvings: per level a residual block, then the halving."""

    def __init__(self, config: EncoderConfig, resolution: int, channels: int) -> None:
        super().__init__()
        self.latent_dim = config.latent_dim
        self.grid = resolution // 2 ** sum(config.halve)
        layers: list[nn.Module] = [nn.Conv2d(channels, config.channels, 3, padding=1)]
        width = config.channels
        for multiplier, is_halved in zip(config.multipliers, config.halve, strict=True):
            layers.append(ResidualBlock(width, width := multiplier * config.channels))
            if is_halved:
                layers.append(Halve(width))
        layers += [nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, config.latent_dim, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N L h w"]:
        out: Tensor = self.layers(x)
        return out


class FrameDecoder(nn.Module):
    """(N, latent, h, w) to (N, C, Y, X), the mirror image of an encoder; no non-linearity at the end."""

    def __init__(self, config: StackConfig, latent_dim: int, channels: int) -> None:
        super().__init__()
        widths = [config.channels, *(multiplier * config.channels for multiplier in config.multipliers)]
        layers: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], 3, padding=1)]
        for level in reversed(range(len(config.multipliers))):
            if config.halve[level]:
                layers.append(Upsample(widths[level + 1]))
            layers.append(ResidualBlock(widths[level + 1], widths[level]))
        layers += [nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "N L h w"]) -> Float[Tensor, "N C Y X"]:
        out: Tensor = self.layers(z)
        return out


def flatten_map(x: Float[Tensor, "N L h w"]) -> Float[Tensor, "N F"]:
    """Rows, columns, channels: the order of frame tokens and of what the policy sees."""
    return rearrange(x, "n l h w -> n (h w l)")
