"""The token world model: a backbone over interleaved observation and action tokens, with heads for the next token,
reward and end.

IRIS sections 2.2 and A.2. Shapes: B batch, T blocks, K tokens per observation, D width, V vocabulary, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones import Backbone
from tokenworlds.losses import Losses
from tokenworlds.rng import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout

IGNORED = -100


@dataclass
class WorldModelLosses(Losses):
    """Cross-entropies, unweighted; each is the mean over the steps (or tokens) that are not padding."""

    observations: Tensor
    rewards: Tensor
    ends: Tensor


@dataclass
class WorldModelState:
    """Between two imagined steps: the backbone has read everything but the last token of the current observation, which
    is still pending.

    Reading it together with the action saves one pass a step. Only a strictly causal backbone allows that: with full
    attention inside a block the token would see the action, so there it is read alone, as in the published agent, and
    nothing is pending.
    """

    backbone: Any
    length: int  # tokens read
    tokens: Int[Tensor, "B K"]  # the current observation


@dataclass
class StepNoise:
    """Uniforms of one imagined step: (B,), (B,), (K, B)."""

    reward: Tensor
    end: Tensor
    tokens: Tensor


class TokenWorldModel(nn.Module):
    def __init__(self, backbone: Backbone[Any], layout: TokenLayout, num_actions: int, embed_dim: int) -> None:
        super().__init__()
        self.layout = layout
        self.backbone = backbone
        self.embed_action = nn.Embedding(num_actions, embed_dim)
        self.embed_observation = nn.ModuleDict(
            {m.name: nn.Embedding(m.vocab_size, embed_dim) for m in layout.modalities}
        )
        self.head_observation = nn.ModuleDict({m.name: _head(embed_dim, m.vocab_size) for m in layout.modalities})
        self.head_reward = _head(embed_dim, 3)  # sign of the reward: -1, 0, +1
        self.head_end = _head(embed_dim, 2)
        self._pending = (
            1 if backbone.is_causal else 0
        )  # tokens of the current observation that are read with the next action
        self._indices: dict[tuple[frozenset[int], int, int], Tensor] = {}
        self.apply(_initialise)

    # The parallel pass (training)

    def embed(self, tokens: Int[Tensor, "B T K"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B S D"]:
        """Embeddings of whole blocks, flattened to S = T (K + 1) tokens."""
        parts = [self.embed_observation[name](tokens[..., where]) for name, where in self.layout.slices.items()]
        return rearrange(torch.cat([*parts, self.embed_action(actions).unsqueeze(2)], dim=2), "b t k d -> b (t k) d")

    def observation_logits(self, outputs: Float[Tensor, "B n D"], start: int = 0) -> dict[str, Float[Tensor, "B m V"]]:
        """Logits of the next token, per modality, from the outputs at flat positions start..start+n-1 that predict
        one."""
        result = {}
        for modality in self.layout.modalities:
            owned = self._owned(self.layout.predicting_positions(modality.name), start, outputs.shape[1])
            result[modality.name] = self.head_observation[modality.name](outputs[:, owned])
        return result

    def reward_logits(self, outputs: Float[Tensor, "B n D"], start: int = 0) -> Float[Tensor, "B m 3"]:
        """At action positions."""
        logits: Tensor = self.head_reward(
            outputs[:, self._owned(frozenset({self.layout.num_tokens}), start, outputs.shape[1])]
        )
        return logits

    def end_logits(self, outputs: Float[Tensor, "B n D"], start: int = 0) -> Float[Tensor, "B m 2"]:
        """At action positions."""
        logits: Tensor = self.head_end(
            outputs[:, self._owned(frozenset({self.layout.num_tokens}), start, outputs.shape[1])]
        )
        return logits

    def _owned(self, positions: frozenset[int], start: int, count: int) -> Int[Tensor, "m"]:
        """Indices i < count whose flat position start + i stands at one of these in-block positions; kept, so that no
        call waits for a copy."""
        key = (positions, start % self.layout.block_size, count)
        device = self.embed_action.weight.device
        if key not in self._indices or self._indices[key].device != device:
            owned = [i for i in range(count) if (start + i) % self.layout.block_size in positions]
            self._indices[key] = torch.tensor(owned, dtype=torch.int64, device=device)
        return self._indices[key]

    def loss(
        self,
        tokens: Int[Tensor, "B T K"],
        actions: Int[Tensor, "B T"],
        rewards: Float[Tensor, "B T"],
        ends: Tensor,
        mask: Bool[Tensor, "B T"],
    ) -> WorldModelLosses:
        """Cross-entropies of next tokens, reward signs and ends; padded steps are ignored as labels (they are never
        ahead of real ones)."""
        outputs = self.backbone.parallel(self.embed(tokens, actions))
        labels = observation_labels(tokens, mask)
        per_modality = []
        for name, logits in self.observation_logits(outputs).items():
            wanted = rearrange(labels[..., self.layout.slices[name]], "b t k -> b (t k)")
            if (
                self.layout.slices[name].start == 0
            ):  # token 0 is predicted from the block before: the first has no prediction, the last no label
                logits, wanted = _align_first_modality(logits, wanted)
            per_modality.append(
                F.cross_entropy(
                    rearrange(logits, "b s v -> (b s) v"), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
                )
            )
        first, *rest = per_modality
        counted = mask.sum() * self.layout.num_tokens - mask[:, 0].sum()
        reward_labels = torch.where(mask, rewards.sign().long() + 1, IGNORED)
        end_labels = torch.where(mask, ends.long(), IGNORED)
        return WorldModelLosses(
            observations=sum(rest, start=first) / counted,
            rewards=F.cross_entropy(
                self.reward_logits(outputs).flatten(0, 1), reward_labels.flatten(), ignore_index=IGNORED
            ),
            ends=F.cross_entropy(self.end_logits(outputs).flatten(0, 1), end_labels.flatten(), ignore_index=IGNORED),
        )

    # Imagination

    def start(self, tokens: Int[Tensor, "B K"]) -> WorldModelState:
        """A context of one observation, but for its pending token."""
        state = self.backbone.init_state(len(tokens))
        count = self.layout.num_tokens - self._pending
        if count > 0:
            _, state = self.backbone.step(state, self._embed_tokens(tokens, 0, count))
        return WorldModelState(state, count, tokens)

    def _embed_tokens(self, tokens: Int[Tensor, "B K"], start: int, stop: int) -> Float[Tensor, "B n D"]:
        """Embeddings of observation tokens start..stop-1 of the layout; ``tokens`` holds all K of them."""
        parts = [
            self.embed_observation[name](tokens[:, max(start, where.start) : min(stop, where.stop)])
            for name, where in self.layout.slices.items()
            if max(start, where.start) < min(stop, where.stop)
        ]
        return torch.cat(parts, dim=1)

    def step(
        self, state: WorldModelState, actions: Int[Tensor, "B"], noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[WorldModelState, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """One imagined step: the state with the next observation, the reward in {-1, 0, 1}, and the end flag.

        When another block does not fit, the context is dropped and only the current observation is read again, as in
        the published agent.
        """
        k = self.layout.num_tokens
        needed = self._pending + (self.layout.block_size if predict_observation else 1)
        if state.length + needed > self.backbone.max_tokens:
            state = self.start(state.tokens)
        action = self.embed_action(actions).unsqueeze(1)
        x = torch.cat([self._embed_tokens(state.tokens, k - 1, k), action], dim=1) if self._pending else action
        outputs, backbone_state = self.backbone.step(state.backbone, x)
        read_out = outputs[:, -1]
        rewards = sample_categorical(self.head_reward(read_out), noise.reward) - 1
        ends = sample_categorical(self.head_end(read_out), noise.end)
        if not predict_observation:
            return WorldModelState(backbone_state, state.length + x.shape[1], state.tokens), rewards.float(), ends
        tokens = torch.zeros_like(state.tokens)
        for index in range(k):
            if index > 0:
                outputs, backbone_state = self.backbone.step(
                    backbone_state, self._embed_tokens(tokens, index - 1, index)
                )
            logits = self.head_observation[self.layout.modality_of(index)](outputs[:, -1])
            tokens[:, index] = sample_categorical(logits, noise.tokens[index])
        if not self._pending:
            _, backbone_state = self.backbone.step(backbone_state, self._embed_tokens(tokens, k - 1, k))
        return WorldModelState(backbone_state, state.length + self.layout.block_size, tokens), rewards.float(), ends


def observation_labels(tokens: Int[Tensor, "B T K"], mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
    """The tokens themselves, IGNORED where a step is padding."""
    return torch.where(mask.unsqueeze(-1), tokens, IGNORED)


def _align_first_modality(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the last prediction (beyond the sequence) and the first label (predicted by nothing)."""
    return logits[:, :-1], labels[:, 1:]


def _head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _initialise(module: nn.Module) -> None:
    """Linear and embedding weights N(0, 0.02^2), linear biases 0, layer norms 1 and 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
