"""Collection: a policy acts in environments, the steps are stored in a replay buffer (IRIS section 2.4; the published
collection loop)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from tokenworlds.config import CollectionConfig
from tokenworlds.envs import (
    ActionSpec,
    ContinuousActions,
    DiscreteActions,
    MultiDiscreteActions,
    Observation,
    RecordedState,
    VectorEnvironment,
)
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams


class Actor(Protocol):
    """Chooses actions, with a recurrent state."""

    def start(self, buffer: ReplayBuffer, episodes: Sequence[int | None]) -> Any:
        """The state at the start of a call; each environment is within an episode of the buffer, or at the beginning of
        one (None)."""

    def restart(self, num_envs: int) -> Any:
        """The state at the beginning of a new round of episodes."""

    def act(self, observations: dict[str, Tensor], state: Any) -> tuple[Tensor, Any]: ...


class RandomActor:
    """Uniform random actions: the baseline."""

    def __init__(self, actions: ActionSpec, generator: torch.Generator) -> None:
        self._actions, self._generator = actions, generator

    def start(self, buffer: ReplayBuffer, episodes: Sequence[int | None]) -> None:
        return None

    def restart(self, num_envs: int) -> None:
        return None

    def act(self, observations: dict[str, Tensor], state: None) -> tuple[Tensor, None]:
        count = len(next(iter(observations.values())))
        options: dict[str, Any] = {"generator": self._generator, "device": self._generator.device}
        match self._actions:
            case DiscreteActions(count=choices):
                return torch.randint(choices, (count,), **options), None
            case MultiDiscreteActions(counts=counts):
                return torch.stack([torch.randint(choices, (count,), **options) for choices in counts], dim=1), None
            case ContinuousActions(size=size):
                return 2 * torch.rand(count, size, **options) - 1, None


@dataclass
class EpisodeStats:
    """Episodes that ended during a call, and the steps it added."""

    steps: int = 0
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    achievements: list[list[str]] = field(default_factory=list)  # unlocked in each episode, where there are any


@dataclass
class _Member:
    """One environment in the running round."""

    episode: int | None = None  # in the buffer, once something of it is stored
    total: float = 0.0  # its stored rewards
    achievements: list[str] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)  # not stored yet: what ``ReplayBuffer.extend`` takes
    last: Observation | None = None  # after these, if the episode is over


class Collector:
    """Plays ``envs`` in rounds and fills ``buffer``: all environments begin an episode together, those that have
    finished wait for the others. A round continues across calls; each call stores its steps before it returns.

    By configuration, a time limit closes an episode without a termination, and every finished episode is stored with
    its final observation."""

    def __init__(
        self,
        envs: VectorEnvironment,
        buffer: ReplayBuffer,
        config: CollectionConfig,
        streams: RandomStreams,
        name: str,
        truncation_is_end: bool = True,
    ) -> None:
        self.envs, self.buffer, self.config, self._truncation_is_end = envs, buffer, config, truncation_is_end
        self._random = streams.numpy(f"{name}/epsilon")
        self._seeds = streams.numpy(f"{name}/seeds")
        self._surplus = 0  # steps beyond those asked for so far
        self.observations: Observation | None = None
        self._members = [_Member() for _ in range(envs.num_envs)]

    def collect(
        self,
        actor: Actor,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        tick: Callable[[int], None] = lambda n: None,
    ) -> EpisodeStats:
        """Play at least ``steps`` steps, the surplus of earlier calls included, or at least ``episodes`` episodes
        (rounded up to whole rounds of all environments). ``tick`` gets their number so far."""
        stats = EpisodeStats()
        if self.observations is None:
            seeds = self._seeds.integers(2**31, size=self.envs.num_envs)
            self.observations = self.envs.reset([int(seed) for seed in seeds])
        missing = max(0, (steps or 0) - self._surplus)
        state = actor.start(self.buffer, [member.episode for member in self._members])
        while stats.steps < missing or (episodes is not None and len(stats.returns) < episodes):
            actions, state = actor.act(self._to_device(), state)
            stats.steps += self._step(self._explore(actions.cpu().numpy()))
            tick(len(stats.returns) if episodes is not None else stats.steps)
            if self.envs.finished.all():
                self._store()
                self._report(stats)
                self._members = [_Member() for _ in self._members]
                self.observations = self.envs.reset()
                state = actor.restart(self.envs.num_envs)
        self._store()
        self._surplus += 0 if steps is None else stats.steps - steps
        return stats

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Environments and round between two calls, for a checkpoint: arrays, and everything else."""
        tensors: dict[str, Tensor] = {}
        environments = []
        for index, recorded in enumerate(self.envs.state() if self.observations is not None else []):
            arrays = {key: value for key, value in recorded.items() if isinstance(value, np.ndarray)}
            tensors |= {f"{index}.{key}": torch.from_numpy(value.copy()) for key, value in arrays.items()}
            environments.append({key: value for key, value in recorded.items() if key not in arrays})
        members = [(member.episode, member.total, member.achievements) for member in self._members]
        return tensors, {"environments": environments, "members": members, "surplus": self._surplus}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any], compare: bool = True) -> None:
        """Go on in the same episodes; with ``compare`` they must show what they showed."""
        recorded = [entry if compare else entry | {"checksum": None} for entry in map(dict, state["environments"])]
        for key, value in tensors.items():
            index, name = key.split(".")
            recorded[int(index)][name] = value.numpy()
        if recorded:
            self.observations = self.envs.restore(cast(list[RecordedState], recorded))
        self._members = [_Member(*entry) for entry in state["members"]]
        self._surplus = state["surplus"]

    def _explore(self, actions: Any) -> Any:
        """With probability epsilon, one draw for all environments together, uniform random actions instead."""
        if self.config.epsilon > 0 and self._random.random() < self.config.epsilon:
            return self.envs.spec.actions.random(self._random, len(actions))
        return actions

    def _step(self, actions: Any) -> int:
        """One step of the environments that have not finished; their number."""
        assert self.observations is not None
        before, running = self.observations, np.flatnonzero(~self.envs.finished).tolist()
        self.observations, rewards, ends, infos = self.envs.step(actions)
        for index in running:
            member, is_over = self._members[index], bool(ends[index])
            is_termination = is_over and (self._truncation_is_end or not infos[index].get("truncated"))
            reward = float(rewards[index])
            trained, is_lost = infos[index].get("trained", (reward, False))
            told = reward, is_termination, trained, is_termination or is_lost
            member.rows.append((_one(before, index), np.array(actions[index]), *told))
            if is_over:
                member.last = _one(self.observations, index)
                member.achievements = list(infos[index].get("achievements", ()))
        return len(running)

    def _store(self) -> None:
        """Store the steps since the last call."""
        for index, member in enumerate(self._members):
            if not member.rows:
                continue
            if member.episode is None:
                member.episode = self.buffer.num_episodes
            observations, actions, rewards, terminations, *trained = zip(*member.rows)
            final = member.last if self.config.final_observation else None
            self.buffer.extend(
                _tensors({name: np.stack([one[name] for one in observations]) for name in observations[0]}),
                torch.from_numpy(np.stack(actions)),
                torch.tensor(rewards),
                torch.tensor(terminations),
                trained=[torch.tensor(values) for values in trained],
                stream=index,
                close=member.last is not None,
                final=None if final is None else _tensors(final),
            )
            member.total += sum(rewards)
            member.rows.clear()

    def _report(self, stats: EpisodeStats) -> None:
        """Count all episodes of a round that is over."""
        for member in self._members:
            assert member.episode is not None
            stats.returns.append(member.total)
            stats.lengths.append(self.buffer.episode_steps(member.episode))
            stats.achievements.append(member.achievements)

    def _to_device(self) -> dict[str, Tensor]:
        assert self.observations is not None
        return {name: values.to(self.buffer.device) for name, values in _tensors(self.observations).items()}


def _one(observations: Observation, index: int) -> Observation:
    """The observation of one environment; a copy, since a view would keep those of all."""
    return {name: values[index].copy() for name, values in observations.items()}


def _tensors(observations: Observation) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.asarray(values)) for name, values in observations.items()}
