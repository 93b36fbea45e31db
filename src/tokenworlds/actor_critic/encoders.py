"""Features of a policy's inputs: frames, the code vectors of a picture's tokens, or the tokens of every modality.

Shapes: N observations, S symbols of each, E code width, h x w tokens of a picture, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import EncoderConfig, TokenPolicyConfig
from tokenworlds.envs.spec import EnvironmentSpec, GridSpec, ImageSpec, ModalitySpec, TokenSpec, VectorSpec
from tokenworlds.ops.convolutions import FrameEncoder, flatten_map
from tokenworlds.tokenizers import ImageTokenizer, ObservationTokenizer
from tokenworlds.tokenizers.modality import ModalityTokenizer
from tokenworlds.world_models.embeddings import ColumnsEmbedding

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


# Encoders of M3, one a modality, over what its tokenizer makes of the symbols


class PictureEncoder(CodeMapEncoder):
    """Convolutions over a picture's code vectors."""

    def __init__(self, tokenizer: ModalityTokenizer, config: TokenPolicyConfig) -> None:
        assert isinstance(tokenizer, ImageTokenizer)
        super().__init__(tokenizer.embed_dim, tokenizer.grid)


class VectorEncoder(Encoder):
    """The numbers themselves, as the tokenizer rounds them, in symlog."""

    def __init__(self, tokenizer: ModalityTokenizer, config: TokenPolicyConfig) -> None:
        super().__init__()
        self.width = tokenizer.num_tokens

    def forward(self, numbers: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        return numbers


class CategoriesEncoder(Encoder):
    """Embeddings of the tokens side by side; one of several symbols, a cell of a map, has the mean of theirs."""

    def __init__(self, tokenizer: ModalityTokenizer, config: TokenPolicyConfig) -> None:
        super().__init__()
        self.embedding = ColumnsEmbedding(tokenizer.vocab_sizes, config.token_dim)
        self.width = tokenizer.num_tokens * config.token_dim

    def forward(self, symbols: Int[Tensor, "N *S"]) -> Float[Tensor, "N F"]:
        features: Tensor = self.embedding(symbols.flatten(1)).flatten(1)
        return features


ENCODERS: dict[type[ModalitySpec], Callable[[ModalityTokenizer, TokenPolicyConfig], Encoder]] = {
    ImageSpec: PictureEncoder,
    VectorSpec: VectorEncoder,
    TokenSpec: CategoriesEncoder,
    GridSpec: CategoriesEncoder,
}


class SymbolEncoder(Encoder):
    """Symbols (N, S) of whole observations to features, encoded modality by modality and fused by linear layers with
    normalisation. The tokenizer gets no gradient and is not part of this module's state."""

    def __init__(self, config: TokenPolicyConfig, spec: EnvironmentSpec, tokenizer: ObservationTokenizer) -> None:
        super().__init__()
        self._tokenizer = (tokenizer,)  # in a tuple, so that it is no submodule
        encoders = {
            name: ENCODERS[type(spec.observation[name])](tokenizer.part(name), config)
            for name in tokenizer.layout.symbols
        }
        widths = [sum(encoder.width for encoder in encoders.values()), *config.fuser]
        layers = ((nn.Linear(a, b), nn.LayerNorm(b), nn.SiLU()) for a, b in pairwise(widths))
        self.encoders = nn.ModuleDict(encoders)
        self.fuser = nn.Sequential(*(part for layer in layers for part in layer))
        self.width = widths[-1]

    def forward(self, symbols: Int[Tensor, "N S"]) -> Float[Tensor, "N F"]:
        (tokenizer,) = self._tokenizer
        with torch.no_grad():
            where = tokenizer.layout.symbols.items()
            codes = {name: tokenizer.part(name).codes(symbols[:, place]) for name, place in where}
        features: Tensor = self.fuser(torch.cat([self.encoders[name](some) for name, some in codes.items()], dim=1))
        return features
