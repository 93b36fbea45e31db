"""Tokenizer of the change between two frames, given the first one and the action (Delta-IRIS, section 2).

Shapes: N transitions (B sequences of T frames have B (T - 1) of them), K tokens of width D, h = w the latent grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from tokenworlds.backbones import initialise_gpt
from tokenworlds.config import DeltaTokenizerConfig
from tokenworlds.losses import Losses
from tokenworlds.ops.convolutions import FrameDecoder, FrameEncoder
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.tokenizers.quantiser import SphericalQuantiser

Transitions = tuple[Tensor, Tensor, Tensor, Tensor]
"""N frames, actions, next frames, and whether both frames are real."""


@dataclass
class ReconstructionLosses(Losses):
    """Over the transitions between real frames: mean absolute and squared error, and the mean over transitions of the
    largest squared error of a single value."""

    l1: Tensor
    l2: Tensor
    worst_pixel: Tensor


@dataclass
class DeltaTokenizerLosses(ReconstructionLosses):
    """Reconstruction, and commitment over all transitions."""

    commitment: Tensor


class DeltaTokenizer(nn.Module):
    """(x_t, a_t, x_t+1) -> K latent patches -> nearest codes; these, x_t and a_t -> reconstruction of x_t+1. Frames are
    floats in [0, 1] or uint8."""

    def __init__(self, config: DeltaTokenizerConfig, resolution: int, channels: int, num_actions: int) -> None:
        super().__init__()
        self.encoder = FrameEncoder(config.encoder, resolution, 2 * channels + 1)
        self.frame_encoder = FrameEncoder(config.frame_encoder, resolution, channels)
        self.grid = self.encoder.grid
        self.resolution = resolution
        self.add_quantiser(config)
        latent_dim = config.frame_encoder.latent_dim + config.action_channels + config.encoder.latent_dim
        self.decoder = FrameDecoder(config.decoder, latent_dim, channels)
        self.encoder_action = nn.Embedding(num_actions, resolution**2)
        self.decoder_action = nn.Embedding(num_actions, config.action_channels * self.grid**2)
        self.weights = (config.l1_weight, config.l2_weight, config.worst_pixel_weight, config.commitment_weight)
        self.apply(initialise_gpt)

    def add_quantiser(self, config: DeltaTokenizerConfig) -> None:
        """Make what turns latents into tokens."""
        self.num_tokens, self.vocab_size = config.num_tokens, config.vocab_size
        self.side = math.isqrt(config.num_tokens)  # tokens form a square
        width = config.encoder.latent_dim * (self.grid // self.side) ** 2
        self.quantiser = SphericalQuantiser(config.vocab_size, config.embed_dim, width, config.revival_updates)

    def latents(self, frames: Tensor, actions: Int[Tensor, "N"], following: Tensor) -> Float[Tensor, "N *code"]:
        """The continuous codes of transitions between frames (N, C, Y, X), before quantisation."""
        plane = rearrange(self.encoder_action(actions), "n (y x) -> n 1 y x", y=self.resolution)
        return self.split(self.encoder(torch.cat([to_float(frames), plane, to_float(following)], dim=1)))

    def encode(self, frames: Tensor, actions: Int[Tensor, "N"], following: Tensor) -> Int[Tensor, "N K"]:
        """Tokens of transitions."""
        return self.quantiser.tokens(self.latents(frames, actions, following))

    def embed(self, tokens: Int[Tensor, "*N K"]) -> Float[Tensor, "*N K D"]:
        """Codes of tokens."""
        return self.quantiser.embed(tokens)

    def reconstruct(
        self, frames: Tensor, actions: Int[Tensor, "N"], codes: Float[Tensor, "N *code"]
    ) -> Float[Tensor, "N C Y X"]:
        """The next frames, neither clipped nor rounded."""
        action_map = rearrange(self.decoder_action(actions), "n (c h w) -> n c h w", h=self.grid, w=self.grid)
        latents = [self.frame_encoder(to_float(frames)), action_map, self.join(codes)]
        return self.decoder(torch.cat(latents, dim=1))

    def decode(
        self, frames: Tensor, actions: Int[Tensor, "N"], tokens: Shaped[Tensor, "N *tokens"]
    ) -> Float[Tensor, "N C Y X"]:
        """The next frames in [0, 1], rounded to 8 bits like real ones: the policy's input."""
        return self.decode_codes(frames, actions, self.embed(tokens))

    def decode_codes(
        self, frames: Tensor, actions: Int[Tensor, "N"], codes: Float[Tensor, "N *code"]
    ) -> Float[Tensor, "N C Y X"]:
        """``decode``, from the tokens' codes."""
        return self.reconstruct(frames, actions, codes).clamp(0, 1).mul(255).round().div(255)

    def loss(self, frames: Tensor, actions: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> ReconstructionLosses:
        """Losses over all transitions of sequences (B, T, C, Y, X); ``mask`` is true on real steps."""
        transitions = self.transitions(frames, actions, mask)
        before, taken, following, _ = transitions
        quantised = self.quantiser(self.latents(before, taken, following))
        terms = [*self.errors(transitions, quantised.codes), quantised.commitment]
        moves = {"codebook_entropy": quantised.entropy, "codes_revived": quantised.revived} if self.training else {}
        return DeltaTokenizerLosses(*(w * term for w, term in zip(self.weights, terms)), measured=moves)

    def transitions(self, frames: Tensor, actions: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Transitions:
        """All transitions of sequences."""
        frames = to_float(frames)
        before, following = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        return before, actions[:, :-1].flatten(), following, (mask[:, :-1] & mask[:, 1:]).flatten()

    def errors(self, transitions: Transitions, codes: Tensor) -> list[Tensor]:
        """The terms of ``ReconstructionLosses``, without their weights."""
        before, taken, following, is_real = transitions
        error = following - self.reconstruct(before, taken, codes)
        squared = error.square()
        by_transition = (error.abs().mean(dim=(1, 2, 3)), squared.mean(dim=(1, 2, 3)), squared.amax(dim=(1, 2, 3)))
        count = is_real.sum().clamp(min=1)
        return [(term * is_real).sum() / count for term in by_transition]

    def split(self, z: Float[Tensor, "N L h w"]) -> Float[Tensor, "N K D"]:
        """Square patches of a map in row-major order; inside a patch row, column, channel."""
        return rearrange(z, "n l (h p) (w q) -> n (h w) (p q l)", h=self.side, w=self.side)

    def join(self, patches: Float[Tensor, "N K D"]) -> Float[Tensor, "N L h w"]:
        """The inverse of ``split``."""
        patch = self.grid // self.side
        return rearrange(patches, "n (h w) (p q l) -> n l (h p) (w q)", h=self.side, p=patch, q=patch)
