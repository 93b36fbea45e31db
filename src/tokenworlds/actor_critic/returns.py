"""Lambda-returns and the actor-critic loss (IRIS section 2.3, appendix A.3; M3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from tokenworlds.actor_critic.actions import ActionHead
from tokenworlds.losses import Losses, masked_mean
from tokenworlds.world_models.heads import ScalarHead


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
    logits: Float[Tensor, "B L A"],
    outputs: Float[Tensor, "B T W"],
    actions: Shaped[Tensor, "B T *action"],
    returns: Float[Tensor, "B T"],
    baselines: Float[Tensor, "B T"],
    values: ScalarHead,
    actions_head: ActionHead,
    *,
    entropy_weight: float,
    mask: Bool[Tensor, "B L"] | None = None,
    scale: Float[Tensor, ""] | None = None,
    critic_only: bool = False,
) -> ActorCriticLosses:
    """Means over the looks where ``mask`` is true, over all of them without one. ``logits`` of looks behind the T steps
    count for the entropy alone. ``outputs`` are the critic's, read by ``values``; returns and baselines carry no
    gradient; ``scale`` divides their difference. With ``critic_only`` actor and entropy cost nothing."""

    def mean(x: Float[Tensor, "B _"]) -> Float[Tensor, ""]:
        return x.mean() if mask is None else masked_mean(x, mask[:, : x.shape[1]])

    advantages = returns - baselines if scale is None else (returns - baselines) / scale
    chosen = actions_head.log_probability(logits[:, : returns.shape[1]], actions)
    entropy = mean(actions_head.entropy(logits))
    acting = [-mean(chosen * advantages), -entropy_weight * entropy]
    if critic_only:  # without any gradient, so that no weight decay acts on the actor either
        acting = [torch.zeros_like(loss) for loss in acting]
    return ActorCriticLosses(
        actions=acting[0],
        values=mean(values.loss(outputs, returns)),
        entropy=acting[1],
        measured={"policy_entropy": entropy.detach()} | ({} if scale is None else {"returns_scale": scale}),
    )
