"""Agents: how tokenizer, world model and policy act together, and how a policy is rolled out in imagination."""

from tokenworlds.agents.base import Agent, perception_chunk
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagination import CapturedImagination, ImaginationNoise, Rollout, imagine, rollout_of
from tokenworlds.agents.token import TokenAgent
from tokenworlds.agents.token_cache import PerceptionCache, TransitionCache

__all__ = [
    "Agent",
    "CapturedImagination",
    "DeltaAgent",
    "ImaginationNoise",
    "PerceptionCache",
    "Rollout",
    "TokenAgent",
    "TransitionCache",
    "imagine",
    "perception_chunk",
    "rollout_of",
]
