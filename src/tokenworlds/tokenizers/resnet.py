"""Residual encoder and decoder with single-head attention at chosen resolutions, one halving per level: IRIS's image
tokenizer (appendix A.1). Module names follow the published checkpoints, so that importing one only renames prefixes.
"""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ResNetConfig
from tokenworlds.ops.convolutions import GROUPS, Downsample, ResidualBlock, Upsample

EPS = 1e-6


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, EPS)


class AttentionBlock(nn.Module):
    """x + proj(softmax(q k^T / sqrt(C)) v) over the positions of the feature map, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y X"]:
        h = self.norm(x)
        q, k, v = (projection(h).flatten(2).transpose(1, 2).contiguous() for projection in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(mixed.transpose(1, 2).reshape(x.shape))


class Level(nn.Module):
    """Blocks of one resolution: residual blocks, attention after each where ``has_attention``, and the change of
    resolution."""

    block: nn.ModuleList
    attn: nn.ModuleList
    downsample: nn.Module
    upsample: nn.Module

    def __init__(self, channels_in: int, channels_out: int, blocks: int, has_attention: bool, dropout: float) -> None:
        super().__init__()
        widths = [channels_in, *[channels_out] * blocks]
        self.block = nn.ModuleList(ResidualBlock(a, b, dropout, EPS) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(AttentionBlock(channels_out) for _ in range(blocks if has_attention else 0))
        self.downsample = nn.Identity()
        self.upsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        return self.upsample(self.downsample(x))


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, dropout, EPS)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResidualBlock(channels, channels, dropout, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """(B, C, Y, X) in [-1, 1] to (B, z, h, w), h = Y / 2^(levels - 1)."""

    def __init__(self, config: ResNetConfig, resolution: int, channels: int, z_channels: int) -> None:
        super().__init__()
        widths = [config.ch, *[config.ch * multiplier for multiplier in config.ch_mult]]
        halvings = len(config.ch_mult) - 1
        self.grid = resolution // 2**halvings
        self.conv_in = nn.Conv2d(channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for index, (channels_in, channels_out) in enumerate(pairwise(widths)):
            has_attention = resolution // 2**index in config.attn_resolutions
            level = Level(channels_in, channels_out, config.num_res_blocks, has_attention, config.dropout)
            if index < halvings:
                level.downsample = Downsample(channels_out, 3)
            self.down.append(level)
        self.mid = Middle(widths[-1], config.dropout)
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B z h w"]:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """(B, z, h, w) to (B, C, Y, X), about [-1, 1]; one residual block a level more than the encoder."""

    def __init__(self, config: ResNetConfig, resolution: int, channels: int, z_channels: int) -> None:
        super().__init__()
        widths = [config.ch * multiplier for multiplier in config.ch_mult]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config.dropout)
        levels = []
        for index, width in enumerate(widths):  # a level's input comes from the level above it, which is run before
            channels_in = widths[min(index + 1, len(widths) - 1)]
            has_attention = resolution // 2**index in config.attn_resolutions
            level = Level(channels_in, width, config.num_res_blocks + 1, has_attention, config.dropout)
            if index > 0:
                level.upsample = Upsample(width)
            levels.append(level)
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "B z h w"]) -> Float[Tensor, "B C Y X"]:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
