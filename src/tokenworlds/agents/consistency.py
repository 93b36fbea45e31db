"""The agent whose world model generates continuous deltas (consistency models in Delta-IRIS)."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.continuous_delta import ContinuousDeltaTokenizer
from tokenworlds.world_models.consistency.world_model import ConsistencyState


class ConsistencyAgent(DeltaAgent):
    """A Delta-IRIS agent without tokens: where others have these, its deltas (B, c - 1, C, h, w) stand."""

    @property
    def num_draws(self) -> int:
        """Uniforms that a delta is generated from."""
        return int(self.world_model.draws)

    @torch.no_grad()
    def tokens(self, frames: Tensor, actions: Int[Tensor, "B c1"]) -> Float[Tensor, "B c1 C h w"]:
        """Deltas of the transitions between the frames (B, c, C, Y, X)."""
        if actions.shape[1]:
            return super().tokens(frames, actions)
        shape = cast(ContinuousDeltaTokenizer, self.tokenizer).shape
        return frames.new_zeros(len(actions), 0, *shape, dtype=torch.float32)

    def context(self, segments: Segments) -> DeltaContext:
        frames, actions = self.render_segments(segments), segments.actions[:, :-1]
        return DeltaContext(frames, actions, self.deltas(segments, frames))

    def deltas(self, segments: Segments, frames: Float[Tensor, "B T c Y X"]) -> Float[Tensor, "B T1 C h w"]:
        """Deltas between a segment's steps, zero behind padding; ``frames`` are its pictures."""
        return self.tokens(frames, segments.actions[:, :-1]) * segments.mask[:, :-1, None, None, None]

    def restart(self, state: ConsistencyState) -> ConsistencyState:
        """Nothing is forgotten: it remembers n - 1 steps before the current frame, at any time."""
        return state

    def imagined_tokens(self, state: ConsistencyState) -> Int[Tensor, "B 0"]:
        return state.actions.new_zeros(len(state.frames), 0)
