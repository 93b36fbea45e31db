"""Shares of predictions that are right, of which evaluation keeps the mean; training does not compute them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenworlds.losses import masked_mean
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.heads import ScalarHead


def of_tokens(
    layout: TokenLayout,
    heads: nn.ModuleDict,
    outputs: Float[Tensor, "B T K D"],
    tokens: Int[Tensor, "B T S"],
    counts: Bool[Tensor, "B T K"],
) -> dict[str, Tensor]:
    """Share of the tokens that are the most likely ones, with all their symbols."""
    logits = [heads[m.name](outputs[..., layout.slices[m.name], :]).split(list(m.vocab_sizes), dim=-1)
              for m in layout.modalities]  # fmt: skip
    likely = [torch.stack([some.argmax(dim=-1) for some in columns], dim=-1).flatten(-2) for columns in logits]
    is_right = layout.agreement(torch.cat(likely, dim=-1), tokens)
    return {"token_accuracy": masked_mean(is_right.float(), counts)}


def of_outcomes(
    head: ScalarHead,
    outputs: Float[Tensor, "*B W"],
    rewards: Float[Tensor, "*B"],
    end_logits: Float[Tensor, "*B 2"],
    ends: Int[Tensor, "*B"],
    counts: Bool[Tensor, "*B"],
) -> dict[str, Tensor]:
    """Shares of the rewards that are expected to within a half, and of the ends and other steps that are told apart."""
    errors = head.mean(outputs) - head.target(rewards)
    return {
        "reward_accuracy": masked_mean((errors.abs() < 0.5).float(), counts),
        "end_accuracy": masked_mean((end_logits.argmax(dim=-1) == ends).float(), counts),
    }
