"""Roll a policy out inside a world model: the hottest loop of the project.

The rollout itself carries no gradient. The actor-critic loss unrolls the policy once more along the imagined
observations, all convolutions in one batch, and gets the same logits with gradients: so the loop here has static shapes
and no host synchronisation, and on a GPU it is captured whole as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenworlds.actor_critic import PolicyState, Trajectory
from tokenworlds.agents.base import Agent
from tokenworlds.agents.world import World
from tokenworlds.config import Compile
from tokenworlds.world_models.base import StepNoise


@dataclass
class ImaginationNoise:
    """Every draw of a rollout as a uniform in [0, 1): H policy steps, n samples per action, S symbols per observation,
    B trajectories."""

    actions: Float[Tensor, "H n B"]
    rewards: Float[Tensor, "H B"]
    terminations: Float[Tensor, "H B"]
    tokens: Float[Tensor, "H S B"]

    @classmethod
    def sample(
        cls, horizon: int, num_tokens: int, batch: int, generator: torch.Generator, n: int = 1
    ) -> ImaginationNoise:
        uniforms = torch.rand(horizon, n + 2 + num_tokens, batch, generator=generator, device=generator.device)
        return cls(uniforms[:, :n], uniforms[:, n], uniforms[:, n + 1], uniforms[:, n + 2 :])

    def step(self, t: int) -> StepNoise:
        return StepNoise(self.rewards[t], self.terminations[t], self.tokens[t])


@torch.no_grad()
def imagine(
    world: World, context: Any, policy_state: PolicyState, noise: ImaginationNoise, *, to_the_end: bool = False
) -> Trajectory:
    """A rollout from a context of ``world``: observe, act, predict reward, termination and next observation.

    The last of the H observations only bootstraps, unless the rollout goes ``to_the_end``: then reward and termination
    of the last action are predicted, too.
    """
    last, policy = len(noise.actions) - 1, world.policy
    state, actor_state = world.start(context), policy.actor_state(policy_state)
    steps: list[tuple[Tensor, Tensor]] = []
    outcomes: list[tuple[Tensor, Tensor]] = []
    for t in range(last + 1):
        observation = world.observe_imagined(state) if t else world.first_input(context)
        logits, actor_state = policy.act(observation, actor_state)
        actions = policy.actions.sample(logits, noise.actions[t])
        actor_state = policy.step_action(actions, actor_state)
        steps.append((observation, actions))
        if t < last or to_the_end:
            state, rewards, terminations = world.step(state, actions, noise.step(t), predict_observation=t < last)
            outcomes.append((rewards, terminations))
    return Trajectory(*(torch.stack(values, dim=1) for part in (steps, outcomes) for values in zip(*part)))


Rollout = Callable[[Any, PolicyState, ImaginationNoise], Trajectory]


class CapturedImagination:
    """``imagine`` as one CUDA graph: captured at the first call with ``batch`` trajectories, replayed with the
    arguments copied into its inputs. Batches of another size (the last of a pass over the replay) take the plain path.

    The graph reads the networks' parameters in place: updates in place take effect, replacing a parameter does not. The
    trajectory is the graph's own memory: it is valid until the next call.
    """

    WARM_UP = 2

    def __init__(self, agent: Agent, batch: int) -> None:
        self._batch = batch
        self._imagine = partial(imagine, agent)
        self._captured: tuple[torch.cuda.CUDAGraph, list[Tensor], Trajectory] | None = None

    @torch.no_grad()
    def __call__(self, context: Any, policy_state: PolicyState, noise: ImaginationNoise) -> Trajectory:
        if len(context[0]) != self._batch:
            return self._imagine(context, policy_state, noise)
        if self._captured is None:
            self._captured = self._capture(context, policy_state, noise)
        graph, inputs, trajectory = self._captured
        for target, source in zip(inputs, _tensors(context, policy_state, noise)):
            target.copy_(source)
        graph.replay()
        return trajectory

    def _capture(
        self, context: Any, policy_state: PolicyState, noise: ImaginationNoise
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Trajectory]:
        static = (
            type(context)(*(part if part is None else part.clone() for part in context)),
            *(type(part)(*(value.clone() for value in _parts(part))) for part in (policy_state, noise)),
        )
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose kernels and allocate workspaces before the capture
            for _ in range(self.WARM_UP):
                self._imagine(*static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            trajectory = self._imagine(*static)
        return graph, _tensors(*static), trajectory


def rollout_of(agent: Agent, batch: int, device: torch.device, compile: Compile) -> Rollout:
    """Imagination inside this agent; on a GPU captured as a CUDA graph for batches of this size."""
    if device.type == "cuda" and compile is Compile.auto:
        return CapturedImagination(agent, batch)
    return partial(imagine, agent)


def _parts(part: PolicyState | ImaginationNoise) -> list[Tensor]:
    return [getattr(part, field.name) for field in fields(part)]


def _tensors(context: Any, policy_state: PolicyState, noise: ImaginationNoise) -> list[Tensor]:
    return [part for part in (*context, *_parts(policy_state), *_parts(noise)) if part is not None]
