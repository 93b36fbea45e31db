"""Policies, values, returns and their losses."""

from tokenworlds.actor_critic.behaviour import behaviour_losses, follow
from tokenworlds.actor_critic.policy import (
    CodeEncoder,
    FlatEncoder,
    PixelEncoder,
    Policy,
    PolicyState,
    build_frame_policy,
    build_policy,
)
from tokenworlds.actor_critic.returns import ActorCriticLosses, actor_critic_losses, lambda_returns, until_end

__all__ = [
    "ActorCriticLosses",
    "CodeEncoder",
    "FlatEncoder",
    "PixelEncoder",
    "Policy",
    "PolicyState",
    "actor_critic_losses",
    "behaviour_losses",
    "build_frame_policy",
    "build_policy",
    "follow",
    "lambda_returns",
    "until_end",
]
