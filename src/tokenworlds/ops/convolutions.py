"""Residual convolutional networks between pictures and latent maps.

IRIS's image tokenizer uses the blocks; ``FrameEncoder`` and ``FrameDecoder`` are the stacks of Delta-IRIS, whose layers
are numbered as in the published checkpoints. On a CPU the stacks process frames in small chunks and convolve before
they upsample, which changes nothing but the time (``python -m benchmarks.convolutions``).
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import EncoderConfig, StackConfig

GROUPS = 32
CHUNK = 1 << 22  # values of the widest map of a chunk: 16 MB, which malloc keeps (training/precision.py)


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
        return self.nin_shortcut(x) + h


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y2 X2"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class FastUpsample(Upsample):
    """``Upsample``, fast on a CPU: four 2x2 convolutions before the upsampling, one for each parity of row and column.
    Of the three taps in a direction two meet the same pixel and can be summed first, which leaves 4 of 9 products."""

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y2 X2"]:
        if x.device.type != "cpu":
            return super().forward(x)
        rows, columns = x.shape[2:]
        quarters = [
            [
                F.conv2d(x, kernel, self.conv.bias, padding=1)[:, :, row : row + rows, column : column + columns]
                for column, kernel in enumerate(_merged_taps(kernels, 3))
            ]
            for row, kernels in enumerate(_merged_taps(self.conv.weight, 2))
        ]
        return _interleaved([_interleaved(pair, 3) for pair in quarters], 2)


def _merged_taps(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Taps of the first and of the second copy of a pixel: on it and its neighbour to the left, or to the right."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)


def _interleaved(parts: list[Tensor], dim: int) -> Tensor:
    return torch.stack(parts, dim + 1).flatten(dim, dim + 1)


class Downsample(nn.Module):
    """Convolution of stride 2: 2x2 (Delta-IRIS), or 3x3 with a zero row and column at the bottom and right (IRIS)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, stride=2)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y2 X2"]:
        return self.conv(x if self.conv.kernel_size[0] == 2 else F.pad(x, (0, 1, 0, 1)))


class FrameEncoder(nn.Module):
    """(N, C, Y, X) to a map (N, latent, h, w): per level a residual block, then the halving.

    h = Y / (patch size x 2^halvings). A patch's pixels are channels of the first convolution; published are patches of
    one pixel.
    """

    def __init__(self, config: EncoderConfig, resolution: int, channels: int) -> None:
        super().__init__()
        self.latent_dim = config.latent_dim
        self.channels = config.channels
        self.patch = config.patch_size or 1
        self.grid = resolution // (self.patch * 2 ** sum(config.halve))
        layers: list[nn.Module] = [nn.PixelUnshuffle(self.patch)] if self.patch > 1 else []
        layers.append(nn.Conv2d(channels * self.patch**2, config.channels, 3, padding=1))
        width = config.channels
        for multiplier, is_halved in zip(config.multipliers, config.halve, strict=True):
            layers.append(ResidualBlock(width, width := multiplier * config.channels))
            if is_halved:
                layers.append(Downsample(width, 2))
        layers += [nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, config.latent_dim, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N L h w"]:
        return _in_chunks(self.layers, x, self.channels * (x.shape[2] // self.patch) * (x.shape[3] // self.patch))


class FrameDecoder(nn.Module):
    """(N, latent, h, w) to (N, C, Y, X), the mirror image of an encoder; no non-linearity at the end."""

    def __init__(self, config: StackConfig, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.channels, self.doublings = config.channels, sum(config.halve)
        patch = config.patch_size or 1
        widths = [config.channels, *(multiplier * config.channels for multiplier in config.multipliers)]
        layers: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], 3, padding=1)]
        for level in reversed(range(len(config.multipliers))):
            if config.halve[level]:
                layers.append(FastUpsample(widths[level + 1]))
            layers.append(ResidualBlock(widths[level + 1], widths[level]))
        layers += [nn.GroupNorm(GROUPS, widths[0]), nn.SiLU()]
        layers.append(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))
        layers += [nn.PixelShuffle(patch)] if patch > 1 else []
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "N L h w"]) -> Float[Tensor, "N C Y X"]:
        return _in_chunks(self.layers, z, self.channels * z.shape[2] * z.shape[3] * 4**self.doublings)


def _in_chunks(layers: nn.Module, x: Float[Tensor, "N C Y X"], values: int) -> Tensor:
    """``layers(x)``; on a CPU as many frames at a time as ``CHUNK`` allows, with ``values`` in the widest map of each.

    Channels stay first: with channels last torch's group normalisation on a CPU loses digits (it subtracts the square
    of the mean from the mean square) and its gradient is ten times slower, which costs what the convolutions gain.
    """
    count = max(CHUNK // values, 1) if x.device.type == "cpu" else len(x)
    if len(x) <= count:
        return layers(x)
    return torch.cat([layers(part) for part in x.split(count)])


def channels_last(x: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N C Y X"]:
    """Channels last in memory on a GPU, and on a CPU without gradients (a sixth faster there, while backward passes are
    a fifth slower: benchmarks/)."""
    return x.contiguous(memory_format=torch.channels_last) if x.is_cuda or not torch.is_grad_enabled() else x


def flatten_map(x: Float[Tensor, "N L h w"]) -> Float[Tensor, "N F"]:
    """Flatten by row, column, channel: the order of frame tokens and of the policy's features."""
    return rearrange(x, "n l h w -> n (h w l)")
