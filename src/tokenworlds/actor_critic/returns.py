"""Lambda-returns and the actor-critic loss (IRIS section 2.3, appendix A.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenworlds.losses import Losses, masked_mean
from tokenworlds.scalars import ScalarHead


@dataclass
class ActorCriticLosses(Losses):
    """REINFORCE with a baseline, the critic's distance from the returns, weighted negative entropy."""

    actions: Tensor
    values: Tensor
    entropy: Tensor


def lambda_returns(
    rewards: Float[Tensor, "B T"], values: Float[Tensor, "B T1"], ends: Tensor, gamma: float, lambda_: float
) -> Float[Tensor, "B T"]:
    """R_t = r_t + gamma (1 - d_t) ((1 - lambda) V_{t+1} + lambda R_{t+1}) of T steps, with R_T = V_T: one value more
    than steps.

    The two discounts are rounded to torch's default dtype before they meet the values, whatever these are: so they were
    in the published agents.
    """
    goes_on = ends.logical_not()
    of_values, of_returns = goes_on * gamma * (1 - lambda_), goes_on * gamma * lambda_
    returns = [values[:, -1]]
    for t in reversed(range(rewards.shape[1])):
        returns.append(rewards[:, t] + of_values[:, t] * values[:, t + 1] + of_returns[:, t] * returns[-1])
    return torch.stack(returns[:0:-1], dim=1)


def until_end(ends: Tensor) -> Bool[Tensor, "B T"]:
    """True up to and including the first end of a row."""
    ends = ends.long()
    return ends.cumsum(dim=1) == ends


def actor_critic_losses(
    logits: Float[Tensor, "B T A"],
    outputs: Float[Tensor, "B T W"],
    actions: Int[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    baselines: Float[Tensor, "B T"],
    values: ScalarHead,
    *,
    entropy_weight: float,
    mask: Bool[Tensor, "B T"] | None = None,
) -> ActorCriticLosses:
    """Means over the steps where ``mask`` is true, over all of them without one. ``outputs`` are the critic's, read by
    ``values``; returns and baselines carry no gradient."""

    def mean(x: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
        return x.mean() if mask is None else masked_mean(x, mask)

    log_probabilities = logits.log_softmax(dim=-1)
    chosen = log_probabilities.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy = mean(-(log_probabilities.exp() * log_probabilities).sum(dim=-1))
    return ActorCriticLosses(
        actions=-mean(chosen * (returns - baselines)),
        values=mean(values.loss(outputs, returns)),
        entropy=-entropy_weight * entropy,
        measured={"policy_entropy": entropy.detach()},
    )
