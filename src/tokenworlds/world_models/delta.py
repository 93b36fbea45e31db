"""The delta world model: a backbone over frames, actions and delta tokens, with heads for the delta tokens, the reward
and the termination (Delta-IRIS, section 3.2).

A block holds the token of a frame (a continuous embedding of it), the action taken there, and the K delta tokens that
turn it into the next frame. Shapes: B batch, T blocks, K delta tokens, D width, V vocabulary, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds import backbones
from tokenworlds.backbones import initialise_gpt
from tokenworlds.config import Backbone, DeltaWorldModelConfig
from tokenworlds.envs.spec import ImageSpec
from tokenworlds.losses import masked_mean
from tokenworlds.ops.convolutions import FrameEncoder, flatten_map
from tokenworlds.world_models import accuracy, heads
from tokenworlds.world_models.base import StepNoise, WorldModel, WorldModelLosses, cross_entropy, prediction_head
from tokenworlds.world_models.predictions import TokenPredictions


@dataclass
class DeltaState:
    """Between two imagined steps: the backbone has read everything up to the current frame's token, except for tokens
    that it reads together with the next action."""

    backbone: Any
    length: int  # tokens read; 0: start again from the current frame
    frames: Float[Tensor, "B C Y X"]  # the current ones, in [0, 1]
    deltas: Int[Tensor, "B K"] | None  # delta tokens of the step before, the last of which has not been read yet
    is_frame_read: bool  # whether the current frame's token has been read

    def dropped(self) -> DeltaState:
        """State with the same frames and without the past."""
        return replace(self, length=0, deltas=None, is_frame_read=False)


class DeltaWorldModel(WorldModel):
    """With ``frame_tokens`` every block starts with the token of its frame, otherwise only the sequence does: our
    reading of the paper's ablation, for which the start of sequences is not published."""

    def __init__(
        self,
        config: DeltaWorldModelConfig,
        backbone: Backbone,
        image: ImageSpec,
        num_tokens: int,
        vocab_size: int,
        num_actions: int,
    ) -> None:
        super().__init__()
        width = config.embed_dim
        self.num_tokens, self.weights = num_tokens, config.weights
        self.has_frame_tokens = config.frame_tokens
        self.block_size = num_tokens + 1 + config.frame_tokens
        self.first_tokens = 0 if config.frame_tokens else 1
        self.backbone = backbones.build(backbone, config, self.block_size, self.first_tokens)
        self.frame_encoder = FrameEncoder(config.frame_encoder, image.height, image.channels)
        self.frame_norm = nn.LayerNorm(width)
        self.embed_action = nn.Embedding(num_actions, width)
        self.embed_delta = nn.Embedding(vocab_size, width)
        self.rewards = heads.build(config.rewards)
        self.head_delta = prediction_head(width, vocab_size)
        self.head_reward = prediction_head(width, self.rewards.width)
        self.head_end = prediction_head(width, 2)
        self.backbone.initialise()
        for name, child in self.named_children():
            if name != "backbone":
                child.apply(initialise_gpt)

    # The parallel pass (training)

    def embed_frames(self, frames: Float[Tensor, "B T C Y X"]) -> Float[Tensor, "B T D"]:
        """The frames' tokens."""
        features = flatten_map(self.frame_encoder(frames.flatten(0, 1)))
        return self.frame_norm(features).unflatten(0, frames.shape[:2])

    def embed(
        self,
        frames: Float[Tensor, "B T C Y X"],
        actions: Int[Tensor, "B T"],
        deltas: Int[Tensor, "B T K"],
    ) -> Float[Tensor, "B S D"]:
        """Embeddings of T whole blocks, one after the other."""
        parts = [self.embed_action(actions).unsqueeze(2), self.embed_delta(deltas)]
        if self.has_frame_tokens:
            parts = [self.embed_frames(frames).unsqueeze(2), *parts]
        blocks: Tensor = rearrange(torch.cat(parts, dim=2), "b t n d -> b (t n) d")
        return blocks if self.has_frame_tokens else torch.cat([self.embed_frames(frames[:, :1]), blocks], dim=1)

    def outputs(
        self,
        frames: Float[Tensor, "B T C Y X"],
        actions: Int[Tensor, "B T"],
        deltas: Int[Tensor, "B T K"],
    ) -> tuple[Float[Tensor, "B T K D"], Float[Tensor, "B T D"]]:
        """The outputs that predict the delta tokens (each that of the token before), and those at the actions."""
        outputs = self.backbone.parallel(self.embed(frames, actions, deltas))
        blocks = outputs[:, self.first_tokens :].unflatten(1, (-1, self.block_size))
        predicting = blocks[:, :, -self.num_tokens - 1 : -1]
        return predicting, predicting[:, :, 0]

    def loss(
        self,
        frames: Float[Tensor, "B T C Y X"],
        actions: Int[Tensor, "B T"],
        deltas: Int[Tensor, "B T1 K"],
        rewards: Float[Tensor, "B T"],
        ends: Tensor,
        mask: Bool[Tensor, "B T"],
    ) -> WorldModelLosses:
        """Weighted cross-entropies of the T - 1 transitions' delta tokens, rewards and terminations on real steps.

        As published, the last real step of an episode also counts as a transition, into a black frame, and padding in
        front of an episode is read like real steps.
        """
        predicting, action_outputs = self.outputs(frames, actions, F.pad(deltas, (0, 0, 0, 1)))
        logits = self.head_delta(predicting[:, :-1])
        is_transition = mask[:, :-1, None].expand_as(deltas)
        reward_outputs, labels = self.head_reward(action_outputs), ends.long()
        reward_errors = self.rewards.loss(reward_outputs, rewards)
        end_logits = self.head_end(action_outputs)
        end_errors = cross_entropy(end_logits, labels)
        errors, is_right = cross_entropy(logits, deltas), logits.argmax(-1) == deltas
        found: dict[str, Any] = {"measured": {"delta_accuracy": masked_mean(is_right.float(), is_transition)}}
        if not self.training:
            tokens = TokenPredictions(errors, is_right, is_transition, known=1)
            outcomes = (self.rewards, reward_outputs, rewards, end_logits, labels, mask)
            found = accuracy.evaluated(tokens, "delta_accuracy", *outcomes)
        return WorldModelLosses(
            observations=self.weights.observations * masked_mean(errors, is_transition),
            rewards=self.weights.rewards * masked_mean(reward_errors, mask),
            ends=self.weights.ends * masked_mean(end_errors, mask),
            **found,
        )

    # Imagination

    def start(
        self,
        frames: Float[Tensor, "B c C Y X"],
        actions: Int[Tensor, "B c1"],
        deltas: Int[Tensor, "B c1 K"],
    ) -> DeltaState:
        """A context of c frames, with the c - 1 actions and transitions between them."""
        parts = [self.embed(frames[:, :-1], actions, deltas)] if actions.shape[1] else []
        if self.has_frame_tokens or not parts:
            parts.append(self.embed_frames(frames[:, -1:]))
        x = torch.cat(parts, dim=1)
        _, state = self.backbone.step(self.backbone.init_state(len(frames)), x)
        return DeltaState(state, x.shape[1], frames[:, -1], None, True)

    def step(
        self, state: DeltaState, actions: Int[Tensor, "B"], noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[DeltaState, Int[Tensor, "B K"] | None, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """One imagined step: the next state, which still holds the frames of this one; the delta tokens (None unless
        the observation is to be predicted), rewards and termination flags.

        When at most one block is left of the backbone's memory, the past is dropped and only the current frame is read
        again, as in the published agents.
        """
        if self.backbone.max_tokens - state.length <= self.block_size:
            state = state.dropped()
        memory = self.backbone.init_state(len(actions)) if state.length == 0 else state.backbone
        x = torch.cat([*self._unread(state), self.embed_action(actions).unsqueeze(1)], dim=1)
        outputs, memory = self.backbone.step(memory, x)
        length, action_output = state.length + x.shape[1], outputs[:, -1]
        rewards = self.rewards.sample(self.head_reward(action_output), noise.reward)
        ends = self.mode.sample(self.head_end(action_output), noise.end)
        if not predict_observation:
            return DeltaState(memory, length, state.frames, None, True), None, rewards, ends
        deltas = [self.mode.sample(self.head_delta(action_output), noise.tokens[0])]
        for uniforms in noise.tokens[1:]:
            outputs, memory = self.backbone.step(memory, self.embed_delta(deltas[-1]).unsqueeze(1))
            deltas.append(self.mode.sample(self.head_delta(outputs[:, -1]), uniforms))
        after = DeltaState(memory, length + self.num_tokens - 1, state.frames, torch.stack(deltas, dim=1), False)
        return after, after.deltas, rewards, ends

    def _unread(self, state: DeltaState) -> list[Float[Tensor, "B 1 D"]]:
        """The tokens that are read together with the next action: the pending delta token, the current frame's."""
        pending = [] if state.deltas is None else [self.embed_delta(state.deltas[:, -1:])]
        needs_frame = state.length == 0 or (self.has_frame_tokens and not state.is_frame_read)
        return [*pending, *([self.embed_frames(state.frames.unsqueeze(1))] if needs_frame else [])]
