"""Lambda-returns and the actor-critic loss along an imagined trajectory (IRIS section 2.3, appendix A.3; M3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.actor_critic.actions import ActionHead
from tokenworlds.actor_critic.normalisation import ReturnScale
from tokenworlds.actor_critic.policy import Policy, PolicyState
from tokenworlds.config import BehaviourTrainingConfig
from tokenworlds.losses import Losses, masked_mean
from tokenworlds.world_models.heads import ScalarHead


@dataclass
class Trajectory:
    """H policy steps in imagination: action t was chosen on observation t. The last action is not carried out, unless
    that was asked for: T is H - 1 or H."""

    observations: Tensor  # policy inputs (B, H, ...)
    actions: Tensor  # (B, H, ...)
    rewards: Float[Tensor, "B T"]
    terminations: Int[Tensor, "B T"]


@dataclass
class ActorCriticLosses(Losses):
    """REINFORCE with a baseline, the critic's distance from the returns, weighted negative entropy."""

    actions: Tensor
    values: Tensor
    entropy: Tensor


def trajectory_losses(
    policy: Policy,
    trajectory: Trajectory,
    state: PolicyState,
    config: BehaviourTrainingConfig,
    target: tuple[Policy, PolicyState] | None = None,
    *,
    scale: ReturnScale | None = None,
    critic_only: bool = False,
    entropy_of_last: bool = False,
) -> ActorCriticLosses:
    """Actor-critic losses of an imagined trajectory, along which the policy is unrolled once more, with gradients; the
    last observation only bootstraps.

    Baseline and bootstrap are the policy's own values (IRIS section 2.3), or those of an EMA ``target`` network with a
    recurrent state of its own (Delta-IRIS). Steps after an imagined termination count like any other, as IRIS published
    it, unless ``config.stop_at_end``. ``scale`` records the returns and divides the advantages (M3). Networks may run
    under autocast, the losses are at least float32.
    """
    observations, actions, rewards = trajectory.observations, trajectory.actions, trajectory.rewards
    if target is not None:
        values = _values(*target, trajectory)
    last = None if target is None or entropy_of_last else -1
    logits, outputs, _ = policy.unroll(observations[:, :last], actions[:, :last], state)
    logits, outputs = _at_least_float32(logits), _at_least_float32(outputs)
    if target is None:
        values = policy.values.mean(outputs).detach()
    returns = lambda_returns(rewards, values, trajectory.terminations, config.gamma, config.lambda_)
    steps = rewards.shape[1]
    logits = logits if entropy_of_last else logits[:, :steps]
    terminations = F.pad(trajectory.terminations, (0, logits.shape[1] - steps))  # none after the last step
    return actor_critic_losses(
        logits,
        outputs[:, :steps],
        actions[:, :steps],
        returns,
        values[:, :steps],
        policy.values,
        policy.actions,
        entropy_weight=config.entropy_weight,
        mask=until_end(terminations) if config.stop_at_end else None,
        scale=None if scale is None else scale(returns),
        critic_only=critic_only,
    )


@torch.no_grad()
def _values(policy: Policy, state: PolicyState, trajectory: Trajectory) -> Float[Tensor, "B H"]:
    _, outputs, _ = policy.unroll(trajectory.observations, trajectory.actions, state)
    return policy.values.mean(_at_least_float32(outputs))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def lambda_returns(
    rewards: Float[Tensor, "B T"], values: Float[Tensor, "B T1"], terminations: Tensor, gamma: float, lambda_: float
) -> Float[Tensor, "B T"]:
    """R_t = r_t + gamma (1 - d_t) ((1 - lambda) V_{t+1} + lambda R_{t+1}) of T steps, with R_T = V_T: one value more
    than steps.

    The two discounts are rounded to torch's default dtype before they meet the values, whatever these are, as in the
    published agents.
    """
    continues = terminations.logical_not()
    of_values, of_returns = continues * gamma * (1 - lambda_), continues * gamma * lambda_
    returns = [values[:, -1]]
    for t in reversed(range(rewards.shape[1])):
        returns.append(rewards[:, t] + of_values[:, t] * values[:, t + 1] + of_returns[:, t] * returns[-1])
    return torch.stack(returns[:0:-1], dim=1)


def until_end(terminations: Tensor) -> Bool[Tensor, "B T"]:
    """True up to and including the first termination of a row."""
    terminations = terminations.long()
    return terminations.cumsum(dim=1) == terminations


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
    """Means over the policy steps where ``mask`` is true, over all of them without one. ``logits`` after the T steps
    enter the entropy alone. ``outputs`` are the critic's, interpreted by ``values``; returns and baselines carry no
    gradient; ``scale`` divides their difference. With ``critic_only`` the losses of actor and entropy are 0."""

    def mean(x: Float[Tensor, "B _"]) -> Float[Tensor, ""]:
        return x.mean() if mask is None else masked_mean(x, mask[:, : x.shape[1]])

    advantages = returns - baselines if scale is None else (returns - baselines) / scale
    log_probabilities = actions_head.log_probability(logits[:, : returns.shape[1]], actions)
    entropy = mean(actions_head.entropy(logits))
    actor = [-mean(log_probabilities * advantages), -entropy_weight * entropy]
    if critic_only:  # without any gradient, so that no weight decay acts on the actor either
        actor = [torch.zeros_like(loss) for loss in actor]
    return ActorCriticLosses(
        actions=actor[0],
        values=mean(values.loss(outputs, returns)),
        entropy=actor[1],
        measured={"policy_entropy": entropy.detach()} | ({} if scale is None else {"returns_scale": scale}),
    )


@torch.no_grad()
def update_ema(target: Policy, policy: Policy, decay: float) -> None:
    """target <- decay target + (1 - decay) policy, all parameters, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(policy.parameters()), 1 - decay)
