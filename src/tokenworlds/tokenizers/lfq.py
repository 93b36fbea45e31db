"""Lookup-free quantisation (Yu et al., MAGVIT-v2, ICLR 2024): a code is the signs of a few numbers.

Shapes: L numbers (bits) of a code, E the width of a code vector, V = 2^L codes.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ImageTokenizerConfig, SignCodesConfig
from tokenworlds.ops import precision
from tokenworlds.tokenizers.codebook import Quantised

SHARPNESS = 100.0  # inverse temperature of the probabilities whose entropies are taken
LEAST = 1e-5  # probability in a logarithm


class Signs(nn.Module):
    """Numbers to tokens and back; the first number is the highest bit of a token. No parameters."""

    places: Tensor
    table: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.register_buffer("places", 2 ** torch.arange(bits - 1, -1, -1), persistent=False)
        self.register_buffer("table", self.codes(torch.arange(2**bits)), persistent=False)

    def tokens(self, numbers: Float[Tensor, "*N L"]) -> Int[Tensor, "*N"]:
        return ((numbers > 0) * self.places).sum(dim=-1)

    def codes(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N L"]:
        """-1 or 1 for every bit."""
        return (tokens.unsqueeze(-1) // self.places % 2 * 2 - 1).float()

    def entropy(self, numbers: Float[Tensor, "N L"]) -> Float[Tensor, ""]:
        """Mean entropy of a latent's code, which training lowers, minus that of the codes of all, in nats. The
        probability of a code falls with its squared distance."""
        log_probabilities = (2 * SHARPNESS * numbers @ self.table.to(numbers.dtype).T).log_softmax(dim=1)
        probabilities = log_probabilities.exp()
        of_all = probabilities.mean(dim=0)
        return (of_all * of_all.clamp(min=LEAST).log()).sum() - (probabilities * log_probabilities).sum(dim=1).mean()


class SignCodes(nn.Module):
    """The quantiser of an image tokenizer whose code vectors are signs, with linear maps in and out."""

    def __init__(self, vocab_size: int, width: int, beta: float, entropy_weight: float) -> None:
        super().__init__()
        bits = vocab_size.bit_length() - 1
        self.beta, self.entropy_weight = beta, entropy_weight
        self.project_in = nn.Linear(width, bits)
        self.signs = Signs(bits)
        self.project_out = nn.Linear(bits, width)

    @classmethod
    def of(cls, config: ImageTokenizerConfig) -> SignCodes:
        settings = config.lfq or SignCodesConfig()
        return cls(config.vocab_size, config.embed_dim, config.beta, settings.entropy_weight)

    def forward(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N E"]:
        return self.project_out(self.signs.codes(tokens).to(self.project_out.weight.dtype))

    def tokens(self, z: Float[Tensor, "N E h w"]) -> Int[Tensor, "N h w"]:
        return self.signs.tokens(self._numbers(z))

    def straight_through(self, z: Float[Tensor, "N E h w"]) -> Quantised:
        """The codes with a gradient for z, the commitment beta |z - sg(sign)|^2 of the numbers, in the mean, and their
        entropy."""
        numbers = self._numbers(z)
        signs = torch.where(numbers > 0, 1.0, -1.0).to(numbers.dtype)
        codes = rearrange(self.project_out(numbers + (signs - numbers).detach()), "n h w e -> n e h w")
        with precision.without_autocast(z.device.type):
            entropy = self.signs.entropy(rearrange(numbers, "n h w l -> (n h w) l"))
        commitment = self.beta * F.mse_loss(numbers, signs)
        return Quantised(codes, commitment, self.entropy_weight * entropy, {"loss_entropy": entropy})

    def _numbers(self, z: Float[Tensor, "N E h w"]) -> Float[Tensor, "N h w L"]:
        """In the parameters' number format, also under autocast."""
        numbers: Tensor = self.project_in(rearrange(z, "n e h w -> n h w e"))
        return numbers.to(self.project_in.weight.dtype)
