"""Low-rank additions to linear layers (LoRA, Hu et al. 2021): W x + (alpha / r) B A x, with B = 0 at the beginning."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.transformer import SelfAttention
from tokenworlds.config.trunk import TrunkConfig


class LowRankLinear(nn.Linear):
    """A linear layer whose output is ``count`` parts of equal width, some of which have additions of their own. Weight
    and bias have the names and the values of the layer that it replaces.

    Args:
        base: the layer that it replaces.
        count: parts of the output.
        chosen: the parts with additions.
    """

    parts: Tensor

    def __init__(self, base: nn.Linear, count: int, chosen: list[int], rank: int, alpha: float) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, base.weight.device)
        self.weight, self.bias = base.weight, base.bias
        self.count, self.scale = count, alpha / rank
        self.register_buffer("parts", torch.tensor(chosen), persistent=False)
        self.lora_a = nn.Parameter(base.weight.new_empty(len(chosen), rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(len(chosen), rank, base.out_features // count))
        nn.init.uniform_(self.lora_a, -1 / math.sqrt(base.in_features), 1 / math.sqrt(base.in_features))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B out"]:
        low = F.linear(x, self.lora_a.flatten(0, 1)).unflatten(-1, self.lora_a.shape[:2])
        added = torch.einsum("...pr,pro->...po", low, self.lora_b) * self.scale
        outputs = super().forward(x).unflatten(-1, (self.count, -1))
        return outputs.index_add(-2, self.parts, added.to(outputs.dtype)).flatten(-2)


def add_to(attention: SelfAttention, config: TrunkConfig) -> None:
    """Add to the projections that ``lora_targets`` names: q, k, v of the joint one, and o, that of the output."""
    joint = ["qkv".index(letter) for letter in config.lora_targets if letter in "qkv"]
    rank, alpha = config.lora_rank, config.lora_alpha
    if joint:
        attention.query_key_value = LowRankLinear(attention.query_key_value, 3, joint, rank, alpha)
    if "o" in config.lora_targets:
        attention.projection = LowRankLinear(attention.projection, 1, [0], rank, alpha)
