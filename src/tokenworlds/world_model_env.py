"""A trained world model as an environment of Gymnasium's, in which other libraries train (docs/world_model_env.md).

``tokenworlds.envs`` offers the two classes; ``gymnasium.make`` finds them as
``tokenworlds.world_model_env:tokenworlds/WorldModel-v0``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from tokenworlds.agents.actor import AgentActor
from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
from tokenworlds.envs import EnvironmentFactory, ImageSpec, ModalitySpec, VectorEnvironment
from tokenworlds.envs.spec import action_space, observation_space
from tokenworlds.episodes import Episode, list_episodes
from tokenworlds.episodes import load as load_episode
from tokenworlds.errors import UserError, excerpt
from tokenworlds.files import shortened
from tokenworlds.inference.arrays import check_temperature, check_whole
from tokenworlds.loading import TrainedAgent, load
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.pictures import to_bytes
from tokenworlds.training.collector import Actor, Collector, RandomActor
from tokenworlds.world_models.base import StepNoise

RENDER_MODES = ["rgb_array"]
Arrays = Any  # of an observation: modality -> array, or the array of the one modality that is asked for


class Contexts(ABC):
    """Where imagined episodes begin."""

    @abstractmethod
    def draw(self, trained: TrainedAgent, generator: np.random.Generator) -> Segments:
        """One segment of ``agent.context_frames`` steps on the agent's device, whose last frame is the first of an
        imagined episode; padded on the left where there are not as many."""

    def close(self) -> None:  # noqa: B027, nothing to release is the usual case
        """Release what ``draw`` has opened. May be called twice, and ``draw`` again after it."""


class PlayedContexts(Contexts):
    """Beginnings of episodes in the real test environment, which the trained agent plays.

    Args:
        warm_up: up to so many steps are played beyond those that a context needs, a uniform number for each context.
        is_random: play uniform random actions instead.
    """

    def __init__(self, warm_up: int = 0, *, is_random: bool = False) -> None:
        self.warm_up, self.is_random = check_whole("warm_up", warm_up, 0), is_random
        self._real: VectorEnvironment | None = None
        self._factory: EnvironmentFactory | None = None

    def draw(self, trained: TrainedAgent, generator: np.random.Generator) -> Segments:
        factory = EnvironmentFactory(trained.config.task, trained.config.environment.test)
        if factory != self._factory:
            self.close()
        if self._real is None:
            self._real, self._factory = VectorEnvironment([factory], workers=False), factory
        settings = replace(trained.config.collection.test, num_envs=1, final_observation=False)
        streams = RandomStreams(int(generator.integers(2**63)), trained.device)
        length = trained.agent.context_frames
        steps = length + int(generator.integers(self.warm_up + 1))
        buffer = ReplayBuffer(trained.spec, steps, trained.device)
        policy = streams.torch("policy")
        actor: Actor = (
            RandomActor(trained.spec.actions, policy) if self.is_random else AgentActor(trained.agent, settings, policy)
        )
        Collector(self._real, buffer, settings, streams, "contexts").collect(actor, steps=steps)
        lengths = [buffer.episode_length(index) for index in range(buffer.num_episodes)]
        episode = max(range(len(lengths)), key=lambda index: (lengths[index] >= length, index))
        return _ending_at(buffer, episode, lengths[episode], length)

    def close(self) -> None:
        if self._real is not None:
            self._real.close()
            self._real = None


class RecordedContexts(Contexts):
    """Frames of recorded episodes, which are read at once: uniform ones of uniform episodes.

    Args:
        folder: with files of ``tokenworlds.episodes``, such as ``media/episodes/train`` of a run.

    Raises:
        UserError: there are none, or one is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.episodes = [episode for path in list_episodes(self.folder) if len(episode := load_episode(path))]
        if not self.episodes:
            raise UserError(f"there are no episodes in {shortened(self.folder)}; give a folder of media/episodes.")
        self._checked: TrainedAgent | None = None

    def draw(self, trained: TrainedAgent, generator: np.random.Generator) -> Segments:
        """As of the base class.

        Raises:
            UserError: an episode is of another environment, at the first call for an agent.
        """
        if self._checked is not trained:
            for episode in self.episodes:
                self._check(episode, trained)
            self._checked = trained
        episode = self.episodes[int(generator.integers(len(self.episodes)))]
        steps, length = len(episode), trained.agent.context_frames
        stop = int(generator.integers(min(length, steps), steps + 1))
        kept = slice(max(0, stop - length), stop)
        buffer = ReplayBuffer(trained.spec, length, trained.device)
        buffer.extend(
            {name: torch.from_numpy(episode.observations[name][kept]) for name in trained.spec.observation},
            torch.from_numpy(episode.actions[kept]),
            torch.from_numpy(episode.rewards[kept]),
            torch.zeros(kept.stop - kept.start),
            close=True,
        )
        return _ending_at(buffer, 0, kept.stop - kept.start, length)

    def _check(self, episode: Episode, trained: TrainedAgent) -> None:
        spec, task = trained.spec, trained.config.task
        if (played := episode.facts.get("task", task)) != task:
            raise UserError(
                f"{shortened(self.folder)} holds episodes of {played}, not of {task} as the run; give some of its own."
            )
        wanted = {name: part.shape for name, part in spec.observation.items()}
        found = {name: values.shape[1:] for name, values in episode.observations.items()}
        if any(found.get(name) != shape for name, shape in wanted.items()) or (
            episode.actions.shape[1:] != spec.actions.shape
        ):
            raise UserError(
                f"the episodes in {shortened(self.folder)} show {found}, not {wanted} as the run; give some of its own."
            )


def _ending_at(buffer: ReplayBuffer, episode: int, stop: int, length: int) -> Segments:
    """The steps [stop - length, stop) of an episode, (1, length), padded on the left."""
    episodes, starts = (torch.tensor([value], device=buffer.device) for value in (episode, stop - length))
    return buffer.segments(episodes, starts, length)


class _Episodes:
    """Imagined episodes, one a row, each with its own random numbers: a row draws what it would draw alone."""

    def __init__(
        self,
        run: str | Path | TrainedAgent,
        num_rows: int,
        contexts: Contexts | None,
        max_episode_steps: int | None,
        memory: int | None,
        temperature: float,
        observation: str | None,
        device: str,
    ) -> None:
        trained = run if isinstance(run, TrainedAgent) else load(run, device)
        least = trained.agent.context_frames + 1
        memory = max(least, published_memory(trained.config)) if memory is None else memory
        check_whole("num_envs", num_rows)
        check_whole("memory", memory, least)  # the frames of the context and one
        if max_episode_steps is not None:
            check_whole("max_episode_steps", max_episode_steps)
        _require(
            isinstance(contexts, Contexts | None),
            f"contexts cannot be {excerpt(contexts)}: give PlayedContexts(), or RecordedContexts of that folder.",
        )
        known = trained.spec.observation
        _require(
            observation is None or observation in known,
            f"the run observes {', '.join(known)}, not {observation}; give one of these.",
        )
        self.trained, self.contexts, self.observation = trained, contexts or PlayedContexts(), observation
        self.max_episode_steps = max_episode_steps
        self._uniforms = [torch.Generator(trained.device) for _ in range(num_rows)]
        self._world = ImaginedWorld(trained.agent, self._uniforms[0], memory, check_temperature(temperature))
        self._elapsed = np.zeros(num_rows, dtype=np.int64)

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """That of the real environment, or the part of it that is asked for."""
        modalities = self.trained.spec.observation
        if self.observation is None:
            return observation_space(modalities)
        part = modalities[self.observation]
        if isinstance(part, ImageSpec):
            return gymnasium.spaces.Box(0, 255, (part.height, part.width, part.channels), np.uint8)
        return observation_space({self.observation: part})[self.observation]

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """That of the real environment."""
        return action_space(self.trained.spec.actions)

    def begin(self, generators: Mapping[int, np.random.Generator]) -> None:
        """New episodes in the rows that have a generator here; at first in all."""
        segments = []
        for row, generator in generators.items():
            self._uniforms[row].manual_seed(int(generator.integers(2**63)))
            segments.append(self.contexts.draw(self.trained, generator))
            self._elapsed[row] = 0
        joined = _concatenated(segments)
        if len(generators) == len(self._uniforms):
            self._world.begin(joined)
        else:
            self._world.replace(torch.tensor(list(generators), device=self.trained.device), joined)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, NDArray[Any]]]:
        """Rewards, terminations and truncations (B,), and what else is known of the step (B, ...)."""
        if self._world.state is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step.")
        numbers = 2 + self.trained.agent.num_draws
        drawn = [torch.rand(numbers, generator=one, device=one.device) for one in self._uniforms]
        uniforms = torch.stack(drawn, dim=1)
        noise = StepNoise(uniforms[0], uniforms[1], uniforms[2:])
        step = self._world.step(torch.from_numpy(actions).to(self.trained.device), noise)
        self._elapsed += 1
        truncations = self._elapsed >= (self.max_episode_steps or np.inf)
        info = {"tokens": step.tokens.cpu().numpy(), "memory_restarted": np.full(len(drawn), step.has_restarted)}
        return step.rewards.float().cpu().numpy(), step.terminations.bool().cpu().numpy(), truncations, info

    def observations(self) -> Arrays:
        """The current observations (B, ...), in new memory."""
        seen = self._world.observations()
        parts = self.trained.spec.observation
        if self.observation is None:
            return {name: _array(seen[name], part) for name, part in parts.items()}
        part = parts[self.observation]
        chosen = _array(seen[self.observation], part)
        return np.ascontiguousarray(np.moveaxis(chosen, 1, -1)) if isinstance(part, ImageSpec) else chosen

    def pictures(self) -> NDArray[np.uint8]:
        """Pictures (B, Y, X, 3) of all modalities."""
        return to_bytes(self._world.pictures()).movedim(1, -1).cpu().numpy()


class WorldModelEnv(gymnasium.Env[Arrays, Any]):
    """The world model of a trained agent, whose spaces are those of the real environment.

    Rewards are those that the world model predicts for the environment, without an intrinsic part. ``info`` holds the
    ``tokens`` sampled in a step (S,), those of the next observation (or delta tokens), and whether the world model's
    memory had been dropped before it (``memory_restarted``). After ``reset(seed=...)`` all follows from the seed.

    Args:
        run: folder of a run, or what ``tokenworlds.load`` made of it.
        contexts: where episodes begin; by default at the beginning of those that the agent plays in the real test
            environment.
        max_episode_steps: steps after which an episode is truncated; by default it ends as the world model has learned.
        memory: frames that the world model remembers before it starts again from its last ones; by default as
            published (``ImaginedWorld``).
        temperature: of tokens and terminations; 0 for the most likely ones.
        observation: a modality, to observe it alone instead of the dictionary; a picture is then (Y, X, C).
        device: auto, cpu, cuda, cuda:N or mps; where a folder is given.
        render_mode: rgb_array, or None.

    Raises:
        UserError: the run cannot be loaded, or an argument is out of range.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 15}  # noqa: RUF012, as in Gymnasium

    def __init__(
        self,
        run: str | Path | TrainedAgent,
        *,
        contexts: Contexts | None = None,
        max_episode_steps: int | None = None,
        memory: int | None = None,
        temperature: float = 1.0,
        observation: str | None = None,
        device: str = "auto",
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = _known(render_mode)
        self._episodes = _Episodes(run, 1, contexts, max_episode_steps, memory, temperature, observation, device)
        self.observation_space, self.action_space = self._episodes.observation_space, self._episodes.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Begin an episode: its first observation, and no information. There are no options."""
        super().reset(seed=seed)
        self._episodes.begin({0: self.np_random})
        return _row(self._episodes.observations(), 0), {}

    def step(self, action: Any) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Observation, reward, terminated, truncated, info.

        Raises:
            ValueError: the action is none of the ``action_space``.
        """
        actions = _checked(action, self.action_space)[None]
        rewards, terminations, truncations, infos = self._episodes.step(actions)
        info = {name: values[0] for name, values in infos.items()}
        observation = _row(self._episodes.observations(), 0)
        return observation, float(rewards[0]), bool(terminations[0]), bool(truncations[0]), info

    def render(self) -> Any:
        """The current observation as a picture (Y, X, 3), all modalities side by side."""
        return None if self.render_mode is None else self._episodes.pictures()[0]

    def close(self) -> None:
        """Close the real environment that contexts were played in."""
        self._episodes.contexts.close()


class WorldModelVectorEnv(gymnasium.vector.VectorEnv[Arrays, NDArray[Any], NDArray[Any]]):
    """Imagined episodes side by side, in one step of the world model for all.

    Row i is ``WorldModelEnv`` after ``reset(seed=seed + i)``, with the same random numbers, until an episode begins
    anew: the states of a batch have one length, so that all rows then go on from their last frames (as many as
    imagination starts from), as when the memory is full. The more episodes, and the shorter, the less is remembered.

    Args:
        num_envs: episodes.
        autoreset_mode: when an episode that has ended begins anew: in the next step, whose action it ignores, or in the
            same, with the last observation in ``infos["final_obs"]``.

    The others are those of ``WorldModelEnv``.
    """

    def __init__(
        self,
        run: str | Path | TrainedAgent,
        num_envs: int,
        *,
        contexts: Contexts | None = None,
        max_episode_steps: int | None = None,
        memory: int | None = None,
        temperature: float = 1.0,
        observation: str | None = None,
        device: str = "auto",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        if autoreset_mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise UserError(
                "episodes begin anew by themselves; autoreset_mode must be AutoresetMode.NEXT_STEP or SAME_STEP of "
                f"gymnasium.vector, not {excerpt(autoreset_mode)}."
            )
        self.num_envs, self.render_mode, self._mode = num_envs, _known(render_mode), autoreset_mode
        self.metadata = WorldModelEnv.metadata | {"autoreset_mode": autoreset_mode}
        self._episodes = _Episodes(run, num_envs, contexts, max_episode_steps, memory, temperature, observation, device)
        self.single_observation_space = self._episodes.observation_space
        self.single_action_space = self._episodes.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [np_random()[0] for _ in range(num_envs)]
        self._ended: NDArray[np.bool_] = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Begin an episode in every row, with seeds of their own or ``seed`` + row. There are no options.

        Raises:
            ValueError: there are more or fewer seeds than rows.
        """
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one a row, but got {len(seed)}.")
        for row, own in enumerate(seed):
            if own is not None:
                self._generators[row] = np_random(own)[0]
        self._episodes.begin(dict(enumerate(self._generators)))
        self._ended = np.zeros(self.num_envs, dtype=bool)
        return self._episodes.observations(), {}

    def step(
        self, actions: Any
    ) -> tuple[Arrays, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Observations, rewards, terminations, truncations, infos, each (B, ...).

        Raises:
            ValueError: the actions are none of the ``action_space``.
        """
        rewards, terminations, truncations, infos = self._episodes.step(_checked(actions, self.action_space))
        if self._mode is AutoresetMode.NEXT_STEP:
            due = self._ended
            rewards, terminations, truncations = rewards * ~due, terminations & ~due, truncations & ~due
            self._ended = terminations | truncations
            information = _masked(infos, ~due)
        else:
            due = terminations | truncations
            information = _masked(infos, np.ones(self.num_envs, dtype=bool))
            last = self._episodes.observations() if due.any() else None
            for row in np.flatnonzero(due).tolist():
                final = {name: values[row] for name, values in infos.items()}
                information = self._add_info(information, {"final_obs": _row(last, row), "final_info": final}, row)
        if due.any():
            self._episodes.begin({row: self._generators[row] for row in np.flatnonzero(due).tolist()})
        return self._episodes.observations(), rewards.astype(np.float64), terminations, truncations, information

    def render(self) -> Any:
        """Pictures (Y, X, 3) of the current observations, one a row."""
        return None if self.render_mode is None else tuple(self._episodes.pictures())

    def close_extras(self, **kwargs: Any) -> None:
        """Close the real environment that contexts were played in."""
        self._episodes.contexts.close()


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise UserError(sentence)


def _known(render_mode: str | None) -> str | None:
    _require(render_mode in (None, *RENDER_MODES), f"render_mode is rgb_array or None, not {render_mode}.")
    return render_mode


def _checked(given: Any, space: gymnasium.Space[Any]) -> NDArray[Any]:
    """Actions in the space's type; a device would fail at those outside of it, and take all others down."""
    actions = np.asarray(given)
    if np.can_cast(actions.dtype, space.dtype or actions.dtype, "same_kind"):
        actions = actions.astype(space.dtype)
        if space.contains(actions):
            return actions
    raise ValueError(f"expected an action of {space}, but got {given!r}.")


def _array(values: Tensor, part: ModalitySpec) -> NDArray[Any]:
    return values.cpu().numpy().astype(part.dtype)


def _row(observations: Arrays, row: int) -> Arrays:
    if isinstance(observations, dict):
        return {name: values[row] for name, values in observations.items()}
    return observations[row]


def _masked(infos: dict[str, NDArray[Any]], known: NDArray[np.bool_]) -> dict[str, Any]:
    """In the form of Gymnasium's vectors: beside each entry the rows in which it is known."""
    return infos | {f"_{name}": known.copy() for name in infos}


def _concatenated(segments: Sequence[Segments]) -> Segments:
    first, *_ = segments
    observations = {name: torch.cat([some.observations[name] for some in segments]) for name in first.observations}
    others = (torch.cat([getattr(some, entry.name) for some in segments]) for entry in fields(Segments)[1:])
    return Segments(observations, *others)


gymnasium.register(
    "tokenworlds/WorldModel-v0",
    entry_point=f"{__name__}:{WorldModelEnv.__name__}",
    vector_entry_point=f"{__name__}:{WorldModelVectorEnv.__name__}",
)
