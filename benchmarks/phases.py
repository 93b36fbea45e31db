"""The phases of training of all methods, on random frames, with the batches of the reference measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.timing import Work
from tokenworlds import config, methods
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.agents.token import TokenAgent, TokenContext
from tokenworlds.config import PolicyInput, RuntimeConfig
from tokenworlds.envs import (
    ContinuousActions,
    DiscreteActions,
    EnvironmentFactory,
    EnvironmentSpec,
    ImageSpec,
    ModalitySpec,
    VectorEnvironment,
    VectorSpec,
)
from tokenworlds.methods import delta as delta_agent
from tokenworlds.methods import token as token_agent
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.ops import precision
from tokenworlds.replay import EpisodeSampler, ReplayBuffer, Segments, sample_from_end
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.tokenizers.pictures import to_float

FRAMES, EPISODES, ACTIONS = 20_000, 40, 18
BATCH = 16  # of imagination and the actor-critic update
SEGMENTS = {"iris": 4, "rem": 8, "m3": 4}  # of a world-model update
SMALL_REPLAY = 400  # frames of the phases that read them
MANY = 1_000_000  # draws, more than there are frames: so that all is cached


class Phases(ABC):
    """One agent at published size; a phase is made on demand."""

    def __init__(self, method: str, task: str, device: torch.device, overrides: Sequence[str]) -> None:
        self.config: Any = config.load([f"method={method}", f"task={task}", "scale=paper", *overrides])
        self.device = device
        precision.configure(self.config.training.precision, RuntimeConfig(device=str(device)))
        self.spec = self._spec()
        self.streams = RandomStreams(0, device)
        self.streams.seed_global()
        self.agent: Any = methods.get(method).build_agent(self.config, self.spec).to(device)
        self.generator = self.streams.torch("benchmark")
        self.replay = self._replay(SMALL_REPLAY, 4)

    @abstractmethod
    def all(self) -> dict[str, Callable[[], Work]]:
        """Phases by name: before the colon as in the reference measurements, behind it the kind of work."""

    def _spec(self) -> EnvironmentSpec:
        return EnvironmentSpec({"image": ImageSpec(64, 64)}, DiscreteActions(ACTIONS))

    def _replay(self, frames: int, episodes: int) -> ReplayBuffer:
        buffer, count = ReplayBuffer(self.spec, frames, self.device), frames // episodes
        for _ in range(episodes):
            observations = {name: self._random(part, count) for name, part in self.spec.observation.items()}
            actions = torch.from_numpy(self.spec.actions.random(self.streams.numpy("benchmark"), count))
            buffer.extend(observations, actions, torch.zeros(count), torch.zeros(count), close=True)
        return buffer

    def _random(self, spec: ModalitySpec, count: int) -> Tensor:
        """Observations: bytes, or numbers around zero."""
        shape = (count, *spec.shape)
        if spec.dtype.kind == "f":
            return torch.randn(shape, generator=self.generator, device=self.device)
        return torch.randint(256, shape, dtype=torch.uint8, generator=self.generator, device=self.device)

    def _update(self, trainer: ComponentTrainer | None, updates: int = 0) -> Work:
        """Optimiser steps of a component, prepared for that many of them."""
        assert trainer is not None
        trainer.prepare(updates)
        trainer.sampler.refresh(2)
        trainer.module.train()
        return trainer.update

    def act(self) -> Work:
        self.agent.eval()
        frame = self.replay.observations(torch.arange(1, 2, device=self.device))
        state = self.agent.policy.initial_state(1)
        return lambda: self.agent.act(frame, state, self.generator, 1.0)


class Uncached:
    """A token cache that holds nothing: every drawn frame is encoded and decoded at the draw."""

    def __init__(self, buffer: ReplayBuffer, agent: TokenAgent) -> None:
        self._buffer, self._agent = buffer, agent

    def refresh_tokens(self, tokenizer_updates: int) -> None: ...

    def refresh_inputs(self, tokenizer_updates: int, draws: int) -> None: ...

    def tokens(self, rows: Int[Tensor, "B T"]) -> Int[Tensor, "B T K"]:
        return self._agent.encode(self._buffer.observations(rows.flatten())).unflatten(0, rows.shape)

    def policy_inputs(self, rows: Int[Tensor, "B T"]) -> Tensor:
        return self._agent.policy_input(self.tokens(rows).flatten(0, 1)).unflatten(0, rows.shape)


class TokenPhases(Phases):
    """IRIS, REM, and M3 on Atari."""

    def __init__(
        self, method: str, device: torch.device, overrides: Sequence[str] = (), task: str = "atari/Breakout"
    ) -> None:
        sizes = {"tokenizer": 32, "world_model": SEGMENTS[method], "actor_critic": BATCH}
        batches = [f"training.{name}.batch_size={size}" for name, size in sizes.items()]
        super().__init__(method, task, device, ["model.tokenizer.perceptual=none", *batches, *overrides])
        self.learner = token_agent.Learner(self.config, self.agent, self.replay, self.streams)
        self.cached, self.uncached = self.learner.cache, Uncached(self.replay, self.agent)
        self.tokenizer = self.learner.tokenizer() if self.agent.tokenizer.learns else None

    def all(self) -> dict[str, Callable[[], Work]]:
        burn_in = "encoded and decoded" if self.config.model.policy.input is PolicyInput.pixels else "encoded"
        return {
            "tokenizer_update": lambda: self._update(self.tokenizer),
            "tokenizer_update_lpips": self.tokenizer_update_lpips,
            "world_model_update: frames encoded": lambda: self.world_model_update(is_cached=False),
            "world_model_update: tokens cached": lambda: self.world_model_update(is_cached=True),
            f"imagination: burn-in {burn_in}": lambda: self.imagination(is_cached=False),
            "imagination: burn-in cached": lambda: self.imagination(is_cached=True),
            "imagination_no_burn_in": lambda: self.imagination(is_cached=False, burn_in=0),
            f"behaviour_update: burn-in {burn_in}": lambda: self.behaviour_update(is_cached=False),
            "behaviour_update: burn-in cached": lambda: self.behaviour_update(is_cached=True),
            "perception: 100 frames into the cache": self.perceive,
            "act": self.act,
            "replay_sample: frames as floats": lambda: self.replay_sample(4, to_float),
            "replay_sample_full: frames as floats": lambda: self.replay_sample(64, to_float),
            "replay_sample_full: frames as bytes": lambda: self.replay_sample(64, lambda frames: frames),
            "replay_sample_full: what an update reads": lambda: self.replay_sample(64, None),
            "env_step_300": self.env_steps,
        }

    def tokenizer_update_lpips(self) -> Work:
        update, part = self._update(self.tokenizer), self.agent.tokenizer.part("image")
        lpips = LPIPS().to(self.device)  # random weights cost the same as trained ones

        def work() -> object:
            part.lpips = lpips
            result = update()
            part.lpips = None
            return result

        return work

    def _use_cache(self, is_cached: bool) -> None:
        self.learner.cache = self.cached if is_cached else self.uncached  # type: ignore[assignment]

    def world_model_update(self, *, is_cached: bool) -> Work:
        self._use_cache(is_cached)
        return self._update(self.learner.world_model(self.tokenizer))

    def behaviour_update(self, *, is_cached: bool) -> Work:
        self._use_cache(is_cached)
        return self._update(self.learner.actor_critic(self.tokenizer), MANY)

    def imagination(self, *, is_cached: bool, burn_in: int | None = None) -> Work:
        """The rollout behind the policy's burn-in, whose frames are encoded and decoded, or cached."""
        self._use_cache(is_cached)
        cache, settings = self.learner.cache, self.config.training.actor_critic
        cache.refresh_inputs(0, MANY)
        context, before = self.agent.context_frames, settings.burn_in if burn_in is None else burn_in
        policy = self.agent.eval().policy

        def work() -> object:
            some = sample_from_end(self.replay, BATCH, max(before + 1, context), self.generator)
            past = slice(-1 - before, -1)
            state = policy.burn_in(cache.policy_inputs(some.rows[:, past]), some.actions[:, past], some.mask[:, past])
            noise = ImaginationNoise.sample(
                settings.horizon, self.agent.num_tokens, BATCH, self.generator, policy.actions.draws
            )
            start = TokenContext(cache.tokens(some.rows[:, -context:]), some.actions[:, -context:-1])
            return self.learner.rollout(start, state, noise)

        return work

    def perceive(self) -> Work:
        """Filling the cache of the phases above: at published size once an epoch, 500 frames an update at the end of a
        run."""
        uncached = Uncached(self._replay(100, 1), self.agent)
        return lambda: uncached.policy_inputs(torch.arange(1, 101, device=self.device).view(5, 20))

    def replay_sample(self, batch: int, convert: Callable[[Tensor], Tensor] | None) -> Work:
        """A world-model batch. The original makes floats of frames; here an update reads tokens by row, no frames."""
        replay, length = self._replay(FRAMES, EPISODES), self.config.training.sequence_length
        tokens = torch.randint(512, (FRAMES + 1, self.agent.num_tokens), device=self.device)

        def work() -> object:
            some = EpisodeSampler(replay, batch, length, self.generator).sample(with_observations=convert is not None)
            return convert(some.observations["image"]) if convert else tokens[some.rows]

        return work

    def env_steps(self) -> Work:
        factory = EnvironmentFactory("atari/Breakout", self.config.environment.train)
        envs = VectorEnvironment([factory], workers=False)
        envs.reset([0])
        actions = self.streams.numpy("actions")

        def work() -> object:
            for _ in range(300):
                result = envs.step([int(actions.integers(envs.spec.num_actions))])
                if envs.finished.all():
                    envs.reset()
            return result

        return work


class UncachedTransitions:
    """A transition cache that holds nothing: every drawn transition is encoded at the draw."""

    def __init__(self, agent: DeltaAgent) -> None:
        self._agent = agent

    def refresh(self, tokenizer_updates: int, draws: int) -> None: ...

    def tokens(self, segments: Segments, frames: Tensor) -> Tensor:
        return self._agent.tokens(frames, segments.actions[:, :-1])


class DeltaPhases(Phases):
    """Delta-IRIS, with the settings of one of its benchmarks."""

    agent: DeltaAgent

    def __init__(self, task: str, device: torch.device, overrides: Sequence[str] = ()) -> None:
        sizes = {"tokenizer": 2, "world_model": 4, "actor_critic": BATCH}
        batches = [f"training.{name}.batch_size={size}" for name, size in sizes.items()]
        formats = ["training.precision=float32", "training.actor_critic.precision=float32"]
        super().__init__("delta_iris", task, device, [*batches, *formats, *overrides])
        self.learner = delta_agent.Learner(self.config, self.agent, self.replay, self.streams)
        self.cached, self.uncached = self.learner.transitions, UncachedTransitions(self.agent)
        self.tokenizer = self.learner.tokenizer()

    def all(self) -> dict[str, Callable[[], Work]]:
        return {
            "tokenizer_update": lambda: self._update(self.tokenizer),
            "world_model_update: transitions encoded": lambda: self.world_model_update(is_cached=False),
            "world_model_update: delta tokens cached": lambda: self.world_model_update(is_cached=True),
            "imagination: transitions encoded": lambda: self.imagination(is_cached=False),
            "imagination: delta tokens cached": lambda: self.imagination(is_cached=True),
            "behaviour_update: transitions encoded": lambda: self.behaviour_update(is_cached=False),
            "behaviour_update: delta tokens cached": lambda: self.behaviour_update(is_cached=True),
            "act": self.act,
        }

    def world_model_update(self, *, is_cached: bool) -> Work:
        self._use_cache(is_cached)
        return self._update(self.learner.world_model(self.tokenizer), MANY)

    def behaviour_update(self, *, is_cached: bool) -> Work:
        self._use_cache(is_cached)
        return self._update(self.learner.actor_critic(self.tokenizer), MANY)

    def _use_cache(self, is_cached: bool) -> None:
        cache: Any = self.cached if is_cached else self.uncached
        self.learner.transitions = self.learner.past_transitions = cache

    @torch.no_grad()
    def imagination(self, *, is_cached: bool) -> Work:
        """The rollout behind the burn-in, and the target network's values along it."""
        self._use_cache(is_cached)
        settings, agent, transitions = self.config.training.actor_critic, self.agent.eval(), self.learner.transitions
        transitions.refresh(0, MANY)

        @torch.no_grad()
        def work() -> object:
            some = sample_from_end(self.replay, BATCH, settings.burn_in + 1, self.generator)
            past = some.steps(slice(None, -1))
            inputs = to_float(past.observations["image"])
            state, target_state = (net.burn_in(inputs, past.actions, past.mask) for net in (agent.policy, agent.target))
            noise = ImaginationNoise.sample(settings.horizon + 1, agent.num_tokens, BATCH, self.generator)
            frames, past_actions = to_float(some.observations["image"]), some.actions[:, :-1]
            context = DeltaContext(frames, past_actions, transitions.tokens(some, frames))
            trajectory = self.learner.rollout(context, state, noise)
            return agent.target.unroll(trajectory.observations, trajectory.actions, target_state)

        return work


class VectorPhases(TokenPhases):
    """M3 on vectors, with the settings of DeepMind Control: 24 numbers and 6 actions, as of the walker."""

    def __init__(self, device: torch.device, overrides: Sequence[str] = ()) -> None:
        super().__init__("m3", device, overrides, task="dmc/walker-walk")

    def _spec(self) -> EnvironmentSpec:
        return EnvironmentSpec({"vector": VectorSpec(24)}, ContinuousActions(6))

    def all(self) -> dict[str, Callable[[], Work]]:
        return {
            "world_model_update: vectors encoded": lambda: self.world_model_update(is_cached=False),
            "world_model_update: tokens cached": lambda: self.world_model_update(is_cached=True),
            "imagination: burn-in encoded": lambda: self.imagination(is_cached=False),
            "imagination: burn-in cached": lambda: self.imagination(is_cached=True),
            "behaviour_update: burn-in encoded": lambda: self.behaviour_update(is_cached=False),
            "behaviour_update: burn-in cached": lambda: self.behaviour_update(is_cached=True),
            "act": self.act,
        }


def build(agent: str, device: torch.device, overrides: Sequence[str] = ()) -> Phases:
    """The phases of one of ``AGENTS``."""
    if agent == "m3_dmc_vector":
        return VectorPhases(device, overrides)
    if agent.startswith("delta_iris"):
        return DeltaPhases(
            {"atari": "atari/Breakout", "crafter": "crafter/Reward"}[agent.split("_")[-1]], device, overrides
        )
    return TokenPhases(agent.removesuffix("_atari"), device, overrides)


AGENTS = ("iris", "rem", "delta_iris_atari", "delta_iris_crafter", "m3_atari", "m3_dmc_vector")
