"""Parallel observation prediction, POP (REM section 3.2): all tokens of the next observation in one pass.

K learned prediction tokens follow the state after an action; the output of the j-th predicts token j. They see the past
and each other's embeddings, but no token of the observation, and leave no trace in the state: given the past, the
tokens of one observation are independent. The first block of a sequence is predicted from an empty past; whether that
counts is up to ``unscored_blocks``.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.backbones import Backbone, initialise_gpt
from tokenworlds.config import Initialisation, TokenWorldModelConfig
from tokenworlds.rng import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.token import TokenWorldModel


class ParallelWorldModel(TokenWorldModel):
    """The whole observation is read together with the next action: one pass of 2 K + 1 tokens an imagined step."""

    def __init__(
        self,
        config: TokenWorldModelConfig,
        backbone: Backbone[Any],
        layout: TokenLayout,
        num_actions: int,
        codebooks: dict[str, nn.Embedding] | None = None,
    ) -> None:
        super().__init__(config, backbone, layout, num_actions, codebooks)
        count = 1 if config.shared_prediction_token else layout.num_tokens
        self.prediction_tokens = nn.Embedding(count, config.embed_dim)
        if config.initialisation is Initialisation.gpt:
            self.prediction_tokens.apply(initialise_gpt)

    @property
    def pending(self) -> int:
        return self.layout.num_tokens

    def _suffix(self, *batch: int) -> Float[Tensor, "*B K D"]:
        return self.prediction_tokens.weight.expand(*batch, self.layout.num_tokens, -1)

    def outputs(
        self, tokens: Int[Tensor, "B T K"], actions: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T K D"], Float[Tensor, "B T D"]]:
        x = self.embed(tokens, actions)
        outputs, predicting = self.backbone.parallel_with_branches(x, self._suffix(*actions.shape))
        return predicting, outputs[:, self.layout.num_tokens :: self.layout.block_size]

    def advance(
        self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "K B"] | None
    ) -> tuple[Float[Tensor, "B D"], Int[Tensor, "B K"] | None, Any]:
        if uniforms is None:
            outputs, state = self.backbone.step(state, x)
            return outputs[:, -1], None, state
        outputs, predicting, state = self.backbone.branch(state, x, self._suffix(len(x)))
        tokens = [
            sample_categorical(self.head_observation[name](predicting[:, where]), uniforms[where].T)
            for name, where in self.layout.slices.items()
        ]
        return outputs[:, -1], torch.cat(tokens, dim=1), state
