"""Copies of the real environment in which a policy is rolled out as if they were imagined.

A stored frame is no place to start from, for the state of the game behind it is not stored. So the copies live on: each
rollout begins where the last one left them, with a policy that is burnt in on their own last frames, and a copy whose
episode has ended begins the next one. All begin anew in every epoch, with seeds that follow from the run's seed, the
epoch and their index: a run that is resumed needs no state of theirs.

Shapes: B copies, T steps of the environment in a rollout, n frames of the burn-in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenworlds.actor_critic import PolicyState, Trajectory
from tokenworlds.agents.base import Agent
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.world import World
from tokenworlds.envs import Observation, VectorEnvironment
from tokenworlds.envs.vector.members import Factory
from tokenworlds.rng import derive_seed
from tokenworlds.world_models.base import StepNoise


@dataclass
class Past:
    """The last frames before the current ones; ``mask`` is false where they are of an earlier episode."""

    inputs: Tensor  # of the policy, (B, n, ...)
    actions: Tensor  # (B, n, ...)
    mask: Bool[Tensor, "B n"]


class EnvironmentCopies(World):
    """Rewards are reduced to their sign, as the world model predicts them. An episode ends within a rollout as an
    imagined one does: rewards behind the end do not count for what was done before it, and the policy's memory goes on.

    Args:
        agent: whose policy acts, on frames that have passed its tokenizer.
        factory: makes one environment.
        count: how many copies.
        burn_in: frames.
        workers: as of ``VectorEnvironment``.
    """

    def __init__(
        self, agent: Agent, factory: Factory, count: int, burn_in: int, seed: int, workers: bool | None = None
    ) -> None:
        self.agent, self.policy = agent, agent.policy
        self.count, self.burn_in, self.seed = count, burn_in, seed
        self.steps = 0  # of all copies together, so far
        self._factory, self._workers = factory, workers
        self._envs: VectorEnvironment | None = None  # made when they are needed
        self._inputs: Tensor
        self._past: Past

    # Where batches come from (``methods.component.Data``)

    def refresh(self, epoch: int) -> None:
        """Begin anew."""
        if self._envs is None:
            self._envs = VectorEnvironment([self._factory] * self.count, self._workers)
        seeds = [derive_seed(self.seed, f"oracle/{epoch}/{index}") % 2**31 for index in range(self.count)]
        self._inputs = self._observe(self._envs.reset(seeds))
        none = torch.from_numpy(self._envs.spec.actions.random(np.random.default_rng(0), self.count)[:, None][:, :0])
        self._past = Past(
            self._inputs[:, None][:, :0],
            none.to(self._inputs.device),
            torch.zeros(self.count, 0, dtype=torch.bool, device=self._inputs.device),
        )

    def state(self) -> dict[str, Tensor]:
        return {"steps": torch.tensor(self.steps)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.steps = int(tensors["steps"])

    def roll(self, noise: ImaginationNoise) -> tuple[PolicyState, Trajectory]:
        """The policy's state before a rollout, and the rollout."""
        past = self._past
        state = self.policy.burn_in(past.inputs, past.actions, past.mask)
        trajectory = imagine(self, None, state, noise)
        ends = trajectory.terminations.bool()
        goes_on = ends.flip(1).cumsum(dim=1).flip(1) == 0  # whether no end is at a step or behind it
        parts = (
            (past.inputs, trajectory.observations[:, :-1]),
            (past.actions, trajectory.actions[:, :-1]),
            (past.mask & goes_on[:, :1], goes_on),
        )
        kept = min(self.burn_in, past.mask.shape[1] + ends.shape[1])
        self._past = Past(*(torch.cat(part, dim=1)[:, part[0].shape[1] + part[1].shape[1] - kept :] for part in parts))
        return state, trajectory

    # The world of a rollout; its state is the current policy input

    def start(self, context: None) -> Tensor:
        return self._inputs

    def first_input(self, context: None) -> Tensor:
        return self._inputs

    def observe_imagined(self, state: Tensor) -> Tensor:
        return state

    def step(
        self, state: Tensor, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[Tensor, Float[Tensor, "B"], Int[Tensor, "B"]]:
        assert self._envs is not None
        observations, rewards, ends, _ = self._envs.step(actions.cpu().numpy())
        self.steps += self.count
        if ends.any():
            observations = self._envs.reset()  # those that have ended
        self._inputs, device = self._observe(observations), actions.device
        return self._inputs, torch.from_numpy(np.sign(rewards)).to(device), torch.from_numpy(ends).long().to(device)

    def _observe(self, observations: Observation) -> Tensor:
        device: Any = self.policy.actor.weight.device
        return self.agent.observe({name: torch.from_numpy(values).to(device) for name, values in observations.items()})
