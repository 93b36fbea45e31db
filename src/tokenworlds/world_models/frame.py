"""One step of the sequence model a frame: it reads the tokens of an observation and the action after it as one vector,
and predicts all tokens of the next observation at once, independently given its state.

Shapes: W width of the sequence model, that of all tokens of a block side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import TokenQuirks, TokenWorldModelConfig
from tokenworlds.config.world_models import FrameConfig
from tokenworlds.ops.dropout import Dropout
from tokenworlds.tokenizers.layout import ModalityTokens
from tokenworlds.world_models.parallel import ParallelWorldModel
from tokenworlds.world_models.token import Prediction, WorldModelState


class FrameHead(nn.Sequential):
    """Logits of all tokens of a modality, from an output that is the same for each of them."""

    def __init__(self, width: int, modality: ModalityTokens) -> None:
        count, vocab_size = modality.count, modality.vocab_size
        super().__init__(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, count * vocab_size),
            nn.Unflatten(-1, (count, vocab_size)),
        )

    def forward(self, outputs: Float[Tensor, "*B n W"]) -> Float[Tensor, "*B n V"]:
        logits: Tensor = super().forward(outputs[..., 0, :])
        return logits


class FrameWorldModel(ParallelWorldModel):
    """The first observation of a sequence is predicted by nothing. As in POP, the whole observation is read together
    with the action after it."""

    reads_blocks = True

    def build_heads(self, config: TokenWorldModelConfig) -> tuple[nn.ModuleDict, nn.Sequential, nn.Sequential]:
        """Rewards and terminations are predicted by narrow networks: their hidden width is that of a token."""
        hidden = config.embed_dim
        width = self.layout.block_size * hidden
        tokens = nn.ModuleDict({m.name: FrameHead(width, m) for m in self.layout.modalities})
        return tokens, _narrow_head(width, hidden, self.rewards.width), _narrow_head(width, hidden, 2)

    def add_parameters(self, config: TokenWorldModelConfig, quirks: TokenQuirks) -> None:
        settings = config.frame or FrameConfig()
        self.dropout, self.compat_reset = Dropout(settings.embed_dropout), settings.compat_reset
        # The state holds frames; what is predicted takes no room in it
        self.max_tokens = self.backbone.max_tokens * self.layout.block_size + self.layout.num_tokens

    def _blocks(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B T W"]:
        """Tokens of whole blocks, those of each side by side."""
        return self.dropout(rearrange(x, "b (t k) d -> b t (k d)", k=self.layout.block_size))

    def outputs(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs that predict the observations (B, T, K, W), the first ones zeros, and those at the actions (B, T,
        W)."""
        outputs = self.backbone.parallel(self._blocks(self.embed(tokens, actions)))
        return self._for_tokens(F.pad(outputs, (0, 0, 1, -1))), outputs

    def _for_tokens(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B K W"]:
        return outputs.unsqueeze(-2).expand(*outputs.shape[:-1], self.layout.num_tokens, -1)

    def counted(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T K"]:
        counted = super().counted(mask).clone()
        counted[:, 0].fill_(False)
        return counted

    def start(self, frames: Int[Tensor, "B c S"], actions: Tensor) -> WorldModelState:
        """The c - 1 frames before the current one are read with the actions after them. With ``compat_reset`` the
        current one is read, too, with an action 0 that was not taken, and then again with the real one."""
        read, state = frames[:, :-1], self.backbone.init_state(len(frames))
        if self.compat_reset:
            read = frames
            actions = torch.cat([actions, actions.new_zeros(len(frames), 1, *actions.shape[2:])], dim=1)
        if read.shape[1]:
            _, state = self.backbone.step(state, self._blocks(self.embed(read, actions)))
        past = actions[:, : frames.shape[1] - 1]
        return WorldModelState(state, read.shape[1] * self.layout.block_size, frames, past)

    def predict(self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "S B"] | None) -> Prediction:
        outputs, state = self.backbone.step(state, self._blocks(x))
        output = outputs[:, -1]
        if uniforms is None:
            return Prediction(output, None, None, state)
        predicting = self._for_tokens(output)
        return Prediction(output, predicting, self.sample_observation(predicting, uniforms), state)


def _narrow_head(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
