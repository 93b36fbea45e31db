"""Policies, values, returns and their losses."""

from tokenworlds.actor_critic.actions import ActionHead, action_embedding, action_head
from tokenworlds.actor_critic.behaviour import behaviour_losses, follow
from tokenworlds.actor_critic.encoders import CodeEncoder, FlatEncoder, PixelEncoder, SymbolEncoder
from tokenworlds.actor_critic.normalisation import ReturnScale
from tokenworlds.actor_critic.policy import Policy, PolicyState, build_frame_policy, build_policy
from tokenworlds.actor_critic.returns import ActorCriticLosses, actor_critic_losses, lambda_returns, until_end
from tokenworlds.actor_critic.trajectory import Trajectory

__all__ = [
    "ActionHead",
    "ActorCriticLosses",
    "CodeEncoder",
    "FlatEncoder",
    "PixelEncoder",
    "Policy",
    "PolicyState",
    "ReturnScale",
    "SymbolEncoder",
    "Trajectory",
    "action_embedding",
    "action_head",
    "actor_critic_losses",
    "behaviour_losses",
    "build_frame_policy",
    "build_policy",
    "follow",
    "lambda_returns",
    "until_end",
]
