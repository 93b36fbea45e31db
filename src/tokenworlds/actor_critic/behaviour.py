"""What a policy learns from an imagined trajectory, and the target network that may judge it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenworlds.actor_critic.normalisation import ReturnScale
from tokenworlds.actor_critic.policy import Policy, PolicyState
from tokenworlds.actor_critic.returns import ActorCriticLosses, actor_critic_losses, lambda_returns, until_end
from tokenworlds.actor_critic.trajectory import Trajectory
from tokenworlds.config import BehaviourTrainingConfig


def behaviour_losses(
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
    """The loss of acting in imagination: the policy is run once more, with gradients, along the trajectory's
    observations; the last of them only bootstraps.

    Baseline and bootstrap are the policy's own values (IRIS section 2.3), or those of a ``target`` network with a
    recurrent state of its own (Delta-IRIS). Steps after an imagined end count like any other, as IRIS published it,
    unless the configuration says otherwise. ``scale`` takes in the returns and divides advantages (M3). Networks may
    run under autocast, the losses are at least float32.
    """
    seen, actions = trajectory.observations, trajectory.actions
    rewards, ends = trajectory.rewards, trajectory.ends
    if target is not None:
        values = _values(*target, trajectory)
    last = None if target is None or entropy_of_last else -1
    logits, outputs, _ = policy.unroll(seen[:, :last], actions[:, :last], state)
    logits, outputs = _at_least_float32(logits), _at_least_float32(outputs)
    if target is None:
        values = policy.values.mean(outputs).detach()
    returns = lambda_returns(rewards, values, ends, config.gamma, config.lambda_)
    steps = rewards.shape[1]
    logits = logits if entropy_of_last else logits[:, :steps]
    ended = F.pad(ends, (0, logits.shape[1] - steps))  # the look behind the last step has no end
    return actor_critic_losses(
        logits,
        outputs[:, :steps],
        actions[:, :steps],
        returns,
        values[:, :steps],
        policy.values,
        policy.actions,
        entropy_weight=config.entropy_weight,
        mask=until_end(ended) if config.stop_at_end else None,
        scale=None if scale is None else scale(returns),
        critic_only=critic_only,
    )


@torch.no_grad()
def follow(target: Policy, policy: Policy, decay: float) -> None:
    """target <- decay target + (1 - decay) policy, all parameters, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(policy.parameters()), 1 - decay)


@torch.no_grad()
def _values(target: Policy, state: PolicyState, trajectory: Trajectory) -> Tensor:
    _, outputs, _ = target.unroll(trajectory.observations, trajectory.actions, state)
    return target.values.mean(_at_least_float32(outputs))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
