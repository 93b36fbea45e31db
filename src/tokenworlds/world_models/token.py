"""The token world model: a backbone over interleaved observation and action tokens, with heads for the tokens of the
next observation, the reward and the end.

IRIS sections 2.2 and A.2, REM section 3. How the next observation is predicted is left to two small classes:
``autoregressive`` and ``parallel``. Shapes: B batch, T blocks, K tokens per observation, c frames of context, D width,
V vocabulary, A actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds import scalars
from tokenworlds.backbones import Backbone, initialise_gpt
from tokenworlds.config import Embeddings, Initialisation, TokenWorldModelConfig
from tokenworlds.losses import Losses, masked_mean
from tokenworlds.rng import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout

IGNORED = -100


@dataclass
class WorldModelLosses(Losses):
    """Cross-entropies, each the mean over the steps (or tokens) that count."""

    observations: Tensor
    rewards: Tensor
    ends: Tensor


@dataclass
class WorldModelState:
    """Between two imagined steps: the backbone has read all of the context but the pending tokens of the current
    observation, which it reads together with the next action."""

    backbone: Any
    length: int  # tokens read
    frames: Int[Tensor, "B c K"]  # the last observations; the last of them is the current one
    actions: Int[Tensor, "B c1"]  # between them, c - 1

    @property
    def tokens(self) -> Int[Tensor, "B K"]:
        """The current observation."""
        return self.frames[:, -1]


@dataclass
class StepNoise:
    """Uniforms of one imagined step: (B,), (B,), (K, B)."""

    reward: Tensor
    end: Tensor
    tokens: Tensor


class TokenWorldModel(nn.Module, ABC):
    """With ``codebooks`` (modality -> the tokenizer's embedding) observation tokens are embedded by these."""

    def __init__(
        self,
        config: TokenWorldModelConfig,
        backbone: Backbone[Any],
        layout: TokenLayout,
        num_actions: int,
        codebooks: dict[str, nn.Embedding] | None = None,
    ) -> None:
        super().__init__()
        width = config.embed_dim
        self.layout = layout
        self.unscored_blocks = config.unscored_blocks
        self.backbone = backbone
        self.embed_action = nn.Embedding(num_actions, width)
        self.embed_action.weight.requires_grad_(not config.frozen_action_embeddings)
        if config.embeddings is Embeddings.codebook:
            assert codebooks is not None
            embeddings: dict[str, nn.Module] = {m.name: CodebookEmbedding(codebooks[m.name]) for m in layout.modalities}
        else:
            embeddings = {m.name: nn.Embedding(m.vocab_size, width) for m in layout.modalities}
        self.embed_observation = nn.ModuleDict(embeddings)
        self.rewards = scalars.build(config.rewards)
        self.head_observation = nn.ModuleDict({m.name: prediction_head(width, m.vocab_size) for m in layout.modalities})
        self.head_reward = prediction_head(width, self.rewards.width)
        self.head_end = prediction_head(width, 2)
        backbone.initialise()
        if config.initialisation is Initialisation.gpt:
            for name, child in self.named_children():
                if name != "backbone":
                    child.apply(initialise_gpt)

    # The parallel pass (training)

    @abstractmethod
    def outputs(
        self, tokens: Int[Tensor, "B T K"], actions: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T K D"], Float[Tensor, "B T D"]]:
        """For every observation token the output that predicts it, and the outputs at the actions."""

    def labels(self, tokens: Int[Tensor, "B T K"], mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
        """The tokens themselves, IGNORED where a step is padding."""
        return torch.where(mask.unsqueeze(-1), tokens, IGNORED)

    def embed(self, tokens: Int[Tensor, "B T K"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B S D"]:
        """Embeddings of whole blocks, flattened to S = T (K + 1) tokens."""
        parts = [self.embed_observation[name](tokens[..., where]) for name, where in self.layout.slices.items()]
        return rearrange(torch.cat([*parts, self.embed_action(actions).unsqueeze(2)], dim=2), "b t k d -> b (t k) d")

    def loss(
        self,
        tokens: Int[Tensor, "B T K"],
        actions: Int[Tensor, "B T"],
        rewards: Float[Tensor, "B T"],
        ends: Tensor,
        mask: Bool[Tensor, "B T"],
    ) -> WorldModelLosses:
        """Losses of tokens, rewards and ends. Padding does not count (it is never ahead of real steps),
        nor do the first ``unscored_blocks`` of a segment."""
        scored = slice(self.unscored_blocks, None)
        predicting, read_out = (part[:, scored] for part in self.outputs(tokens, actions))
        labels = self.labels(tokens, mask)[:, scored]
        end_labels = torch.where(mask, ends.long(), IGNORED)[:, scored]
        return WorldModelLosses(
            observations=_cross_entropy(
                (self.head_observation[name](predicting[..., where, :]), labels[..., where])
                for name, where in self.layout.slices.items()
            ),
            rewards=masked_mean(self.rewards.loss(self.head_reward(read_out), rewards[:, scored]), mask[:, scored]),
            ends=_cross_entropy([(self.head_end(read_out), end_labels)]),
        )

    # Imagination

    @property
    @abstractmethod
    def pending(self) -> int:
        """Tokens at the end of an observation that are read together with the next action."""

    @abstractmethod
    def advance(
        self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "K B"] | None
    ) -> tuple[Float[Tensor, "B D"], Int[Tensor, "B K"] | None, Any]:
        """Read x, of which the last token is an action: its output, the next observation sampled with the uniforms
        (None without), and the backbone's state, which has read this observation but for its pending tokens."""

    def start(self, frames: Int[Tensor, "B c K"], actions: Int[Tensor, "B c1"]) -> WorldModelState:
        """A context of c frames and the c - 1 actions between them, read but for the pending tokens."""
        state = self.backbone.init_state(len(frames))
        count = self.layout.num_tokens - self.pending
        parts = [self.embed(frames[:, :-1], actions)] if frames.shape[1] > 1 else []
        parts += [self.embed_tokens(frames[:, -1], 0, count)] if count > 0 else []
        length = sum(part.shape[1] for part in parts)
        if length:
            _, state = self.backbone.step(state, torch.cat(parts, dim=1))
        return WorldModelState(state, length, frames, actions)

    def step(
        self, state: WorldModelState, actions: Int[Tensor, "B"], noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[WorldModelState, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """One imagined step: the state with the next observation, the reward, and the end flag.

        When another block does not fit, the past is dropped and only the context is read again, as in the published
        agents.
        """
        k = self.layout.num_tokens
        if state.length + self.pending + 1 + (k if predict_observation else 0) > self.backbone.max_tokens:
            state = self.start(state.frames, state.actions)
        action = self.embed_action(actions).unsqueeze(1)
        x = torch.cat([self.embed_tokens(state.tokens, k - self.pending, k), action], dim=1) if self.pending else action
        read_out, tokens, backbone = self.advance(state.backbone, x, noise.tokens if predict_observation else None)
        rewards = self.rewards.sample(self.head_reward(read_out), noise.reward)
        ends = sample_categorical(self.head_end(read_out), noise.end)
        if tokens is None:
            after = WorldModelState(backbone, state.length + self.pending + 1, state.frames, state.actions)
        else:
            after = WorldModelState(
                backbone,
                state.length + self.layout.block_size,
                torch.cat([state.frames[:, 1:], tokens.unsqueeze(1)], dim=1),
                torch.cat([state.actions, actions.unsqueeze(1)], dim=1)[:, 1:],
            )
        return after, rewards, ends

    def embed_tokens(self, tokens: Int[Tensor, "B K"], start: int, stop: int) -> Float[Tensor, "B n D"]:
        """Embeddings of observation tokens start..stop-1 of the layout; ``tokens`` holds all K of them."""
        parts = [
            self.embed_observation[name](tokens[:, max(start, where.start) : min(stop, where.stop)])
            for name, where in self.layout.slices.items()
            if max(start, where.start) < min(stop, where.stop)
        ]
        return torch.cat(parts, dim=1)


class CodebookEmbedding(nn.Module):
    """The rows of the tokenizer's codebook as they are at the moment, without gradient; not part of this module's
    state."""

    def __init__(self, codebook: nn.Embedding) -> None:
        super().__init__()
        self._codebook = (codebook,)  # in a tuple, which modules do not look into

    def forward(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        return F.embedding(tokens, self._codebook[0].weight.detach())


def prediction_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _cross_entropy(parts: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, ""]:
    """Mean over the labels that count, of all parts (logits (..., V), labels (...)) together."""
    total, count = [], []
    for logits, labels in parts:
        total.append(F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum"))
        count.append((labels != IGNORED).sum())
    return torch.stack(total).sum() / torch.stack(count).sum().clamp(min=1)
