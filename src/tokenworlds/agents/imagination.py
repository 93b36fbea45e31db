"""Roll a policy inside a world model: the hottest loop of the project.

The rollout itself carries no gradient. The actor-critic loss runs the policy once more along the imagined frames, all
convolutions in one batch, and gets the same logits with gradients: so the loop here has static shapes and no host
synchronisation, and on a GPU it is captured whole as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tokenworlds.actor_critic import PolicyState, Trajectory
from tokenworlds.agents.base import Agent
from tokenworlds.config import Compile
from tokenworlds.world_models.base import StepNoise


@dataclass
class ImaginationNoise:
    """Every draw of a rollout as a uniform in [0, 1): H looks, n an action, S an observation, B trajectories."""

    actions: Float[Tensor, "H n B"]
    rewards: Float[Tensor, "H B"]
    ends: Float[Tensor, "H B"]
    tokens: Float[Tensor, "H S B"]

    @classmethod
    def draw(
        cls, horizon: int, num_tokens: int, batch: int, generator: torch.Generator, n: int = 1
    ) -> ImaginationNoise:
        uniforms = torch.rand(horizon, n + 2 + num_tokens, batch, generator=generator, device=generator.device)
        return cls(uniforms[:, :n], uniforms[:, n], uniforms[:, n + 1], uniforms[:, n + 2 :])

    def step(self, t: int) -> StepNoise:
        return StepNoise(self.rewards[t], self.ends[t], self.tokens[t])


@torch.no_grad()
def imagine(
    agent: Agent,
    context: tuple[Tensor, ...],
    policy_state: PolicyState,
    noise: ImaginationNoise,
    *,
    to_the_end: bool = False,
) -> Trajectory:
    """Behind a context, as ``agent.context`` gives it: look, act, predict reward, end and next observation. The last of
    the H looks only bootstraps, unless the rollout goes ``to_the_end``: then it also tells reward and end of the last
    action."""
    last, policy = len(noise.actions) - 1, agent.policy
    state, acting = agent.start(context), policy.acting(policy_state)
    looks: list[tuple[Tensor, Tensor]] = []
    told: list[tuple[Tensor, Tensor]] = []
    for t in range(last + 1):
        observation = agent.view(state)
        logits, acting = policy.decide(observation, acting)
        actions = policy.actions.sample(logits, noise.actions[t])
        acting = policy.take(actions, acting)
        looks.append((observation, actions))
        if t < last or to_the_end:
            state, rewards, ends = agent.step(state, actions, noise.step(t), predict_observation=t < last)
            told.append((rewards, ends))
    return Trajectory(*(torch.stack(values, dim=1) for part in (looks, told) for values in zip(*part)))


class CapturedImagination:
    """``imagine`` as one CUDA graph: captured at the first call with ``batch`` trajectories, replayed with the
    arguments copied into its inputs. Batches of another size (the last of a pass over the replay) take the plain path.

    The graph reads the networks' parameters where they lie, so optimiser steps in place are seen; replacing a parameter
    is not. The trajectory is the graph's own memory: it is valid until the next call.
    """

    WARM_UP = 2

    def __init__(self, agent: Agent, batch: int) -> None:
        self._batch = batch
        self._imagine = partial(imagine, agent)
        self._captured: tuple[torch.cuda.CUDAGraph, list[Tensor], Trajectory] | None = None

    @torch.no_grad()
    def __call__(self, context: tuple[Tensor, ...], policy_state: PolicyState, noise: ImaginationNoise) -> Trajectory:
        if len(context[0]) != self._batch:
            return self._imagine(context, policy_state, noise)
        given = (*context, *_tensors(policy_state), *_tensors(noise))
        if self._captured is None:
            self._captured = self._capture(given, len(context))
        graph, inputs, trajectory = self._captured
        for target, source in zip(inputs, given):
            target.copy_(source)
        graph.replay()
        return trajectory

    def _capture(
        self, given: tuple[Tensor, ...], context: int
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Trajectory]:
        inputs = [value.clone() for value in given]
        draws = context + len(fields(PolicyState))
        static = (tuple(inputs[:context]), PolicyState(*inputs[context:draws]), ImaginationNoise(*inputs[draws:]))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose kernels and allocate workspaces before the capture
            for _ in range(self.WARM_UP):
                self._imagine(*static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            trajectory = self._imagine(*static)
        return graph, inputs, trajectory


Rollout = Callable[[tuple[Tensor, ...], PolicyState, ImaginationNoise], Trajectory]


def rollout_of(agent: Agent, batch: int, device: torch.device, compile: Compile) -> Rollout:
    """Imagination inside this agent; where there is a GPU, captured as a CUDA graph for batches of this size."""
    if device.type == "cuda" and compile is Compile.auto:
        return CapturedImagination(agent, batch)
    return partial(imagine, agent)


def _tensors(part: PolicyState | ImaginationNoise) -> list[Tensor]:
    return [getattr(part, field.name) for field in fields(part)]
