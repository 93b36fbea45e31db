"""Vector quantisation on the unit sphere (Delta-IRIS, section 2): codes are moving averages of the vectors assigned to
them, and unused codes are revived.

Shapes: N vectors of width D outside and E inside, V codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

CODE_RATE = 0.01  # moving average of the codes
FREQUENCY_RATE = 0.02  # and of how often each is chosen
EXPIRED = 0.1  # a code below this share of the mean frequency is unused
LOST_BITS = 2.0  # codes are revived while the entropy of their use is this far below the largest possible
COLLAPSED_BITS = 1.0  # below this entropy they always are


@dataclass
class Quantised:
    """``codes`` are projected out and pass the gradient straight through; ``commitment`` is unweighted. Entropy of the
    codebook in bits and number of revived codes are 0 in evaluation mode."""

    tokens: Int[Tensor, "*N"]
    codes: Float[Tensor, "*N D"]
    commitment: Float[Tensor, ""]
    entropy: Float[Tensor, ""]
    revived: Int[Tensor, ""]


class SphericalQuantiser(nn.Module):
    """Nearest code by cosine similarity. In training mode every call updates the codebook, after its use."""

    codebook: Tensor
    frequencies: Tensor
    updates: Tensor

    def __init__(self, vocab_size: int, embed_dim: int, width: int, revival_updates: int | None) -> None:
        super().__init__()
        self.revival_updates = revival_updates
        self.project_in = nn.Linear(width, embed_dim)
        self.project_out = nn.Linear(embed_dim, width)
        limit = 1 / vocab_size
        self.register_buffer("codebook", torch.empty(vocab_size, embed_dim).uniform_(-limit, limit))
        self.register_buffer("frequencies", torch.full((vocab_size,), limit))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Float[Tensor, "*N D"]) -> Quantised:
        v = self._directions(z)
        tokens = self._nearest(v)
        nearest = self.codebook[tokens]
        codes = self.project_out(v + (nearest - v).detach())
        commitment = F.mse_loss(v, nearest)
        if self.training:
            entropy, revived = self._update_codebook(v.detach().flatten(0, -2), tokens.flatten())
        else:
            entropy, revived = v.new_zeros(()), tokens.new_zeros(())
        return Quantised(tokens, codes, commitment, entropy, revived)

    def tokens(self, z: Float[Tensor, "*N D"]) -> Int[Tensor, "*N"]:
        """The nearest codes, without an update of the codebook."""
        return self._nearest(self._directions(z))

    def embed(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """The codes of tokens, projected out."""
        return self.project_out(self.codebook[tokens])

    def _directions(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """Normalised in the codebook's number format, also under autocast."""
        return F.normalize(self.project_in(z).to(self.codebook.dtype), dim=-1)

    @torch.no_grad()
    def _nearest(self, v: Float[Tensor, "*N E"]) -> Int[Tensor, "*N"]:
        """argmax_c v.e_c, the first index on ties."""
        return (v @ self.codebook.T).argmax(dim=-1)

    @torch.no_grad()
    def _update_codebook(self, vectors: Float[Tensor, "N E"], tokens: Int[Tensor, "N"]) -> tuple[Tensor, Tensor]:
        """Move each code towards the mean direction of the vectors assigned to it (a code without any shrinks, and is
        normalised again); returns entropy and number of revived codes. Sums are float32 under autocast too, where the
        published program took them from a product of rounded numbers."""
        counts = torch.zeros_like(self.frequencies).index_add_(0, tokens, vectors.new_ones(len(tokens)))
        sums = torch.zeros_like(self.codebook).index_add_(0, tokens, vectors)
        self.codebook.lerp_(F.normalize(sums / counts.clamp(min=1).unsqueeze(1), dim=1), CODE_RATE)
        self.frequencies.lerp_(counts / len(tokens), FREQUENCY_RATE)
        revived = self._revive(vectors)
        self.codebook.copy_(F.normalize(self.codebook, dim=1))
        self.updates += 1
        return self._entropy(), revived

    def _revive(self, vectors: Float[Tensor, "N E"]) -> Int[Tensor, ""]:
        """Replace unused codes, in random order, by random vectors. Decided on the device: of all possible pairs of
        code and vector the first ``revived`` are carried out."""
        size, entropy = len(self.codebook), self._entropy()
        is_expired = (self.frequencies < EXPIRED / size) & (entropy < math.log2(size) - LOST_BITS)
        if self.revival_updates is not None:
            is_expired = is_expired & ((entropy < COLLAPSED_BITS) | (self.updates < self.revival_updates))
        codes, places = self.revival_order(is_expired, len(vectors))
        pairs = min(size, len(vectors))
        codes, places = codes[:pairs], places[:pairs]
        revived = is_expired.sum().clamp(max=pairs)
        is_revived = torch.arange(pairs, device=codes.device) < revived
        self.codebook[codes] = torch.where(is_revived.unsqueeze(1), vectors[places], self.codebook[codes])
        self.frequencies[codes] = torch.where(is_revived, 1 / size, self.frequencies[codes])
        return revived

    def revival_order(self, is_expired: Bool[Tensor, "V"], count: int) -> tuple[Int[Tensor, "V"], Int[Tensor, "N"]]:
        """All codes, the expired ones first and in random order, and a random order of ``count`` vectors."""
        keys = torch.rand(is_expired.shape, device=is_expired.device).masked_fill(~is_expired, 2.0)
        return keys.argsort(), torch.randperm(count, device=is_expired.device)

    def _entropy(self) -> Float[Tensor, ""]:
        """Entropy of the codes' frequencies, in bits."""
        nats: Tensor = torch.special.entr(self.frequencies).sum()
        return nats / math.log(2)
