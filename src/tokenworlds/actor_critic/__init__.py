"""Policies, values, returns and their losses."""

from tokenworlds.actor_critic.policy import CodeEncoder, PixelEncoder, Policy, PolicyState, build_policy
from tokenworlds.actor_critic.returns import ActorCriticLosses, actor_critic_losses, lambda_returns

__all__ = [
    "ActorCriticLosses",
    "CodeEncoder",
    "PixelEncoder",
    "Policy",
    "PolicyState",
    "actor_critic_losses",
    "build_policy",
    "lambda_returns",
]
