"""Distributions over actions, and embeddings of actions as inputs of a policy.

Shapes: *B any leading dimensions, W outputs of the policy, n uniforms that an action is sampled with, D width. Actions
are (*B, *shape), shape that of the environment's action spec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.envs.spec import ActionSpec, ContinuousActions, DiscreteActions, MultiDiscreteActions
from tokenworlds.ops.categorical import Sampler, sample_categorical
from tokenworlds.world_models.embeddings import ColumnsEmbedding


class ActionHead(ABC):
    """A distribution over actions, parametrised by ``width`` outputs of a policy. Not a module: it has no
    parameters."""

    width: int
    draws: int  # n

    @abstractmethod
    def sample(
        self, logits: Float[Tensor, "*B W"], uniforms: Float[Tensor, "n *B"], sampler: Sampler | None = None
    ) -> Tensor:
        """Actions: the inverse cumulative distributions at the uniforms, or what the ``sampler`` chooses instead."""

    @abstractmethod
    def log_probability(self, logits: Float[Tensor, "*B W"], actions: Tensor) -> Float[Tensor, "*B"]:
        """Log-probability of each action."""

    @abstractmethod
    def entropy(self, logits: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        """Entropy in nats."""


class DiscreteHead(ActionHead):
    """One of ``width`` actions."""

    draws = 1

    def __init__(self, count: int) -> None:
        self.width = count

    def sample(
        self, logits: Float[Tensor, "*B W"], uniforms: Float[Tensor, "n *B"], sampler: Sampler | None = None
    ) -> Int[Tensor, "*B"]:
        return (sampler or sample_categorical)(logits, uniforms[0])

    def log_probability(self, logits: Float[Tensor, "*B W"], actions: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return logits.log_softmax(dim=-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, logits: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        log_probabilities = logits.log_softmax(dim=-1)
        return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


class MultiDiscreteHead(ActionHead):
    """Independent choices: log-probabilities and entropies are sums over them."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        self.parts = [DiscreteHead(count) for count in counts]
        self.width, self.draws = sum(counts), len(counts)

    def _by_choice(self, logits: Float[Tensor, "*B W"]) -> list[tuple[DiscreteHead, Tensor]]:
        return list(zip(self.parts, logits.split([part.width for part in self.parts], dim=-1)))

    def sample(
        self, logits: Float[Tensor, "*B W"], uniforms: Float[Tensor, "n *B"], sampler: Sampler | None = None
    ) -> Int[Tensor, "*B n"]:
        drawn = [part.sample(own, u, sampler) for (part, own), u in zip(self._by_choice(logits), uniforms.split(1))]
        return torch.stack(drawn, dim=-1)

    def log_probability(self, logits: Float[Tensor, "*B W"], actions: Int[Tensor, "*B n"]) -> Float[Tensor, "*B"]:
        chosen = zip(self._by_choice(logits), actions.unbind(-1))
        return torch.stack([part.log_probability(own, action) for (part, own), action in chosen]).sum(dim=0)

    def entropy(self, logits: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        return torch.stack([part.entropy(own) for part, own in self._by_choice(logits)]).sum(dim=0)


class LevelsHead(ActionHead):
    """Numbers in [-1, 1], each one of ``levels`` even values: log-probabilities and entropies are means over them, as
    published with M3."""

    def __init__(self, size: int, levels: int) -> None:
        self.levels, self.draws, self.width = DiscreteHead(levels), size, size * levels

    def _by_dimension(self, logits: Float[Tensor, "*B W"]) -> Float[Tensor, "*B n L"]:
        return logits.unflatten(-1, (self.draws, self.levels.width))

    def values(self, levels: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return torch.linspace(-1, 1, self.levels.width, dtype=torch.float32, device=levels.device)[levels]

    def nearest(self, values: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        last = self.levels.width - 1
        return ((values + 1) * (last / 2)).round().long().clamp(0, last)

    def sample(
        self, logits: Float[Tensor, "*B W"], uniforms: Float[Tensor, "n *B"], sampler: Sampler | None = None
    ) -> Float[Tensor, "*B n"]:
        return self.values((sampler or sample_categorical)(self._by_dimension(logits), uniforms.movedim(0, -1)))

    def log_probability(self, logits: Float[Tensor, "*B W"], actions: Float[Tensor, "*B n"]) -> Float[Tensor, "*B"]:
        """Log-probability of the nearest levels."""
        return self.levels.log_probability(self._by_dimension(logits), self.nearest(actions)).mean(dim=-1)

    def entropy(self, logits: Float[Tensor, "*B W"]) -> Float[Tensor, "*B"]:
        return self.levels.entropy(self._by_dimension(logits)).mean(dim=-1)


def action_head(spec: ActionSpec, levels: int) -> ActionHead:
    """The distribution over the actions of an environment; continuous ones have ``levels`` values a dimension."""
    match spec:
        case DiscreteActions(count=count):
            return DiscreteHead(count)
        case MultiDiscreteActions(counts=counts):
            return MultiDiscreteHead(counts)
        case ContinuousActions(size=size):
            return LevelsHead(size, levels)


class MeanEmbedding(ColumnsEmbedding):
    """The mean of the embeddings of several choices."""

    def forward(self, actions: Int[Tensor, "*B n"]) -> Float[Tensor, "*B D"]:
        return super().forward(actions).squeeze(-2)


class Projection(nn.Linear):
    """A linear map of numbers of any precision."""

    def forward(self, actions: Float[Tensor, "*B n"]) -> Float[Tensor, "*B D"]:
        return super().forward(actions.to(self.weight.dtype))


def action_embedding(spec: ActionSpec, width: int) -> nn.Module:
    """The module that embeds actions as inputs of a policy: (*B, *shape) to (*B, D)."""
    match spec:
        case DiscreteActions(count=count):
            return nn.Embedding(count, width)
        case MultiDiscreteActions(counts=counts):
            return MeanEmbedding(counts, width)
        case ContinuousActions(size=size):
            return Projection(size, width)
