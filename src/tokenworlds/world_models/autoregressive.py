"""Token after token (IRIS section 2.2): each observation token is predicted by the output of the token before it."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.rng import sample_categorical
from tokenworlds.world_models.token import IGNORED, TokenWorldModel


class AutoregressiveWorldModel(TokenWorldModel):
    """The first token of an observation is predicted by the action before it; the last one predicts nothing.

    It is read together with the next action, which saves one pass a step. Only a strictly causal backbone allows that:
    with full attention inside a block the token would see the action, so there it is read alone, as in the published
    agent.
    """

    @property
    def pending(self) -> int:
        return 1 if self.backbone.is_causal else 0

    def outputs(
        self, tokens: Int[Tensor, "B T K"], actions: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T K D"], Float[Tensor, "B T D"]]:
        """The very first token is predicted by nothing: zeros stand there."""
        outputs = self.backbone.parallel(self.embed(tokens, actions))
        before = F.pad(outputs, (0, 0, 1, -1))  # at every position the output of the one before
        blocks = rearrange(before, "b (t k) d -> b t k d", k=self.layout.block_size)
        return blocks[:, :, :-1], outputs[:, self.layout.num_tokens :: self.layout.block_size]

    def labels(self, tokens: Int[Tensor, "B T K"], mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
        labels = super().labels(tokens, mask)
        labels[:, 0, 0].fill_(IGNORED)
        return labels

    def advance(
        self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "K B"] | None
    ) -> tuple[Float[Tensor, "B D"], Int[Tensor, "B K"] | None, Any]:
        outputs, state = self.backbone.step(state, x)
        read_out = outputs[:, -1]
        if uniforms is None:
            return read_out, None, state
        k = self.layout.num_tokens
        tokens = torch.zeros(len(x), k, dtype=torch.int64, device=x.device)
        for index in range(k):
            if index > 0:
                outputs, state = self.backbone.step(state, self.embed_tokens(tokens, index - 1, index))
            logits = self.head_observation[self.layout.modality_of(index)](outputs[:, -1])
            tokens[:, index] = sample_categorical(logits, uniforms[index])
        if not self.pending:
            _, state = self.backbone.step(state, self.embed_tokens(tokens, k - 1, k))
        return read_out, tokens, state
