"""The delta tokenizer without its quantiser: deltas are maps of real numbers."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenworlds.config import DeltaTokenizerConfig
from tokenworlds.tokenizers.delta import DeltaTokenizer, ReconstructionLosses


class ContinuousDeltaTokenizer(DeltaTokenizer):
    """(x_t, a_t, x_t+1) -> delta; this, x_t and a_t -> reconstruction of x_t+1."""

    def add_quantiser(self, config: DeltaTokenizerConfig) -> None:
        """There is none, and no token."""
        self.num_tokens = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a delta."""
        return self.encoder.latent_dim, self.grid, self.grid

    def encode(self, frames: Tensor, actions: Int[Tensor, "N"], following: Tensor) -> Float[Tensor, "N L h w"]:
        """Deltas of transitions."""
        return self.latents(frames, actions, following)

    def embed(self, tokens: Float[Tensor, "*N L h w"]) -> Float[Tensor, "*N L h w"]:
        """Deltas as they are."""
        return tokens

    def loss(self, frames: Tensor, actions: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> ReconstructionLosses:
        transitions = self.transitions(frames, actions, mask)
        before, taken, following, _ = transitions
        terms = self.errors(transitions, self.latents(before, taken, following))
        return ReconstructionLosses(*(weight * term for weight, term in zip(self.weights, terms)))

    def split(self, z: Float[Tensor, "N L h w"]) -> Float[Tensor, "N L h w"]:
        """Maps stay whole."""
        return z

    def join(self, patches: Float[Tensor, "N L h w"]) -> Float[Tensor, "N L h w"]:
        return patches
