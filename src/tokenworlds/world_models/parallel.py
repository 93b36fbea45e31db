"""Parallel observation prediction, POP (REM section 3.2): all tokens of the next observation in one pass.

K learned query tokens (the paper's prediction tokens) follow the state after an action; the output of the j-th predicts
token j. They read the past and each other's embeddings, but no token of the observation, and leave the state as it is:
given the past, the tokens of one observation are independent. The first block of a sequence is predicted from an empty
past; ``unscored_blocks`` decides whether that counts.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.backbones import initialise_gpt
from tokenworlds.config import Initialisation, TokenQuirks, TokenWorldModelConfig
from tokenworlds.world_models.token import Prediction, TokenWorldModel


class ParallelWorldModel(TokenWorldModel):
    """The whole observation is read together with the next action: an imagined step is one pass of 2 K tokens and an
    action."""

    def add_parameters(self, config: TokenWorldModelConfig, quirks: TokenQuirks) -> None:
        count = 1 if quirks.shared_prediction_token else self.layout.num_tokens
        self.prediction_tokens = nn.Embedding(count, config.embed_dim)
        if config.initialisation is Initialisation.gpt:
            self.prediction_tokens.apply(initialise_gpt)
        if config.prediction_token_std is not None:
            nn.init.normal_(self.prediction_tokens.weight, std=config.prediction_token_std)

    @property
    def pending(self) -> int:
        return self.layout.num_tokens

    def _query_tokens(self, *batch: int) -> Float[Tensor, "*B K D"]:
        return self.prediction_tokens.weight.expand(*batch, self.layout.num_tokens, -1)

    def outputs(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens, actions)
        action_outputs, predicting = self.backbone.parallel_and_query(x, self._query_tokens(*tokens.shape[:2]))
        return predicting, action_outputs

    def predict(self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "S B"] | None) -> Prediction:
        if uniforms is None:
            outputs, state = self.backbone.step(state, x)
            return Prediction(outputs[:, -1], None, None, state)
        action_output, predicting, state = self.backbone.step_and_query(state, x, self._query_tokens(len(x)))
        return Prediction(action_output, predicting, self.sample_observation(predicting, uniforms), state)

    def sample_observation(self, outputs: Float[Tensor, "B K D"], uniforms: Float[Tensor, "S B"]) -> Int[Tensor, "B S"]:
        """All symbols of an observation, sampled from the outputs that predict its tokens."""
        parts = [
            self.sample_tokens(m, outputs[:, self.layout.slices[m.name]], uniforms[self.layout.symbols[m.name]])
            for m in self.layout.modalities
        ]
        return torch.cat(parts, dim=1)
