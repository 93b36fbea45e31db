"""Test episodes, whose rewards are those of the score, beside what an environment of training would have given.

World models learn from the latter: rewards that are clipped, and lives that end an episode. What they predict is
compared with what they learn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tokenworlds.replay.buffer import ReplayBuffer, Segments


class EvaluationBuffer(ReplayBuffer):
    """A replay buffer that keeps the rewards and ends of training, too."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        rewards, ends = (torch.zeros_like(self._steps[name]) for name in ("rewards", "ends"))
        self._steps |= {"trained_rewards": rewards, "trained_ends": ends}

    def as_trained(self, segments: Segments) -> Segments:
        rewards, ends = (self._steps[name][segments.rows] for name in ("trained_rewards", "trained_ends"))
        return replace(segments, rewards=rewards, terminations=ends)
