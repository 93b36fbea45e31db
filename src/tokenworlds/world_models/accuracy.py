"""What is predicted of real segments, and shares of it that are right, of which evaluation keeps the mean; training
computes neither."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenworlds.losses import masked_mean
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.heads import ScalarHead, SignHead
from tokenworlds.world_models.predictions import OutcomePredictions, Predictions, TokenPredictions


def right_tokens(
    layout: TokenLayout, heads: nn.ModuleDict, outputs: Float[Tensor, "B T K D"], tokens: Int[Tensor, "B T S"]
) -> Bool[Tensor, "B T K"]:
    """Whether each token is the most likely one, with all its symbols."""
    logits = [heads[m.name](outputs[..., layout.slices[m.name], :]).split(list(m.vocab_sizes), dim=-1)
              for m in layout.modalities]  # fmt: skip
    likely = [torch.stack([some.argmax(dim=-1) for some in columns], dim=-1).flatten(-2) for columns in logits]
    return layout.agreement(torch.cat(likely, dim=-1), tokens)


def evaluated(
    tokens: TokenPredictions,
    accuracy: str,
    head: ScalarHead,
    outputs: Float[Tensor, "*B W"],
    rewards: Float[Tensor, "*B"],
    end_logits: Float[Tensor, "*B 2"],
    ends: Int[Tensor, "*B"],
    counts: Bool[Tensor, "*B"],
) -> dict[str, Any]:
    """The predictions, and what is ``measured`` of them: shares of the tokens that are right (under the name
    ``accuracy``), and those of the outcomes."""
    given = (head, outputs, rewards, end_logits, ends, counts)
    share = masked_mean(tokens.is_right.float(), tokens.counts)
    return {
        "measured": {accuracy: share, **of_outcomes(*given)},
        "predictions": Predictions(tokens, outcomes(*given)),
    }


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


def outcomes(
    head: ScalarHead,
    outputs: Float[Tensor, "*B W"],
    rewards: Float[Tensor, "*B"],
    end_logits: Float[Tensor, "*B 2"],
    ends: Int[Tensor, "*B"],
    counts: Bool[Tensor, "*B"],
) -> OutcomePredictions:
    """Signs of the rewards, and ends, as they are predicted and as they were."""
    signs = outputs.argmax(dim=-1) - 1 if isinstance(head, SignHead) else _sign(head.mean(outputs))
    return OutcomePredictions(signs, _sign(head.target(rewards)), end_logits, ends, counts)


def _sign(rewards: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    return rewards.round().sign().long()
