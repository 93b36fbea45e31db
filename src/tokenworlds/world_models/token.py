"""The token world model: a backbone over interleaved observation and action tokens, with heads for the tokens of the
next observation, the reward and the termination (IRIS sections 2.2 and A.2, REM section 3, M3).

``autoregressive`` and ``parallel`` are its two ways to predict the next observation. Shapes: B batch, T blocks, K
tokens and S symbols per observation (see ``tokenizers.layout``), c frames of context, D width, V vocabulary; actions
append the environment's own shape to (B, T).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenworlds.backbones import Backbone, initialise_gpt, trunk
from tokenworlds.config import Embeddings, EndsAlignment, Initialisation, ReadOut, TokenQuirks, TokenWorldModelConfig
from tokenworlds.envs.spec import ActionSpec
from tokenworlds.losses import masked_mean
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.world_models import accuracy, heads
from tokenworlds.world_models.base import HEADS, StepNoise, WorldModel, WorldModelLosses, cross_entropy
from tokenworlds.world_models.curiosity import Ensemble
from tokenworlds.world_models.embeddings import CodedTokenizer, CodeEmbedding, embed_action, embed_observation
from tokenworlds.world_models.predictions import TokenPredictions

REWARD_SCALE = 100.0  # by which the buckets of HL-Gauss rewards are finer than those of values


@dataclass
class CuriousLosses(WorldModelLosses):
    """Losses with that of the ensemble whose disagreement is a reward."""

    curiosity: Tensor


@dataclass
class WorldModelState:
    """Between two imagined steps: the backbone has read all of the context but the pending tokens of the current
    observation, which it reads together with the next action."""

    backbone: Any
    length: int  # tokens read
    frames: Int[Tensor, "B c S"]  # the last observations, the current one at the end
    actions: Tensor  # between them, (B, c - 1, ...)

    @property
    def tokens(self) -> Int[Tensor, "B S"]:
        """The current observation."""
        return self.frames[:, -1]


@dataclass
class Prediction:
    """Outputs after an action has been read."""

    action_output: Float[Tensor, "B D"]
    token_outputs: Float[Tensor, "B K D"] | None  # those that predict the next observation
    tokens: Int[Tensor, "B S"] | None  # the next observation, if it was to be sampled
    backbone: Any


class TokenWorldModel(WorldModel, ABC):
    """``coded`` maps modalities to tokenizers by whose code vectors they are embedded."""

    reads_blocks = False  # whether the backbone takes a whole block as one token

    def __init__(
        self,
        config: TokenWorldModelConfig,
        backbone: Backbone[Any],
        layout: TokenLayout,
        actions: ActionSpec,
        coded: Mapping[str, CodedTokenizer] | None = None,
        quirks: TokenQuirks | None = None,
    ) -> None:
        super().__init__()
        quirks = quirks or TokenQuirks()
        width = config.embed_dim
        self.layout = layout
        self.max_tokens = backbone.max_tokens
        self.unscored_blocks = config.unscored_blocks
        self.read_out, self.ends_alignment = config.read_out, quirks.ends_alignment
        self.curiosity = config.curiosity
        self.backbone = backbone
        self.embed_action = embed_action(actions, width, config.action_levels, config.tokenized_actions)
        self.embed_action.requires_grad_(not quirks.frozen_action_embeddings)
        coded = (coded or {}) if config.embeddings is Embeddings.codebook else {}
        self.embed_observation = nn.ModuleDict(
            {
                m.name: CodeEmbedding(coded[m.name], width) if m.name in coded else embed_observation(m, width)
                for m in layout.modalities
            }
        )
        self.rewards = heads.build(config.rewards, scale=REWARD_SCALE)
        self.head_observation, self.head_reward, self.head_end = self.build_heads(config)
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
        heads.initialise_bias(self.head_reward[-1], self.rewards)
        self.add_parameters(config, quirks)
        if config.trunk is not None:
            trunk.scale_embeddings(
                (backbone.get_submodule("positions"), self.embed_action, self.embed_observation), config.trunk
            )

    def build_heads(self, config: TokenWorldModelConfig) -> tuple[nn.ModuleDict, nn.Sequential, nn.Sequential]:
        """Networks that predict tokens (by modality), rewards and terminations."""
        width, (token_head, reward_head, end_head) = config.embed_dim, HEADS[config.heads]
        tokens = nn.ModuleDict({m.name: token_head(width, m.vocab_size) for m in self.layout.modalities})
        return tokens, reward_head(width, self.rewards.width), end_head(width, 2)

    def add_parameters(self, config: TokenWorldModelConfig, quirks: TokenQuirks) -> None:
        """Construct and initialise the parameters of a decoding, after all others."""

    # The parallel pass (training)

    @abstractmethod
    def outputs(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs that predict the observation tokens (B, T, K, D), and those at each action's last token (B, T,
        D)."""

    def counted(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T K"]:
        """Whether the prediction of a token enters the loss: on real steps."""
        return mask.unsqueeze(-1).expand(-1, -1, self.layout.num_tokens)

    def embed(self, tokens: Int[Tensor, "B T S"], actions: Tensor) -> Float[Tensor, "B S2 D"]:
        """Embeddings of whole blocks, flattened to T (K + action tokens)."""
        parts = [self.embed_observation[name](tokens[..., span]) for name, span in self.layout.symbols.items()]
        return rearrange(torch.cat([*parts, self.embed_action(actions)], dim=2), "b t k d -> b (t k) d")

    def loss(
        self,
        tokens: Int[Tensor, "B T S"],
        actions: Tensor,
        rewards: Float[Tensor, "B T"],
        ends: Tensor,
        mask: Bool[Tensor, "B T"],
        repeated: int = 0,
    ) -> WorldModelLosses:
        """Losses of tokens, rewards and terminations. Padding, which never precedes real steps, does not count, nor do
        the tokens of the first ``unscored_blocks`` of a segment, nor rewards and ends of its first ``repeated`` steps,
        which another segment has, too (where they are read behind their step)."""
        predicting, action_outputs = self.outputs(tokens, actions)
        scored = slice(self.unscored_blocks, None)
        outputs, labels, counts = predicting[:, scored], tokens[:, scored], self.counted(mask)[:, scored]
        errors = self._token_errors(dict(self.head_observation.items()), outputs, labels)
        reward_inputs, end_inputs, steps, is_counted = self._reward_inputs(predicting, action_outputs, mask, repeated)
        predicted, real, is_end = self.head_reward(reward_inputs), rewards[:, steps], ends[:, steps].long()
        reward_errors, end_logits = self.rewards.loss(predicted, real), self.head_end(end_inputs)
        end_errors = cross_entropy(end_logits, is_end)
        losses: dict[str, Any] = {
            "observations": masked_mean(errors, counts),
            "rewards": masked_mean(reward_errors, is_counted),
            "ends": masked_mean(end_errors, is_counted),
            "segments": _segment_means(errors.detach(), counts) + _segment_means(reward_errors.detach(), is_counted),
        }
        if not self.training:
            is_right = accuracy.right_tokens(self.layout, self.head_observation, outputs, labels)
            found = TokenPredictions(errors, is_right, counts, self.unscored_blocks)
            outcomes = (self.rewards, predicted, real, end_logits, is_end, is_counted)
            losses |= accuracy.evaluated(found, "token_accuracy", *outcomes)
        if not self.ensemble:
            return WorldModelLosses(**losses)
        members = {name: cast(Ensemble, ensemble).split for name, ensemble in self.ensemble.items()}
        curiosity = masked_mean(self._token_errors(members, outputs.detach(), labels), counts)
        return CuriousLosses(**losses, curiosity=curiosity)

    def _token_errors(
        self, head: Mapping[str, Any], outputs: Float[Tensor, "B T K D"], tokens: Int[Tensor, "B T S"]
    ) -> Float[Tensor, "B T K"]:
        """Cross-entropy of each token, summed over its symbols."""
        slices, symbols = self.layout.slices, self.layout.symbols
        errors = [
            symbol_errors(head[m.name](outputs[..., slices[m.name], :]), tokens[..., symbols[m.name]], m)
            for m in self.layout.modalities
        ]
        return torch.cat(errors, dim=-1)

    def _reward_inputs(
        self, outputs: Float[Tensor, "B T K D"], actions: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"], first: int
    ) -> tuple[Tensor, Tensor, slice, Tensor]:
        """Hidden states for the reward and the termination head, the steps that they belong to, and whether these
        count."""
        if self.read_out is ReadOut.action:
            steps = slice(self.unscored_blocks, None)
            return actions[:, steps], actions[:, steps], steps, mask[:, steps]
        last, steps, after = outputs[:, :, -1], slice(first, -1), slice(first + 1, None)
        end_inputs = last[:, after if self.ends_alignment is EndsAlignment.aligned else steps]
        return last[:, after], end_inputs, steps, mask[:, steps] & mask[:, after]

    # Imagination

    @property
    @abstractmethod
    def pending(self) -> int:
        """Tokens at the end of an observation that are read together with the next action."""

    @abstractmethod
    def predict(self, state: Any, x: Float[Tensor, "B n D"], uniforms: Float[Tensor, "S B"] | None) -> Prediction:
        """Read x, which ends with an action, and sample the next observation if there are uniforms; the new state has
        then read this observation up to its pending tokens."""

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
        """One imagined step: the state with the next observation, the reward, and the termination flag.

        When another block does not fit, the past is dropped and only the context is read again, as in the published
        agents. In training the disagreement of an ensemble is part of the reward. Rewards that are read from the
        prediction of the next observation need it in any case.
        """
        k = self.layout.num_tokens
        predict_observation |= self.read_out is ReadOut.prediction or len(self.ensemble) > 0
        read = self.pending + self.layout.action_tokens
        if state.length + read + (k if predict_observation else 0) > self.max_tokens:
            state = self.start(state.frames, state.actions)
        x = self.embed_action(actions)
        if self.pending:
            x = torch.cat([self.embed_tokens(state.tokens, k - self.pending, k), x], dim=1)
        predicted = self.predict(state.backbone, x, noise.tokens if predict_observation else None)
        reward_input = predicted.action_output
        if self.read_out is ReadOut.prediction:
            assert predicted.token_outputs is not None
            reward_input = predicted.token_outputs[:, -1]
        rewards = self.rewards.sample(self.head_reward(reward_input), noise.reward)
        if self.mode.is_intrinsic:
            rewards = self.curiosity.real_weight * rewards
        if self.mode.is_intrinsic and self.ensemble:
            assert predicted.token_outputs is not None
            rewards = rewards + self.curiosity.intrinsic_weight * self.disagreement(predicted.token_outputs)
        ends = self.mode.sample(self.head_end(reward_input), noise.end)
        if predicted.tokens is None:
            return WorldModelState(predicted.backbone, state.length + read, state.frames, state.actions), rewards, ends
        frames = torch.cat([state.frames[:, 1:], predicted.tokens.unsqueeze(1)], dim=1)
        past_actions = torch.cat([state.actions, actions.unsqueeze(1)], dim=1)[:, 1:]
        length = state.length + self.layout.block_size
        return WorldModelState(predicted.backbone, length, frames, past_actions), rewards, ends

    def disagreement(self, outputs: Float[Tensor, "B K D"]) -> Float[Tensor, "B"]:
        """Disagreement of the ensemble about an observation: mean over each modality's tokens, summed over the
        modalities."""
        parts = [
            cast(Ensemble, self.ensemble[name]).disagreement(outputs[:, span]).mean(dim=1)
            for name, span in self.layout.slices.items()
        ]
        return torch.stack(parts).sum(dim=0)

    def sample_tokens(
        self, modality: ModalityTokens, outputs: Float[Tensor, "B n D"], uniforms: Float[Tensor, "s B"]
    ) -> Int[Tensor, "B s"]:
        """Symbols of n tokens of a modality, sampled from the outputs that predict them."""
        columns = self.head_observation[modality.name](outputs).split(list(modality.vocab_sizes), dim=-1)
        noise = uniforms.T.unflatten(1, (-1, len(columns))).unbind(-1)
        return torch.stack([self.mode.sample(*pair) for pair in zip(columns, noise)], dim=-1).flatten(1)

    def embed_tokens(self, tokens: Int[Tensor, "B S"], start: int, stop: int) -> Float[Tensor, "B n D"]:
        """Embeddings of observation tokens start..stop-1 of the layout; ``tokens`` holds the symbols of all of them."""
        parts = []
        for modality in self.layout.modalities:
            span, columns = self.layout.slices[modality.name], len(modality.vocab_sizes)
            first, last = max(start, span.start) - span.start, min(stop, span.stop) - span.start
            if first < last:
                offset = self.layout.symbols[modality.name].start
                chosen = tokens[:, offset + first * columns : offset + last * columns]
                parts.append(self.embed_observation[modality.name](chosen))
        return torch.cat(parts, dim=1)


def symbol_errors(
    logits: Float[Tensor, "B T n V"], symbols: Int[Tensor, "B T s"], modality: ModalityTokens
) -> Float[Tensor, "B T n"]:
    """Cross-entropy of each token of a modality, summed over its symbols."""
    columns = symbols.unflatten(-1, (-1, len(modality.vocab_sizes))).unbind(-1)
    split = logits.split(list(modality.vocab_sizes), dim=-1)
    return torch.stack([cross_entropy(*pair) for pair in zip(split, columns)]).sum(dim=0)


def _segment_means(errors: Float[Tensor, "B *n"], counts: Bool[Tensor, "B *n"]) -> Float[Tensor, "B"]:
    """Mean of each segment over the elements that count."""
    return (errors * counts).flatten(1).sum(dim=1) / counts.flatten(1).sum(dim=1).clamp(min=1)
