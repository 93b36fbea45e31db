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
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.actor_critic import PolicyState
from tokenworlds.agent import Agent
from tokenworlds.config import Compile
from tokenworlds.rng import sample_categorical
from tokenworlds.world_models import StepNoise


@dataclass
class ImaginationNoise:
    """Every draw of a rollout as a uniform in [0, 1): H steps, K tokens, B trajectories."""

    actions: Float[Tensor, "H B"]
    rewards: Float[Tensor, "H B"]
    ends: Float[Tensor, "H B"]
    tokens: Float[Tensor, "H K B"]

    @classmethod
    def draw(cls, horizon: int, num_tokens: int, batch: int, generator: torch.Generator) -> ImaginationNoise:
        uniforms = torch.rand(horizon, num_tokens + 3, batch, generator=generator, device=generator.device)
        return cls(uniforms[:, 0], uniforms[:, 1], uniforms[:, 2], uniforms[:, 3:])

    def step(self, t: int) -> StepNoise:
        return StepNoise(self.rewards[t], self.ends[t], self.tokens[t])


@dataclass
class Trajectory:
    """H imagined steps; observation t is what the policy saw when it chose action t."""

    observations: Float[Tensor, "B H *seen"]
    actions: Int[Tensor, "B H"]
    rewards: Float[Tensor, "B H"]
    ends: Int[Tensor, "B H"]


@torch.no_grad()
def imagine(
    agent: Agent, context: tuple[Tensor, ...], policy_state: PolicyState, noise: ImaginationNoise
) -> Trajectory:
    """Behind a context, as ``agent.context`` gives it: look, act, predict reward, end and next observation, H times;
    the last step predicts no observation."""
    horizon, policy = len(noise.actions), agent.policy
    state = agent.start(context)
    steps: list[tuple[Tensor, ...]] = []
    for t in range(horizon):
        observation = agent.view(state)
        logits, _, policy_state = policy(observation, policy_state)
        actions = sample_categorical(logits, noise.actions[t])
        policy_state = policy.remember(actions, policy_state)
        state, rewards, ends = agent.step(state, actions, noise.step(t), predict_observation=t < horizon - 1)
        steps.append((observation, actions, rewards, ends))
    return Trajectory(*(torch.stack(values, dim=1) for values in zip(*steps)))


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
