"""Convolutional encoder and decoder without shortcuts or attention: REM's and M3's image tokenizers.

The width doubles at every halving of the resolution. On the way up it halves again (M3), or it starts from the width of
the latents and halves, not below the first width (REM).
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


class Block(nn.Module):
    """conv2(conv1(resample(silu(norm(x))))); an identity instead of conv2 if ``convolutions`` is 1.

    Downwards ``resample`` pads right and bottom by one and conv1 has stride 2, upwards it repeats the nearest pixel.
    """

    def __init__(self, channels_in: int, channels_out: int, groups: int, convolutions: int = 2, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.norm = _norm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1 if up else 0, stride=1 if up else 2)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1) if convolutions == 2 else nn.Identity()

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C2 Y2 X2"]:
        h = F.silu(self.norm(x))
        h = F.interpolate(h, scale_factor=2.0, mode="nearest-exact") if self.up else F.pad(h, (0, 1, 0, 1))
        return self.conv2(self.conv1(h))


def _widths(config: ConvConfig) -> list[int]:
    """Widths from the highest to the lowest resolution."""
    return [config.ch * 2**index for index in range(config.num_halvings + 1)]


class Encoder(nn.Module):
    """(B, C, Y, X) in [-1, 1] to (B, z, h, w), h = Y / 2^halvings."""

    def __init__(self, config: ConvConfig, resolution: int, channels: int, z_channels: int) -> None:
        super().__init__()
        widths = _widths(config)
        self.grid = resolution // 2**config.num_halvings
        self.conv_in = nn.Conv2d(channels, config.ch, 3, padding=1)
        self.down = nn.Sequential(
            *(Block(a, b, config.num_groups, config.convolutions, up=False) for a, b in pairwise(widths))
        )
        self.norm_out = _norm(config.num_groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B z h w"]:
        return self.conv_out(F.silu(self.norm_out(self.down(self.conv_in(x)))))


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
            *(Block(a, b, config.decoder_groups, config.convolutions, up=True) for a, b in pairwise(widths))
        )
        self.norm_out = _norm(config.num_groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "B z h w"]) -> Float[Tensor, "B C Y X"]:
        return self.conv_out(F.silu(self.norm_out(self.up(self.conv_in(self.norm_in(z))))))
