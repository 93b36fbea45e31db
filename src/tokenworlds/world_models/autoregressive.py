"""Token after token (IRIS section 2.2): each observation token is predicted by the output of the token before it."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.world_models.token import Prediction, TokenWorldModel


class AutoregressiveWorldModel(TokenWorldModel):
    """The first token of an observation is predicted by the action before it; the last one predicts nothing.

    The last token is read together with the next action, which saves one pass a step. Only a strictly causal backbone
    allows that: with full attention inside a block the token would attend to the action, so there it is read alone, as
    in the published agent.
    """

    @property
    def pending(self) -> int:
        return 1 if self.backbone.is_causal else 0

    def outputs(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> tuple[Tensor, Tensor]:
        """The very first token, which nothing predicts, has an output of zeros."""
        outputs = self.backbone.parallel(self.embed(tokens, actions))
        before = F.pad(outputs, (0, 0, 1, -1))  # at every position the output of the previous one
        blocks = rearrange(before, "b (t k) d -> b t k d", k=self.layout.block_size)
        return blocks[:, :, : self.layout.num_tokens], outputs.unflatten(1, (-1, self.layout.block_size))[:, :, -1]

    def counted(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T K"]:
        counted = super().counted(mask).clone()
        counted[:, 0, 0].fill_(False)
        return counted

    def predict(self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "S B"] | None) -> Prediction:
        outputs, state = self.backbone.step(state, x)
        action_output = outputs[:, -1]
        if uniforms is None:
            return Prediction(action_output, None, None, state)
        predicting, tokens = [outputs[:, -1:]], torch.zeros_like(uniforms.T, dtype=torch.int64)
        count = self.layout.num_tokens
        for index in range(count):
            if index > 0:
                outputs, state = self.backbone.step(state, self.embed_tokens(tokens, index - 1, index))
                predicting.append(outputs)
            modality, symbols = self.layout.place(index)
            tokens[:, symbols] = self.sample_tokens(modality, predicting[-1], uniforms[symbols])
        if not self.pending:
            _, state = self.backbone.step(state, self.embed_tokens(tokens, count - 1, count))
        return Prediction(action_output, torch.cat(predicting, dim=1), tokens, state)
