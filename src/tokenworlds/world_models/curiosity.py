"""Disagreement of an ensemble about the next observation, as a reward for exploration (M3; Sekar et al., 2020).

Its members predict the tokens from the outputs that the world model's heads read, into which they pass no gradient.
Each learns from its own part of every batch.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.ops.layer_norm import LayerNorm


class Ensemble(nn.Module):
    """M networks Linear(D, 2 D), LayerNorm, SiLU, Linear(2 D, V) side by side, as stacked matrices."""

    def __init__(self, members: int, width: int, vocab_size: int) -> None:
        super().__init__()
        hidden = 2 * width
        self.weight1, self.bias1 = _linears(members, width, hidden)
        self.norm = LayerNorm(hidden)
        self.norm_weight = nn.Parameter(torch.ones(members, hidden))
        self.norm_bias = nn.Parameter(torch.zeros(members, hidden))
        self.weight2, self.bias2 = _linears(members, hidden, vocab_size)

    def forward(self, x: Float[Tensor, "#M N D"]) -> Float[Tensor, "M N V"]:
        """Logits of every member for its own inputs, or for the same ones (M = 1)."""
        x = x.expand(len(self.weight1), -1, -1)
        h = torch.baddbmm(self.bias1.unsqueeze(1), x, self.weight1.mT)
        h = torch.addcmul(self.norm_bias.unsqueeze(1), self.norm(h), self.norm_weight.unsqueeze(1))
        return torch.baddbmm(self.bias2.unsqueeze(1), F.silu(h), self.weight2.mT)

    def split(self, x: Float[Tensor, "B *rest D"]) -> Float[Tensor, "B *rest V"]:
        """Logits of the first member for the first part of the batch, of the second for the next one, and so on. If the
        batch, in evaluation, is no multiple of M, the last parts are smaller."""
        missing = -len(x) % len(self.weight1)
        full = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x
        members = full.unflatten(0, (len(self.weight1), -1)).flatten(1, -2)
        logits: Tensor = self(members)
        logits = logits.flatten(0, 1).unflatten(0, full.shape[:-1])
        return logits[: len(x)]

    def disagreement(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """Jensen-Shannon divergence H(mean p) - mean H(p) of the members' predictions, in nats."""
        log_p: Tensor = self(x.flatten(0, -2).unsqueeze(0)).log_softmax(dim=-1)
        p = log_p.exp()
        divergence: Tensor = torch.special.entr(p.mean(dim=0)).sum(dim=-1) + (p * log_p).sum(dim=-1).mean(dim=0)
        return divergence.view(x.shape[:-1])


def _linears(members: int, fan_in: int, out: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights (M, out, in) and biases (M, out) as torch draws them for a linear layer."""
    bound = 1 / math.sqrt(fan_in)
    weight, bias = torch.empty(members, out, fan_in), torch.empty(members, out)
    return nn.Parameter(weight.uniform_(-bound, bound)), nn.Parameter(bias.uniform_(-bound, bound))
