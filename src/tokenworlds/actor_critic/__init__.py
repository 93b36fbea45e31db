"""Policies, values, returns and their losses."""

from tokenworlds.actor_critic.actions import ActionHead, action_embedding, action_head
from tokenworlds.actor_critic.encoders import CodeEncoder, FlatEncoder, PixelEncoder
from tokenworlds.actor_critic.losses import (
    ActorCriticLosses,
    Trajectory,
    actor_critic_losses,
    lambda_returns,
    trajectory_losses,
    until_end,
    update_ema,
)
from tokenworlds.actor_critic.normalisation import ReturnScale
from tokenworlds.actor_critic.policy import Policy, PolicyState, build_frame_policy

__all__ = [
    "ActionHead", "ActorCriticLosses", "CodeEncoder", "FlatEncoder", "PixelEncoder", "Policy", "PolicyState",
    "ReturnScale", "Trajectory", "action_embedding", "action_head", "actor_critic_losses",
    "build_frame_policy", "lambda_returns", "trajectory_losses", "until_end", "update_ema",
]  # fmt: skip
