"""Common parts of the world models: losses, how imagination samples, the random numbers of an imagined step, and the
published heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import Heads
from tokenworlds.losses import Losses
from tokenworlds.ops.categorical import Sampler, sample_categorical
from tokenworlds.world_models.predictions import Predictions


@dataclass
class WorldModelLosses(Losses):
    """Cross-entropies, each the mean over the steps (or tokens) that count.

    ``segments``, which is no loss, holds the sum of observation and reward losses of each segment, for prioritised
    replay; ``predictions`` what evaluation compares element by element.
    """

    observations: Tensor
    rewards: Tensor
    ends: Tensor
    segments: Tensor | None = field(default=None, kw_only=True)
    predictions: Predictions | None = field(default=None, kw_only=True)


@dataclass
class StepNoise:
    """Uniforms of one imagined step: (B,), (B,), (S, B)."""

    reward: Tensor
    end: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class ImaginationMode:
    """How imagined steps are sampled; the defaults are those of training."""

    sample: Sampler = sample_categorical  # tokens and terminations
    is_intrinsic: bool = True  # whether rewards are weighted, and hold the disagreement of an ensemble
    temperature: float = 1.0  # of noise that becomes an observation, where these are not sampled from probabilities


class WorldModel(nn.Module):
    """Base of the world models."""

    mode = ImaginationMode()

    @contextmanager
    def imagining(self, mode: ImaginationMode) -> Iterator[None]:
        """Imagine in another mode for a while."""
        before, self.mode = self.mode, mode
        try:
            yield
        finally:
            self.mode = before


def prediction_head(width: int, out: int) -> nn.Sequential:
    """One hidden layer with ReLU (IRIS, REM, Delta-IRIS)."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _wide_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.SiLU(), nn.Linear(2 * width, out))


def _wide_reward_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, out))


def _normed_head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, out))


HEADS = {  # of observations, rewards and terminations
    Heads.relu: (prediction_head, prediction_head, prediction_head),
    Heads.normed: (_wide_head, _wide_reward_head, _normed_head),
}


def cross_entropy(logits: Float[Tensor, "*B V"], labels: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Unreduced cross-entropy per element."""
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
