"""Parallel observation prediction, POP (REM section 3.2): all tokens of the next observation in one pass.

K learned prediction tokens follow the state after an action; the output of the j-th predicts token j. They see the past
and each other's embeddings, but no token of the observation, and leave no trace in the state: given the past, the
tokens of one observation are independent. The first block of a sequence is predicted from an empty past; whether that
counts is up to ``unscored_blocks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.backbones import Backbone, initialise_gpt
from tokenworlds.config import Initialisation, TokenQuirks, TokenWorldModelConfig
from tokenworlds.envs import ActionSpec
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.embeddings import Coded
from tokenworlds.world_models.token import Prediction, TokenWorldModel


class ParallelWorldModel(TokenWorldModel):
    """The whole observation is read together with the next action: one pass of 2 K tokens and an action an imagined
    step."""

    def __init__(
        self,
        config: TokenWorldModelConfig,
        backbone: Backbone[Any],
        layout: TokenLayout,
        actions: ActionSpec,
        coded: Mapping[str, Coded] | None = None,
        quirks: TokenQuirks | None = None,
    ) -> None:
        super().__init__(config, backbone, layout, actions, coded, quirks)
        count = 1 if quirks is not None and quirks.shared_prediction_token else layout.num_tokens
        self.prediction_tokens = nn.Embedding(count, config.embed_dim)
        if config.initialisation is Initialisation.gpt:
            self.prediction_tokens.apply(initialise_gpt)
        if config.prediction_token_std is not None:
            nn.init.normal_(self.prediction_tokens.weight, std=config.prediction_token_std)

    @property
    def pending(self) -> int:
        return self.layout.num_tokens

    def _suffix(self, *batch: int) -> Float[Tensor, "*B K D"]:
        return self.prediction_tokens.weight.expand(*batch, self.layout.num_tokens, -1)

    def outputs(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens, actions)
        at_actions, predicting = self.backbone.parallel_with_branches(x, self._suffix(*tokens.shape[:2]))
        return predicting, at_actions

    def advance(self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "S B"] | None) -> Prediction:
        if uniforms is None:
            outputs, state = self.backbone.step(state, x)
            return Prediction(outputs[:, -1], None, None, state)
        at_action, predicting, state = self.backbone.branch(state, x, self._suffix(len(x)))
        drawn = [
            self.draw(m, predicting[:, self.layout.slices[m.name]], uniforms[self.layout.symbols[m.name]])
            for m in self.layout.modalities
        ]
        return Prediction(at_action, predicting, torch.cat(drawn, dim=1), state)
