"""A policy in one environment, or in several side by side."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenworlds.actor_critic import PolicyState
from tokenworlds.agents.actor import AgentActor
from tokenworlds.agents.base import Agent
from tokenworlds.config import CollectionConfig
from tokenworlds.envs import DiscreteActions, EnvironmentSpec
from tokenworlds.errors import UserError
from tokenworlds.inference.arrays import check_observations, check_seed, check_temperature, to_device
from tokenworlds.replay import ReplayBuffer, Segments


class Acting:
    """An agent with the recurrent state of its policy and its last frames, in as many rows as the first observation
    has.

    An episode begins as one of the evaluation: Delta-IRIS's policy with ``burn_in`` black frames, the others with none.

    Args:
        agent: whose policy acts.
        spec: of the environment.
        settings: its temperature and burn-in.
        device: of the agent.
    """

    def __init__(self, agent: Agent, spec: EnvironmentSpec, settings: CollectionConfig, device: torch.device) -> None:
        self._agent, self._spec, self._temperature, self._device = agent, spec, settings.temperature, device
        self._generator = torch.Generator(device)
        self._generator.seed()
        self._actor, self._blank = AgentActor(agent, settings, self._generator), ReplayBuffer(spec, 1, device)
        self.reset()

    def reset(self, rows: Any = None, seed: int | None = None) -> None:
        """As ``TrainedAgent.reset``."""
        number = None if seed is None else check_seed(seed)
        if rows is None:
            self._state: PolicyState | None = None
            self._ages = torch.zeros(0, dtype=torch.int64, device=self._device)  # frames of each row's episode
            self._past: deque[tuple[dict[str, Tensor], Tensor]] = deque(maxlen=self._agent.context_frames)
            self._is_batch = False
        if number is not None:
            self._generator.manual_seed(number)
        if rows is None or self._state is None:
            return
        begun = np.atleast_1d(np.asarray(rows))
        if begun.dtype != np.bool_ or begun.shape != self._ages.shape:
            raise UserError(
                f"rows are {begun.dtype} {begun.shape}; give a bool for each of the {len(self._ages)} rows of the last "
                "observation, or nothing to reset all."
            )
        mask = torch.from_numpy(begun).to(self._device)
        self._state = self._first(len(begun)).where(mask, self._state)
        self._ages[mask] = 0

    def _first(self, rows: int) -> PolicyState:
        return self._actor.start(self._blank, [None] * rows)

    def act(self, observation: Any, temperature: float | None = None) -> Any:
        """As ``TrainedAgent.act``."""
        heat = self._temperature if temperature is None else check_temperature(temperature)
        observations, leading = check_observations(self._spec, observation)
        if len(leading) > 1 or 0 in leading:
            raise UserError(f"the observations are {leading}; give one, or a batch of them with one dimension more.")
        rows = leading[0] if leading else 1
        if self._state is None:
            self._state, self._ages = self._first(rows), self._ages.new_zeros(rows)
        elif rows != len(self._ages):
            raise UserError(
                f"{rows} observations follow on {len(self._ages)}, each of which has its own memory; call reset before "
                "a batch of another size."
            )
        stacked = to_device(
            {name: values if leading else values[None] for name, values in observations.items()}, self._device
        )
        actions, self._state = self._agent.act(stacked, self._state, self._generator, heat)
        self._past.append((stacked, actions))
        self._ages, self._is_batch = self._ages + 1, bool(leading)
        taken = actions.cpu().numpy().copy()
        if leading:
            return taken
        return int(taken[0]) if isinstance(self._spec.actions, DiscreteActions) else taken[0]

    def recent(self) -> tuple[Segments, bool]:
        """The last frames (B, T, ...) with the actions between them, and whether they are a batch; rows that have begun
        later are padded on the left with black ones.

        Raises:
            UserError: a row has observed nothing since its reset.
        """
        if not len(self._ages) or int(self._ages.min()) == 0:
            raise UserError("nothing has been observed since the last reset; call act first, or give a context.")
        length = min(int(self._ages.max()), self._agent.context_frames)
        frames, actions = zip(*list(self._past)[-length:])
        observations = {name: torch.stack([one[name] for one in frames], dim=1) for name in frames[0]}
        mask = torch.arange(length, device=self._device) >= length - self._ages[:, None]
        segments = Segments.of_frames(observations, torch.stack(actions, dim=1), mask)
        return segments.map(lambda values: values * _like(mask, values)), self._is_batch


def _like(mask: Tensor, values: Tensor) -> Tensor:
    """The mask (B, T) with the dimensions and the type of (B, T, ...)."""
    return mask.view(*mask.shape, *[1] * (values.ndim - 2)).to(values.dtype)
