"""Plain encoder and decoder: those of REM's and M3's image tokenizers.

Convolutions without shortcuts or attention; the width doubles at every halving on the way down. On the way up it
halves again (M3), or it begins with that of the latents and halves, not below the first width (REM).
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ConvConfig, DecoderNorm


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _second(channels: int, convolutions: int) -> nn.Module:
    """A block's second convolution, where it has one."""
    return nn.Conv2d(channels, channels, 3, padding=1) if convolutions == 2 else nn.Identity()


def _widths(config: ConvConfig) -> list[int]:
    """On the way down."""
    return [config.ch * 2**index for index in range(config.num_halvings + 1)]


class DownBlock(nn.Module):
    """conv(halve(silu(norm(x)))): halving pads right and bottom by one and convolves with stride 2."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, convolutions: int = 2) -> None:
        super().__init__()
        self.norm = _norm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2)
        self.conv2 = _second(channels_out, convolutions)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C2 Y2 X2"]:
        out: Tensor = self.conv2(self.conv1(F.pad(F.silu(self.norm(x)), (0, 1, 0, 1))))
        return out


class UpBlock(nn.Module):
    """conv(conv(double(silu(norm(x))))): doubling repeats the nearest pixel."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, convolutions: int = 2) -> None:
        super().__init__()
        self.norm = _norm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = _second(channels_out, convolutions)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C2 Y2 X2"]:
        doubled = F.interpolate(F.silu(self.norm(x)), scale_factor=2.0, mode="nearest-exact")
        out: Tensor = self.conv2(self.conv1(doubled))
        return out


class Encoder(nn.Module):
    """(B, C, Y, X) in [-1, 1] to (B, z, h, w), h = Y / 2^halvings."""

    def __init__(self, config: ConvConfig, resolution: int, channels: int, z_channels: int) -> None:
        super().__init__()
        widths = _widths(config)
        self.grid = resolution // 2**config.num_halvings
        self.conv_in = nn.Conv2d(channels, config.ch, 3, padding=1)
        self.down = nn.Sequential(
            *(DownBlock(a, b, config.num_groups, config.convolutions) for a, b in pairwise(widths))
        )
        self.norm_out = _norm(config.num_groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B z h w"]:
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.down(self.conv_in(x)))))
        return out


class Decoder(nn.Module):
    """(B, z, h, w) to (B, C, Y, X), about [-1, 1].

    The published code has 8 groups in every norm; its first release, which the scores probably come from, had 32 in
    the norms of the blocks (``decoder_groups``).
    """

    def __init__(self, config: ConvConfig, resolution: int, channels: int, z_channels: int) -> None:
        super().__init__()
        widths = _widths(config)[::-1]
        if not config.mirrored:
            widths = [max(z_channels // 2**index, config.ch) for index in range(len(widths))]
        norms: dict[DecoderNorm, Callable[[], nn.Module]] = {
            DecoderNorm.none: nn.Identity,
            DecoderNorm.batch: partial(nn.BatchNorm2d, z_channels),
            DecoderNorm.group: partial(_norm, config.num_groups, z_channels),
        }
        self.norm_in = norms[config.decoder_norm]()
        self.conv_in = nn.Conv2d(z_channels, widths[0], 3, padding=1)
        self.up = nn.Sequential(
            *(UpBlock(a, b, config.decoder_groups, config.convolutions) for a, b in pairwise(widths))
        )
        self.norm_out = _norm(config.num_groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "B z h w"]) -> Float[Tensor, "B C Y X"]:
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.up(self.conv_in(self.norm_in(z))))))
        return out
