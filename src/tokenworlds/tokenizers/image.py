"""Image tokenizer: a discrete autoencoder, frames to a grid of codes and back (IRIS section 2.1, REM section
3, M3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from tokenworlds.config import ImageTokenizerConfig, TokenizerNetwork
from tokenworlds.losses import Losses
from tokenworlds.ops.convolutions import channels_last
from tokenworlds.replay.companions import Needs
from tokenworlds.tokenizers import codebook, pixels, terms
from tokenworlds.tokenizers.modality import ModalityTokenizer
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.tokenizers.terms.base import Scene, Term

if TYPE_CHECKING:
    from tokenworlds.tokenizers.lpips import LPIPS

# Modules of this package with an Encoder and a Decoder, or a whole Tokenizer; only the chosen one is imported
NETWORKS = {TokenizerNetwork.resnet: "resnet", TokenizerNetwork.conv: "conv", TokenizerNetwork.external: "external"}


def network_of(config: ImageTokenizerConfig) -> ModuleType:
    """The module of the chosen network."""
    return import_module(f"tokenworlds.tokenizers.{NETWORKS[config.network]}")


@dataclass
class TokenizerLosses(Losses):
    """Codebook and commitment (together), reconstruction and perceptual distance, all with weight 1. ``further`` is the
    weighted sum of other terms, where there are any, and what another weight of the perceptual distance adds to it;
    each is measured without its weight."""

    commitment: Tensor
    reconstruction: Tensor
    perceptual: Tensor
    further: Tensor | None = field(default=None, kw_only=True)

    @property
    def total(self) -> Tensor:
        return super().total if self.further is None else super().total + self.further

    def add(self, loss: Tensor | None, measured: Mapping[str, Tensor]) -> None:
        """Add a further loss with its weight, if there is one, and what is measured; of equal names the sum."""
        if loss is not None:
            self.further = loss if self.further is None else self.further + loss
        for name, value in measured.items():
            self.measured[name] = self.measured[name] + value if name in self.measured else value


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
        self.embedding = codebook.build(config)  # tokens to code vectors
        self.post_quant_conv = _projection(config, config.embed_dim, config.z_channels)
        self.decoder = network.Decoder(*sizes)
        self.lpips = perceptual
        self.perceptual_dropout = True  # see quirks
        self.perceptual_weight = 1.0 if config.perceptual_weight is None else config.perceptual_weight
        self.distance = pixels.distance(config)
        self.embed_dim = config.embed_dim
        self.grid = self.encoder.grid  # h = w
        self.num_tokens, self.vocab_sizes = self.grid**2, (config.vocab_size,)
        self.terms = terms.build(config, config.embed_dim * self.num_tokens, channels)

    def train(self, mode: bool = True) -> ImageTokenizer:
        super().train(mode)
        if self.lpips is not None:
            self.lpips.train(mode and self.perceptual_dropout)
        return self

    @property
    def needs(self) -> Needs:
        """What the terms of the loss need besides the frames."""
        chosen = (cast(Term[Any], term) for term in self.terms.children())
        return {name: make for term in chosen for name, make in term.needs.items()}

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

    def coded(self, frames: Tensor) -> tuple[Float[Tensor, "N *E"], Int[Tensor, "N K"]]:
        """Latents and tokens of frames (N, C, Y, X)."""
        z = self.latents(frames)
        return z, self.quantise(z)[0]

    def encode(self, observations: Tensor) -> Int[Tensor, "N K"]:
        """Tokens of frames (N, C, Y, X)."""
        return self.coded(observations)[1]

    def decode_codes(self, codes: Float[Tensor, "N E h w"]) -> Float[Tensor, "N C Y X"]:
        """Frames in about [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(channels_last(codes)))

    def decode(self, symbols: Int[Tensor, "N K"]) -> Float[Tensor, "N C Y X"]:
        """Frames in [0, 1], clamped: the policy's input."""
        return ((self.decode_codes(self.codes(symbols)) + 1) / 2).clamp(0, 1)

    def render(self, observations: Tensor) -> Float[Tensor, "N 3 Y X"]:
        """The frames themselves; grey if they have one channel."""
        return to_float(observations).expand(-1, 3, -1, -1)

    def loss(
        self, frames: UInt8[Tensor, "N C Y X"] | Float[Tensor, "N C Y X"], given: Mapping[str, Tensor] | None = None
    ) -> TokenizerLosses:
        """Losses of the reconstruction from straight-through codes; the perceptual network follows train/eval mode if
        its dropout is part of the published loss (``perceptual_dropout``). ``given`` is what terms need besides."""
        x = channels_last(to_float(frames) * 2 - 1)
        z: Tensor = self.pre_quant_conv(self.encoder(x))
        quantised = self.embedding.straight_through(z)
        reconstruction = self.decode_codes(quantised.codes)
        perceptual = x.new_zeros(()) if self.lpips is None else self.lpips(x, reconstruction).mean()
        losses = TokenizerLosses(quantised.commitment, self.distance(reconstruction, x), perceptual)
        losses.add(quantised.further, quantised.measured)
        base = (losses.reconstruction, losses.perceptual)
        if self.perceptual_weight != 1:
            base = (losses.reconstruction, self.perceptual_weight * losses.perceptual)
            losses.add(base[1] - losses.perceptual, {})
        scene = Scene(
            x, reconstruction, quantised.codes, given or {}, self.distance, base, self.decoder.conv_out.weight
        )
        for term in self.terms.children():
            losses.add(*term(scene))
        return losses


def _projection(config: ImageTokenizerConfig, channels_in: int, channels_out: int) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, 1) if config.projections else nn.Identity()
