"""Replay buffer and samplers of segments."""

from tokenworlds.replay.buffer import Observations, ReplayBuffer, Segments
from tokenworlds.replay.evaluation import EvaluationBuffer
from tokenworlds.replay.priorities import PriorityTree
from tokenworlds.replay.prioritised import PrioritisedSampler
from tokenworlds.replay.sampling import (
    SAMPLERS,
    Anchor,
    EpisodeSampler,
    LeastUsedSampler,
    Sampler,
    SegmentSampler,
    sample_from_end,
)
from tokenworlds.replay.traversal import traverse, traverse_between, traverse_chunks

__all__ = [
    "SAMPLERS",
    "Anchor",
    "EpisodeSampler",
    "EvaluationBuffer",
    "LeastUsedSampler",
    "Observations",
    "PrioritisedSampler",
    "PriorityTree",
    "ReplayBuffer",
    "Sampler",
    "SegmentSampler",
    "Segments",
    "sample_from_end",
    "traverse",
    "traverse_between",
    "traverse_chunks",
]
