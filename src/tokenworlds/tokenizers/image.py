"""Image tokenizer: a discrete autoencoder, frames to a grid of codes and back (IRIS section 2.1, REM section 3)."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ImageTokenizerConfig, Reconstruction, TokenizerNetwork
from tokenworlds.losses import Losses
from tokenworlds.tokenizers import plain, residual
from tokenworlds.tokenizers.lpips import LPIPS

NETWORKS = {TokenizerNetwork.residual: residual, TokenizerNetwork.plain: plain}


@dataclass
class TokenizerLosses(Losses):
    """All weighted 1: codebook and commitment (together), reconstruction, perceptual distance."""

    commitment: Tensor
    reconstruction: Tensor
    perceptual: Tensor


class ImageTokenizer(nn.Module):
    """x -> z -> nearest codes -> reconstruction. Frames are floats in [0, 1] or uint8 outside, [-1, 1] inside."""

    def __init__(
        self, config: ImageTokenizerConfig, resolution: int, channels: int = 3, perceptual: LPIPS | None = None
    ) -> None:
        super().__init__()
        network = NETWORKS[config.network]
        sizes = (getattr(config, config.network.name), resolution, channels, config.z_channels)
        self.encoder = network.Encoder(*sizes)
        self.pre_quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
        self.embedding.weight.data.uniform_(-1.0 / config.vocab_size, 1.0 / config.vocab_size)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)
        self.decoder = network.Decoder(*sizes)
        self.lpips = perceptual
        self.beta = config.beta
        self.distance = {Reconstruction.l1: F.l1_loss, Reconstruction.mse: F.mse_loss}[config.reconstruction]
        self.vocab_size = config.vocab_size
        self.grid = self.encoder.grid  # h = w
        self.num_tokens = self.grid**2

    def latents(self, frames: Tensor) -> Float[Tensor, "N E h w"]:
        """The continuous code z of frames (N, C, Y, X), before quantisation."""
        z: Tensor = self.pre_quant_conv(self.encoder(_laid_out(to_float(frames) * 2 - 1)))
        return z

    def quantise(self, z: Float[Tensor, "N E h w"]) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N E h w"]]:
        """Tokens in row-major order, and their codes laid out as z."""
        tokens = nearest_codes(rearrange(z, "n e h w -> (n h w) e"), self.embedding.weight)
        tokens = rearrange(tokens, "(n k) -> n k", n=len(z))
        return tokens, self.codes(tokens)

    def codes(self, tokens: Int[Tensor, "N K"]) -> Float[Tensor, "N E h w"]:
        codes: Tensor = rearrange(self.embedding(tokens), "n (h w) e -> n e h w", h=self.grid)
        return codes

    def encode(self, frames: Tensor) -> Int[Tensor, "N K"]:
        """Tokens of frames (N, C, Y, X)."""
        return self.quantise(self.latents(frames))[0]

    def decode_codes(self, codes: Float[Tensor, "N E h w"]) -> Float[Tensor, "N C Y X"]:
        """Frames in about [-1, 1], not clamped."""
        out: Tensor = self.decoder(self.post_quant_conv(_laid_out(codes)))
        return out

    def decode(self, tokens: Int[Tensor, "N K"]) -> Float[Tensor, "N C Y X"]:
        """Frames in [0, 1], clamped: what the policy sees."""
        return ((self.decode_codes(self.codes(tokens)) + 1) / 2).clamp(0, 1)

    def loss(self, frames: UInt8[Tensor, "N C Y X"] | Float[Tensor, "N C Y X"]) -> TokenizerLosses:
        """Straight-through VQ-VAE loss with perceptual term; the perceptual network follows train/eval mode (its
        dropout is part of the published loss)."""
        x = _laid_out(to_float(frames) * 2 - 1)
        z: Tensor = self.pre_quant_conv(self.encoder(x))
        _, codes = self.quantise(z)
        reconstruction = self.decode_codes(z + (codes - z).detach())
        commitment = F.mse_loss(codes, z.detach()) + self.beta * F.mse_loss(z, codes.detach())
        perceptual = (
            self.lpips(x, reconstruction).mean()
            if self.lpips is not None
            else torch.zeros((), dtype=x.dtype, device=x.device)
        )
        return TokenizerLosses(commitment, self.distance(reconstruction, x), perceptual)


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to floats in [0, 1]; floats as they are."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames


def _laid_out(x: Tensor) -> Tensor:
    """Channels last on a GPU, and on a CPU without gradients (a sixth faster there, while backward passes are a fifth
    slower: benchmarks/)."""
    return x.contiguous(memory_format=torch.channels_last) if x.is_cuda or not torch.is_grad_enabled() else x


def nearest_codes(z: Float[Tensor, "N E"], codebook: Float[Tensor, "V E"]) -> Tensor:
    """argmin_v |z|^2 + |e_v|^2 - 2 z.e_v, the first index on ties."""
    distances = torch.addmm(codebook.square().sum(1), z, codebook.T, alpha=-2.0)  # |z|^2 is the same for every code
    return distances.argmin(dim=1)
