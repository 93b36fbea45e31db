"""Lambda-returns and the actor-critic loss (IRIS section 2.3, appendix A.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.losses import Losses


@dataclass
class ActorCriticLosses(Losses):
    """REINFORCE with the value as baseline, squared value error, weighted negative entropy."""

    actions: Tensor
    values: Tensor
    entropy: Tensor


def lambda_returns(
    rewards: Float[Tensor, "B T"], values: Float[Tensor, "B T"], ends: Tensor, gamma: float, lambda_: float
) -> Float[Tensor, "B T"]:
    """R_{T-1} = V_{T-1};  R_t = r_t + gamma (1 - d_t) ((1 - lambda) V_{t+1} + lambda R_{t+1}).

    The two discounts are rounded to torch's default dtype before they meet the values, whatever these are: so they were
    in the published agents.
    """
    goes_on = ends.logical_not()
    of_values, of_returns = goes_on * gamma * (1 - lambda_), goes_on * gamma * lambda_
    returns = [values[:, -1]]
    for t in reversed(range(values.shape[1] - 1)):
        returns.append(rewards[:, t] + of_values[:, t] * values[:, t + 1] + of_returns[:, t] * returns[-1])
    return torch.stack(returns[::-1], dim=1)


def actor_critic_losses(
    logits: Float[Tensor, "B T A"],
    values: Float[Tensor, "B T"],
    actions: Int[Tensor, "B T"],
    rewards: Float[Tensor, "B T"],
    ends: Tensor,
    *,
    gamma: float,
    lambda_: float,
    entropy_weight: float,
) -> ActorCriticLosses:
    """Means over the first T - 1 steps; the last one only bootstraps. Steps after an imagined end count like any other,
    as published."""
    returns = lambda_returns(rewards, values.detach(), ends, gamma, lambda_)[:, :-1]
    values = values[:, :-1]
    log_probabilities = logits[:, :-1].log_softmax(dim=-1)
    chosen = log_probabilities.gather(-1, actions[:, :-1, None]).squeeze(-1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
    return ActorCriticLosses(
        actions=-(chosen * (returns - values.detach())).mean(),
        values=F.mse_loss(values, returns),
        entropy=-entropy_weight * entropy.mean(),
    )
