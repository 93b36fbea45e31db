"""Replay buffer and the ways to draw segments from it."""

from tokenworlds.replay.buffer import Observations, ReplayBuffer, Segments
from tokenworlds.replay.sampling import (
    SAMPLERS,
    Anchor,
    EpisodeSampler,
    Sampler,
    SegmentSampler,
    sample_from_end,
    sample_from_start,
    traverse,
)

__all__ = [
    "SAMPLERS",
    "Anchor",
    "EpisodeSampler",
    "Observations",
    "ReplayBuffer",
    "Sampler",
    "SegmentSampler",
    "Segments",
    "sample_from_end",
    "sample_from_start",
    "traverse",
]
