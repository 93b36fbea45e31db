"""Image tokenizer: a discrete autoencoder, frames to a grid of codes and back (IRIS section 2.1, REM section
3, M3)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ImageTokenizerConfig, Quantiser, Reconstruction, TokenizerNetwork
from tokenworlds.losses import Losses
from tokenworlds.ops.convolutions import channels_last
from tokenworlds.tokenizers.modality import ModalityTokenizer
from tokenworlds.tokenizers.pictures import to_float

if TYPE_CHECKING:
    from tokenworlds.tokenizers.fsq import ScalarCodes
    from tokenworlds.tokenizers.lpips import LPIPS

# Modules of this package with an Encoder and a Decoder, or a whole Tokenizer; only the chosen one is imported
NETWORKS = {TokenizerNetwork.resnet: "resnet", TokenizerNetwork.conv: "conv", TokenizerNetwork.external: "external"}


def network_of(config: ImageTokenizerConfig) -> ModuleType:
    """The module of the chosen network."""
    return import_module(f"tokenworlds.tokenizers.{NETWORKS[config.network]}")


@dataclass
class TokenizerLosses(Losses):
    """Codebook and commitment (together), reconstruction and perceptual distance, all with weight 1."""

    commitment: Tensor
    reconstruction: Tensor
    perceptual: Tensor


class ImageTokenizer(ModalityTokenizer):
    """x -> z -> codes -> reconstruction. Frames are floats in [0, 1] or uint8 outside, [-1, 1] inside."""

    learns = True

    def __init__(
        self, config: ImageTokenizerConfig, resolution: int, channels: int = 3, perceptual: LPIPS | None = None
    ) -> None:
        super().__init__()
        network = network_of(config)
        sizes = (getattr(config, config.network.name), resolution, channels, config.z_channels)
        self.encoder = network.Encoder(*sizes)
        self.pre_quant_conv = _projection(config, config.z_channels, config.embed_dim)
        self.embedding = _quantiser(config)  # tokens to code vectors
        self.post_quant_conv = _projection(config, config.embed_dim, config.z_channels)
        self.decoder = network.Decoder(*sizes)
        self.lpips = perceptual
        self.perceptual_dropout = True  # see quirks
        self.distance = {Reconstruction.l1: F.l1_loss, Reconstruction.mse: F.mse_loss}[config.reconstruction]
        self.embed_dim = config.embed_dim
        self.grid = self.encoder.grid  # h = w
        self.num_tokens, self.vocab_sizes = self.grid**2, (config.vocab_size,)

    def train(self, mode: bool = True) -> ImageTokenizer:
        super().train(mode)
        if self.lpips is not None:
            self.lpips.train(mode and self.perceptual_dropout)
        return self

    def latents(self, frames: Tensor) -> Float[Tensor, "N E h w"]:
        """The continuous code z of frames (N, C, Y, X), before quantisation."""
        return self.pre_quant_conv(self.encoder(channels_last(to_float(frames) * 2 - 1)))

    def quantise(self, z: Float[Tensor, "N E h w"]) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N E h w"]]:
        """Tokens in row-major order, and their codes laid out as z."""
        tokens = self.embedding.tokens(z).flatten(1)
        return tokens, self.codes(tokens)

    def vectors(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N E"]:
        """Code vectors of any tokens."""
        return self.embedding(tokens)

    def codes(self, symbols: Int[Tensor, "N K"]) -> Float[Tensor, "N E h w"]:
        """Code vectors of frames' tokens, as maps."""
        return rearrange(self.vectors(symbols), "n (h w) e -> n e h w", h=self.grid)

    def encode(self, observations: Tensor) -> Int[Tensor, "N K"]:
        """Tokens of frames (N, C, Y, X)."""
        return self.quantise(self.latents(observations))[0]

    def decode_codes(self, codes: Float[Tensor, "N E h w"]) -> Float[Tensor, "N C Y X"]:
        """Frames in about [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(channels_last(codes)))

    def decode(self, symbols: Int[Tensor, "N K"]) -> Float[Tensor, "N C Y X"]:
        """Frames in [0, 1], clamped: the policy's input."""
        return ((self.decode_codes(self.codes(symbols)) + 1) / 2).clamp(0, 1)

    def render(self, observations: Tensor) -> Float[Tensor, "N 3 Y X"]:
        """The frames themselves; grey if they have one channel."""
        return to_float(observations).expand(-1, 3, -1, -1)

    def loss(self, frames: UInt8[Tensor, "N C Y X"] | Float[Tensor, "N C Y X"]) -> TokenizerLosses:
        """Losses of the reconstruction from straight-through codes; the perceptual network follows train/eval mode if
        its dropout is part of the published loss (``perceptual_dropout``)."""
        x = channels_last(to_float(frames) * 2 - 1)
        z: Tensor = self.pre_quant_conv(self.encoder(x))
        codes, commitment = self.embedding.straight_through(z)
        reconstruction = self.decode_codes(codes)
        perceptual = x.new_zeros(()) if self.lpips is None else self.lpips(x, reconstruction).mean()
        return TokenizerLosses(commitment, self.distance(reconstruction, x), perceptual)


class Codebook(nn.Embedding):
    """Vector quantisation: the nearest vector of a learned table (IRIS, REM, M3)."""

    def __init__(self, vocab_size: int, width: int, beta: float) -> None:
        super().__init__(vocab_size, width)
        self.weight.data.uniform_(-1.0 / vocab_size, 1.0 / vocab_size)
        self.beta = beta

    def tokens(self, z: Float[Tensor, "N E h w"]) -> Int[Tensor, "N h w"]:
        tokens = nearest_codes(rearrange(z, "n e h w -> (n h w) e"), self.weight)
        return rearrange(tokens, "(n h w) -> n h w", h=z.shape[2], w=z.shape[3])

    def straight_through(self, z: Float[Tensor, "N E h w"]) -> tuple[Float[Tensor, "N E h w"], Float[Tensor, ""]]:
        """z + sg(e - z), and the commitment |sg(z) - e|^2 + beta |z - sg(e)|^2, in the mean."""
        codes = rearrange(self(self.tokens(z)), "n h w e -> n e h w")
        commitment = F.mse_loss(codes, z.detach()) + self.beta * F.mse_loss(z, codes.detach())
        return z + (codes - z).detach(), commitment


def _quantiser(config: ImageTokenizerConfig) -> Codebook | ScalarCodes:
    if config.quantiser is Quantiser.nearest:
        return Codebook(config.vocab_size, config.embed_dim, config.beta)
    from tokenworlds.tokenizers.fsq import ScalarCodes

    return ScalarCodes(config.fsq_levels, config.embed_dim)


def _projection(config: ImageTokenizerConfig, channels_in: int, channels_out: int) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, 1) if config.projections else nn.Identity()


def nearest_codes(z: Float[Tensor, "N E"], codebook: Float[Tensor, "V E"]) -> Tensor:
    """argmin_v |z|^2 + |e_v|^2 - 2 z.e_v, the first index on ties."""
    distances = torch.addmm(codebook.square().sum(1), z, codebook.T, alpha=-2.0)  # |z|^2 is the same for every code
    return distances.argmin(dim=1)
