"""The agent's policy beside a game: it observes every frame, also while a human plays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenworlds.actor_critic import PolicyState
from tokenworlds.agents.base import Agent


@dataclass
class Player:
    """One policy in one game. A copy of it goes on by itself: states are never changed in place."""

    agent: Agent
    generator: torch.Generator
    value: float = 0.0
    """Of the current frame."""
    entropy: float = 0.0
    """Of the policy at the current frame, in nats."""

    def restart(self) -> None:
        """Forget everything."""
        self._state: PolicyState = self.agent.policy.initial_state(1)

    @torch.no_grad()
    def observe(self, observation: Tensor) -> None:
        """Read a policy input (1, ...)."""
        policy = self.agent.policy
        self._logits, values, self._state = policy(observation, self._state)
        self.value = float(policy.values.mean(values))
        self.entropy = float(policy.actions.entropy(self._logits))

    @torch.no_grad()
    def sample(self, temperature: float) -> Tensor:
        """An action (1, ...) for the current frame; at temperature 0 the most likely one."""
        return self.agent.policy.sample(self._logits, self.generator, float(temperature))

    @torch.no_grad()
    def observe_action(self, action: Tensor) -> None:
        """Read the action that was taken, whoever chose it."""
        self._state = self.agent.policy.observe_action(action, self._state)
