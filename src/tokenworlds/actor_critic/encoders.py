"""Features of a policy's inputs: frames, or the code vectors of a picture's tokens.

Shapes: N observations, E code width, h x w tokens of a picture, F features.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import EncoderConfig
from tokenworlds.ops.convolutions import FrameEncoder, flatten_map

CHANNELS = (32, 32, 64, 64)


class Encoder(nn.Module):
    """Policy inputs (N, ...) to ``width`` features."""

    width: int


class PixelEncoder(Encoder):
    """Frames (N, C, Y, X) in [0, 1] to features, halved four times (IRIS appendix A.3)."""

    def __init__(self, resolution: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise((channels, *CHANNELS)))
        self.width = CHANNELS[-1] * (resolution // 2 ** len(CHANNELS)) ** 2

    def forward(self, frames: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N F"]:
        """Pooling comes before the ReLU, which gives the same numbers for a quarter of its work."""
        h = frames * 2 - 1
        for convolution in self.convolutions:
            h = F.relu(F.max_pool2d(convolution(h), 2))
        return h.flatten(1)


class FlatEncoder(FrameEncoder, Encoder):
    """Frames (N, C, Y, X) in [0, 1] to the map of Delta-IRIS's convolutional stack, flattened."""

    def __init__(self, config: EncoderConfig, resolution: int, channels: int) -> None:
        super().__init__(config, resolution, channels)
        self.width = self.latent_dim * self.grid**2

    def forward(self, frames: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N F"]:
        return flatten_map(super().forward(frames))


class CodeMapEncoder(Encoder):
    """Code vectors (N, E, h, w) of a picture's tokens to features at their resolution, a quarter as many."""

    def __init__(self, embed_dim: int, grid: int) -> None:
        super().__init__()
        widths = (embed_dim, embed_dim // 2, embed_dim // 4)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.width = widths[-1] * grid**2

    def forward(self, codes: Float[Tensor, "N E h w"]) -> Float[Tensor, "N F"]:
        h = codes
        for convolution in self.convolutions:
            h = F.silu(convolution(h))
        return h.flatten(1)


class CodeEncoder(CodeMapEncoder):
    """Features of ``CodeMapEncoder`` through a dense layer (REM section 3)."""

    def __init__(self, embed_dim: int, grid: int, width: int) -> None:
        super().__init__(embed_dim, grid)
        self.dense = nn.Linear(self.width, width)
        self.width = width

    def forward(self, codes: Float[Tensor, "N E h w"]) -> Float[Tensor, "N F"]:
        return F.silu(self.dense(super().forward(codes)))
