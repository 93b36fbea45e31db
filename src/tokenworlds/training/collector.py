"""Interaction with environments: a policy plays, steps go into a replay buffer (IRIS section 2.4; the published
collection loop)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from tokenworlds.actor_critic import PolicyState
from tokenworlds.agent import Agent
from tokenworlds.config import CollectionConfig
from tokenworlds.envs import DoneTracker, Observation, RecordedState, VectorEnvironment
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams


class Actor(Protocol):
    """Who chooses actions: a recurrent state that is made at the start of a call and zeroed when episodes end."""

    def start(self, buffer: ReplayBuffer, num_envs: int) -> Any: ...

    def act(self, observations: dict[str, Tensor], state: Any) -> tuple[Tensor, Any]: ...


class AgentActor:
    """The agent, sampling at a temperature."""

    def __init__(self, agent: Agent, config: CollectionConfig, generator: torch.Generator) -> None:
        self._agent, self._config, self._generator = agent, config, generator

    def start(self, buffer: ReplayBuffer, num_envs: int) -> PolicyState:
        """Zero, or warmed up by the last frames of the running episode (there is at most one: training plays a single
        environment)."""
        if not buffer.has_open_episode or self._config.burn_in == 0:
            return self._agent.policy.initial_state(num_envs)
        last = torch.tensor([buffer.num_episodes - 1], device=buffer.device)
        recent = buffer.segments(last, buffer.lengths[last] - self._config.burn_in, self._config.burn_in)
        frames = {name: values.squeeze(0) for name, values in recent.observations.items()}
        seen = self._agent.see(self._agent.encode(frames)).unsqueeze(0)
        return self._agent.policy.burn_in(seen, recent.actions, recent.mask)

    def act(self, observations: dict[str, Tensor], state: PolicyState) -> tuple[Tensor, PolicyState]:
        count = len(next(iter(observations.values())))
        uniforms = torch.rand(count, generator=self._generator, device=self._generator.device)
        return self._agent.act(observations, state, uniforms, self._config.temperature)


class RandomActor:
    """Uniform random actions: the baseline."""

    def __init__(self, num_actions: int, generator: torch.Generator) -> None:
        self._num_actions, self._generator = num_actions, generator

    def start(self, buffer: ReplayBuffer, num_envs: int) -> None:
        return None

    def act(self, observations: dict[str, Tensor], state: None) -> tuple[Tensor, None]:
        count = len(next(iter(observations.values())))
        return torch.randint(
            self._num_actions, (count,), generator=self._generator, device=self._generator.device
        ), None


@dataclass
class Collected:
    """Episodes that ended during a call, and the steps it added."""

    steps: int = 0
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


class Collector:
    """Plays ``envs`` and fills ``buffer``. One environment goes on across calls; several are played in whole rounds."""

    def __init__(
        self, envs: VectorEnvironment, buffer: ReplayBuffer, config: CollectionConfig, streams: RandomStreams, name: str
    ) -> None:
        self.envs, self.buffer, self.config = envs, buffer, config
        self._random = streams.numpy(f"{name}/epsilon")
        self._seeds = streams.numpy(f"{name}/seeds")
        self._rows: list[list[tuple[Observation, int, float, bool]]] = [[] for _ in range(envs.num_envs)]
        self._return = 0.0  # of the running training episode
        self.observations: Observation | None = None

    def collect(
        self,
        actor: Actor,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        tick: Callable[[int], None] = lambda n: None,
    ) -> Collected:
        """Play at least ``steps`` steps, or at least ``episodes`` episodes (rounded up to whole rounds of all
        environments)."""
        result = Collected()
        if self.observations is None:
            self.observations = self.envs.reset(
                [int(seed) for seed in self._seeds.integers(2**31, size=self.envs.num_envs)]
            )
        state = actor.start(self.buffer, self.envs.num_envs)
        tracker = DoneTracker(self.envs.num_envs)
        while (steps is not None and result.steps < steps) or (episodes is not None and len(result.returns) < episodes):
            actions, state = actor.act(self._to_device(), state)
            ends = self._step(self._explore(actions.cpu().numpy()))
            tracker.update(ends)
            result.steps += tracker.num_counted
            tick(len(result.returns) if episodes is not None else result.steps)
            if tracker.is_round_over():
                self._store(result, closed=True)
                self.observations = self.envs.reset()  # a new round for those that have gone on meanwhile
                tracker.reset()
                state = actor.start(self.buffer, self.envs.num_envs)
        self._store(result, closed=False)
        return result

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and the rest of where the environments stand."""
        tensors: dict[str, Tensor] = {}
        environments = []
        for index, recorded in enumerate(self.envs.state() if self.observations is not None else []):
            arrays = {key: value for key, value in recorded.items() if isinstance(value, np.ndarray)}
            tensors |= {f"{index}.{key}": torch.from_numpy(value.copy()) for key, value in arrays.items()}
            environments.append({key: value for key, value in recorded.items() if key not in arrays})
        return tensors, {"environments": environments, "return": self._return}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        recorded = [dict(entry) for entry in state["environments"]]
        for key, value in tensors.items():
            index, name = key.split(".")
            recorded[int(index)][name] = value.numpy()
        if recorded:
            self.observations = self.envs.restore(cast(list[RecordedState], recorded))
        self._return = state["return"]

    def _explore(self, actions: Any) -> Any:
        """With probability epsilon, one draw for all environments together, uniform random actions instead."""
        if self.config.epsilon > 0 and self._random.random() < self.config.epsilon:
            return self._random.integers(self.envs.spec.num_actions, size=len(actions))
        return actions

    def _step(self, actions: Any) -> Any:
        assert self.observations is not None
        seen = self.observations
        self.observations, rewards, ends, _ = self.envs.step(actions)
        for index, rows in enumerate(self._rows):
            if not (rows and rows[-1][3]):  # finished earlier in this round: surplus
                rows.append(
                    (
                        {name: values[index] for name, values in seen.items()},
                        int(actions[index]),
                        float(rewards[index]),
                        bool(ends[index]),
                    )
                )
        return ends

    def _store(self, result: Collected, *, closed: bool) -> None:
        for rows in self._rows:
            if not rows:
                continue
            observations, actions, rewards, ends = zip(*rows)
            self.buffer.extend(
                {name: torch.from_numpy(np.stack([o[name] for o in observations])) for name in observations[0]},
                torch.tensor(actions),
                torch.tensor(rewards),
                torch.tensor(ends),
                close=closed,
            )
            self._return += sum(rewards)
            if closed:
                result.returns.append(self._return)
                result.lengths.append(self.buffer.episode(-1)[1])
                self._return = 0.0
            rows.clear()

    def _to_device(self) -> dict[str, Tensor]:
        assert self.observations is not None
        return {
            name: torch.from_numpy(np.asarray(values)).to(self.buffer.device)
            for name, values in self.observations.items()
        }
