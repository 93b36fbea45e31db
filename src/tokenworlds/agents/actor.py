"""An agent that acts in a batch of environments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tokenworlds.actor_critic import PolicyState
from tokenworlds.agents.base import Agent
from tokenworlds.config import CollectionConfig
from tokenworlds.replay import ReplayBuffer


class AgentActor:
    """The agent, sampling at a temperature."""

    def __init__(self, agent: Agent, config: CollectionConfig, generator: torch.Generator) -> None:
        self._agent, self._config, self._generator = agent, config, generator

    @torch.no_grad()
    def start(self, buffer: ReplayBuffer, episodes: Sequence[int | None]) -> PolicyState:
        """Burnt in on the last frames of each environment's episode, padded on the left with black ones (which an agent
        may skip)."""
        length = self._config.burn_in
        are_new = all(episode is None for episode in episodes)
        if length == 0 or (are_new and not self._agent.pads_burn_in):
            return self.restart(len(episodes))
        rows = torch.zeros(len(episodes), length, dtype=torch.int64, device=buffer.device)
        for index, episode in enumerate(episodes):
            if episode is not None:
                last = buffer.episode_rows(episode)[-length:]
                rows[index, length - len(last) :] = last
        return self._agent.burn_in(buffer.read(rows))

    def restart(self, num_envs: int) -> PolicyState:
        return self._agent.policy.initial_state(num_envs)

    def act(self, observations: dict[str, Tensor], state: PolicyState) -> tuple[Tensor, PolicyState]:
        return self._agent.act(observations, state, self._generator, self._config.temperature)
