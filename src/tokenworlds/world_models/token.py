"""The token world model: a backbone over interleaved observation and action tokens, with heads for the tokens of the
next observation, the reward and the end.

IRIS sections 2.2 and A.2, REM section 3, M3. How the next observation is predicted is left to two small classes:
``autoregressive`` and ``parallel``. Shapes: B batch, T blocks, K tokens per observation, S symbols per observation (see
``tokenizers.layout``), c frames of context, D width, V vocabulary; actions have the environment's own shape behind
these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones import Backbone, initialise_gpt
from tokenworlds.config import Embeddings, EndsAlignment, Heads, Initialisation, ReadOut, TokenWorldModelConfig
from tokenworlds.envs import ActionSpec
from tokenworlds.losses import Losses, masked_mean
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.world_models import heads as scalars
from tokenworlds.world_models.curiosity import Ensemble
from tokenworlds.world_models.embeddings import Coded, CodeEmbedding, embed_action, embed_observation

REWARD_SCALE = 100.0  # by which the buckets of HL-Gauss rewards are finer than those of values


@dataclass
class WorldModelLosses(Losses):
    """Cross-entropies, each the mean over the steps (or tokens) that count.

    ``segments``, which is no loss, holds for each segment what its observations and rewards cost: for those who
    prefer the worst.
    """

    observations: Tensor
    rewards: Tensor
    ends: Tensor
    segments: Tensor | None = field(default=None, kw_only=True)


@dataclass
class CuriousLosses(WorldModelLosses):
    """With that of the ensemble whose disagreement is a reward."""

    curiosity: Tensor


@dataclass
class WorldModelState:
    """Between two imagined steps: the backbone has read all of the context but the pending tokens of the current
    observation, which it reads together with the next action."""

    backbone: Any
    length: int  # tokens read
    frames: Int[Tensor, "B c S"]  # the last observations; the last of them is the current one
    actions: Tensor  # between them, (B, c - 1, ...)

    @property
    def tokens(self) -> Int[Tensor, "B S"]:
        """The current observation."""
        return self.frames[:, -1]


@dataclass
class StepNoise:
    """Uniforms of one imagined step: (B,), (B,), (S, B)."""

    reward: Tensor
    end: Tensor
    tokens: Tensor


@dataclass
class Prediction:
    """Outputs behind an action."""

    at_action: Float[Tensor, "B D"]
    of_tokens: Float[Tensor, "B K D"] | None  # those that predict the next observation
    tokens: Int[Tensor, "B S"] | None  # the next observation, if it was to be sampled
    backbone: Any


class TokenWorldModel(nn.Module, ABC):
    """With ``coded`` (modality -> its tokenizer) these modalities are embedded by the tokenizer's code vectors."""

    def __init__(
        self,
        config: TokenWorldModelConfig,
        backbone: Backbone[Any],
        layout: TokenLayout,
        actions: ActionSpec,
        coded: Mapping[str, Coded] | None = None,
    ) -> None:
        super().__init__()
        width = config.embed_dim
        self.layout = layout
        self.unscored_blocks = config.unscored_blocks
        self.read_out, self.ends_alignment = config.read_out, config.ends_alignment
        self.curiosity = config.curiosity
        self.backbone = backbone
        self.embed_action = embed_action(actions, width, config.action_levels, config.tokenized_actions)
        self.embed_action.requires_grad_(not config.frozen_action_embeddings)
        coded = (coded or {}) if config.embeddings is Embeddings.codebook else {}
        self.embed_observation = nn.ModuleDict(
            {
                m.name: CodeEmbedding(coded[m.name], width) if m.name in coded else embed_observation(m, width)
                for m in layout.modalities
            }
        )
        self.rewards = scalars.build(config.rewards, scale=REWARD_SCALE)
        observations, reward, end = HEADS[config.heads]
        self.head_observation = nn.ModuleDict({m.name: observations(width, m.vocab_size) for m in layout.modalities})
        self.head_reward = reward(width, self.rewards.width)
        self.head_end = end(width, 2)
        self.ensemble = nn.ModuleDict(
            {m.name: Ensemble(config.curiosity.members, width, m.vocab_size) for m in layout.modalities}
            if config.curiosity.members
            else {}
        )
        backbone.initialise()
        if config.initialisation is Initialisation.gpt:
            for name, child in self.named_children():
                if name != "backbone":
                    child.apply(initialise_gpt)
        scalars.initialise_bias(self.head_reward[-1], self.rewards)

    # The parallel pass (training)

    @abstractmethod
    def outputs(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> tuple[Tensor, Tensor]:
        """For every observation token the output that predicts it (B, T, K, D), and the outputs at the last token of
        the actions (B, T, D)."""

    def counted(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T K"]:
        """Which tokens' predictions count: all of real steps."""
        return mask.unsqueeze(-1).expand(-1, -1, self.layout.num_tokens)

    def embed(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> Float[Tensor, "B S2 D"]:
        """Embeddings of whole blocks, flattened to T (K + action tokens)."""
        parts = [self.embed_observation[name](tokens[..., where]) for name, where in self.layout.symbols.items()]
        return rearrange(torch.cat([*parts, self.embed_action(actions)], dim=2), "b t k d -> b (t k) d")

    def loss(
        self,
        tokens: Int[Tensor, "B T S"],
        actions: Tensor,
        rewards: Float[Tensor, "B T"],
        ends: Tensor,
        mask: Bool[Tensor, "B T"],
    ) -> WorldModelLosses:
        """Losses of tokens, rewards and ends. Padding does not count (it is never ahead of real steps), nor do the
        tokens of the first ``unscored_blocks`` of a segment."""
        predicting, at_actions = self.outputs(tokens, actions)
        scored = slice(self.unscored_blocks, None)
        predicted, labels, counts = predicting[:, scored], tokens[:, scored], self.counted(mask)[:, scored]
        errors = self._errors({name: self.head_observation[name] for name in self.layout.slices}, predicted, labels)
        told, ended, steps, is_told = self._told(predicting, at_actions, mask)
        reward_errors = self.rewards.loss(self.head_reward(told), rewards[:, steps])
        end_errors = _cross_entropy(self.head_end(ended), ends[:, steps].long())
        losses: dict[str, Any] = {
            "observations": masked_mean(errors, counts),
            "rewards": masked_mean(reward_errors, is_told),
            "ends": masked_mean(end_errors, is_told),
            "segments": _mean_of_each(errors.detach(), counts) + _mean_of_each(reward_errors.detach(), is_told),
        }
        if not self.ensemble:
            return WorldModelLosses(**losses)
        members = {name: self.ensemble[name].split for name in self.layout.slices}
        return CuriousLosses(**losses, curiosity=masked_mean(self._errors(members, predicted.detach(), labels), counts))

    def _errors(
        self, heads: dict[str, Any], outputs: Float[Tensor, "B T K D"], tokens: Int[Tensor, "B T S"]
    ) -> Float[Tensor, "B T K"]:
        """Cross-entropy of each token, summed over its symbols."""
        symbols = self.layout.symbols
        errors = [
            _symbol_errors(heads[m.name](outputs[..., self.layout.slices[m.name], :]), tokens[..., symbols[m.name]], m)
            for m in self.layout.modalities
        ]
        return torch.cat(errors, dim=-1)

    def _told(
        self, predicting: Float[Tensor, "B T K D"], at_actions: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Tensor, Tensor, slice, Tensor]:
        """The outputs that tell the rewards and the ends of some steps, which steps, and whether they count."""
        if self.read_out is ReadOut.action:
            steps = slice(self.unscored_blocks, None)
            return at_actions[:, steps], at_actions[:, steps], steps, mask[:, steps]
        last, steps = predicting[:, :, -1], slice(None, -1)
        ended = last[:, 1:] if self.ends_alignment is EndsAlignment.aligned else last[:, :-1]
        return last[:, 1:], ended, steps, mask[:, :-1] & mask[:, 1:]

    # Imagination

    @property
    @abstractmethod
    def pending(self) -> int:
        """Tokens at the end of an observation that are read together with the next action."""

    @abstractmethod
    def advance(self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "S B"] | None) -> Prediction:
        """Read x, of which the last token is an action's, and sample the next observation with the uniforms (not
        without); the new state has read this observation but for its pending tokens."""

    def start(self, frames: Int[Tensor, "B c S"], actions: Tensor) -> WorldModelState:
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
        self, state: WorldModelState, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[WorldModelState, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """One imagined step: the state with the next observation, the reward, and the end flag.

        When another block does not fit, the past is dropped and only the context is read again, as in the published
        agents. Where there is an ensemble, its disagreement is part of the reward. Rewards that are read from the
        prediction of the next observation need it in any case.
        """
        k = self.layout.num_tokens
        predict_observation |= self.read_out is ReadOut.prediction or len(self.ensemble) > 0
        read = self.pending + self.layout.action_tokens
        if state.length + read + (k if predict_observation else 0) > self.backbone.max_tokens:
            state = self.start(state.frames, state.actions)
        action = self.embed_action(actions)
        x = torch.cat([self.embed_tokens(state.tokens, k - self.pending, k), action], dim=1) if self.pending else action
        predicted = self.advance(state.backbone, x, noise.tokens if predict_observation else None)
        told = predicted.at_action
        if self.read_out is ReadOut.prediction:
            assert predicted.of_tokens is not None
            told = predicted.of_tokens[:, -1]
        rewards = self.curiosity.real_weight * self.rewards.sample(self.head_reward(told), noise.reward)
        if self.ensemble:
            assert predicted.of_tokens is not None
            rewards = rewards + self.curiosity.intrinsic_weight * self.disagreement(predicted.of_tokens)
        ends = sample_categorical(self.head_end(told), noise.end)
        if predicted.tokens is None:
            after = WorldModelState(predicted.backbone, state.length + read, state.frames, state.actions)
        else:
            after = WorldModelState(
                predicted.backbone,
                state.length + self.layout.block_size,
                torch.cat([state.frames[:, 1:], predicted.tokens.unsqueeze(1)], dim=1),
                torch.cat([state.actions, actions.unsqueeze(1)], dim=1)[:, 1:],
            )
        return after, rewards, ends

    def disagreement(self, outputs: Float[Tensor, "B K D"]) -> Float[Tensor, "B"]:
        """Of the ensemble about an observation: the mean over each modality's tokens, summed over the modalities."""
        parts = [
            cast(Ensemble, self.ensemble[name]).disagreement(outputs[:, where]).mean(dim=1)
            for name, where in self.layout.slices.items()
        ]
        return torch.stack(parts).sum(dim=0)

    def draw(
        self, modality: ModalityTokens, outputs: Float[Tensor, "B n D"], uniforms: Float[Tensor, "s B"]
    ) -> Int[Tensor, "B s"]:
        """Symbols of n tokens of a modality, sampled from what the outputs say of them."""
        columns = self.head_observation[modality.name](outputs).split(list(modality.vocab_sizes), dim=-1)
        given = uniforms.T.unflatten(1, (-1, len(columns))).unbind(-1)
        symbols = [sample_categorical(logits, some) for logits, some in zip(columns, given)]
        return torch.stack(symbols, dim=-1).flatten(1)

    def embed_tokens(self, tokens: Int[Tensor, "B S"], start: int, stop: int) -> Float[Tensor, "B n D"]:
        """Embeddings of observation tokens start..stop-1 of the layout; ``tokens`` holds the symbols of all of them."""
        parts, symbols = [], self.layout.symbols
        for modality in self.layout.modalities:
            where, columns = self.layout.slices[modality.name], len(modality.vocab_sizes)
            first, last = max(start, where.start) - where.start, min(stop, where.stop) - where.start
            if first < last:
                offset = symbols[modality.name].start
                chosen = tokens[:, offset + first * columns : offset + last * columns]
                parts.append(self.embed_observation[modality.name](chosen))
        return torch.cat(parts, dim=1)


def prediction_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _wide_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.SiLU(), nn.Linear(2 * width, out))


def _wide_reward_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, out))


def _normed_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, out))


# Of observations, rewards and ends
HEADS = {
    Heads.relu: (prediction_head, prediction_head, prediction_head),
    Heads.normed: (_wide_head, _wide_reward_head, _normed_head),
}


def _cross_entropy(logits: Float[Tensor, "*B V"], labels: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)


def _symbol_errors(
    logits: Float[Tensor, "B T n V"], symbols: Int[Tensor, "B T s"], modality: ModalityTokens
) -> Float[Tensor, "B T n"]:
    """Cross-entropy of each token of a modality, summed over its symbols."""
    columns = symbols.unflatten(-1, (-1, len(modality.vocab_sizes))).unbind(-1)
    split = logits.split(list(modality.vocab_sizes), dim=-1)
    return torch.stack([_cross_entropy(some, labels) for some, labels in zip(split, columns)]).sum(dim=0)


def _mean_of_each(errors: Float[Tensor, "B *n"], counts: Bool[Tensor, "B *n"]) -> Float[Tensor, "B"]:
    """The mean over what counts of each segment."""
    return (errors * counts).flatten(1).sum(dim=1) / counts.flatten(1).sum(dim=1).clamp(min=1)
