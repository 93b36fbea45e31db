"""Policies, values, returns and their losses."""

from tokenworlds.actor_critic.policy import PixelPolicy, PolicyState
from tokenworlds.actor_critic.returns import ActorCriticLosses, actor_critic_losses, lambda_returns

__all__ = ["ActorCriticLosses", "PixelPolicy", "PolicyState", "actor_critic_losses", "lambda_returns"]
