"""A codebook of moving averages (van den Oord et al. 2017, appendix A.1): no gradient, each code is the average of the
latents that chose it, and codes that are not used any more are replaced.

Shapes: N latents of width E, V codes.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ImageTokenizerConfig, MovingCodebookConfig
from tokenworlds.tokenizers.codebook import Quantised, tokens_of

EPSILON = 1e-5  # of the smoothed counts


class MovingCodebook(nn.Module):
    """The nearest vector of a table, which every call in training mode updates after its use."""

    weight: Tensor
    counts: Tensor
    sums: Tensor
    unused: Tensor

    def __init__(self, vocab_size: int, width: int, beta: float, settings: MovingCodebookConfig) -> None:
        super().__init__()
        self.beta, self.settings = beta, settings
        codes = torch.empty(vocab_size, width).uniform_(-1.0 / vocab_size, 1.0 / vocab_size)
        self.register_buffer("weight", codes)
        self.register_buffer("counts", torch.ones(vocab_size))  # moving averages of how many latents chose a code,
        self.register_buffer("sums", codes.clone())  # and of their sum
        self.register_buffer("unused", torch.zeros(vocab_size, dtype=torch.int64))  # updates since a code was chosen

    @classmethod
    def of(cls, config: ImageTokenizerConfig) -> MovingCodebook:
        return cls(config.vocab_size, config.embed_dim, config.beta, config.ema or MovingCodebookConfig())

    def forward(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N E"]:
        return F.embedding(tokens, self.weight)

    def tokens(self, z: Float[Tensor, "N E h w"]) -> Int[Tensor, "N h w"]:
        return tokens_of(z, self.weight)

    def straight_through(self, z: Float[Tensor, "N E h w"]) -> Quantised:
        """z + sg(e - z), and the commitment beta |z - e|^2 in the mean."""
        tokens = self.tokens(z)
        codes = rearrange(self(tokens), "n h w e -> n e h w")
        quantised = Quantised(z + (codes - z).detach(), self.beta * F.mse_loss(z, codes))
        if self.training:
            latents = rearrange(z.detach(), "n e h w -> (n h w) e").to(self.weight.dtype)
            quantised.measured["codes_revived"] = self._update(latents, tokens.flatten())
        return quantised

    @torch.no_grad()
    def _update(self, latents: Float[Tensor, "N E"], tokens: Int[Tensor, "N"]) -> Float[Tensor, ""]:
        """Move the averages, and replace codes without use; returns how many."""
        chosen = torch.zeros_like(self.counts).index_add_(0, tokens, latents.new_ones(len(tokens)))
        self.counts.lerp_(chosen, 1 - self.settings.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, tokens, latents), 1 - self.settings.decay)
        total = self.counts.sum()
        smoothed = (self.counts + EPSILON) / (total + len(self.counts) * EPSILON) * total
        self.weight.copy_(self.sums / smoothed.unsqueeze(1))
        self.unused.add_(1).mul_(chosen == 0)
        return self._replace(latents) if self.settings.reset_after else latents.new_zeros(())

    def _replace(self, latents: Float[Tensor, "N E"]) -> Float[Tensor, ""]:
        """Begin anew with random latents of the batch. A latent is drawn for every code, and taken where the code has
        had no use: nothing here waits for the device. The draws are of torch's global generator."""
        is_dead = self.unused >= self.settings.reset_after
        places = torch.randint(len(latents), self.counts.shape, device=latents.device)
        fresh = torch.where(is_dead.unsqueeze(1), latents[places], self.weight)
        self.weight.copy_(fresh)
        self.sums.copy_(torch.where(is_dead.unsqueeze(1), fresh, self.sums))
        self.counts.masked_fill_(is_dead, 1.0)
        self.unused.masked_fill_(is_dead, 0)
        return is_dead.sum().to(latents.dtype)
