"""Consistency models in Delta-IRIS: a consistency model over continuous deltas in place of the quantiser and the
sequence model. Everything else is as in ``delta``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor

from tokenworlds.actor_critic import build_frame_policy
from tokenworlds.agents.consistency import ConsistencyAgent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.config import ConsistencyConfig, DeltaRunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.methods.delta import Learner
from tokenworlds.replay import ReplayBuffer, Segments, traverse_between
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.continuous_delta import ContinuousDeltaTokenizer
from tokenworlds.world_models.base import WorldModelLosses
from tokenworlds.world_models.consistency import schedules
from tokenworlds.world_models.consistency.schedules import Intervals
from tokenworlds.world_models.consistency.world_model import ConsistencyWorldModel, Draws


class Encoder:
    """Deltas of drawn transitions, encoded at every draw: those of all stored ones would fill the memory of a GPU (16
    KB each at the published size)."""

    def __init__(self, agent: ConsistencyAgent, autocast: Callable[[], AbstractContextManager[None]]) -> None:
        self._agent, self._autocast = agent, autocast

    def refresh(self, tokenizer_updates: int, draws: int) -> None:
        """Nothing is kept."""

    def tokens(self, segments: Segments, frames: Tensor) -> Tensor:
        with self._autocast():
            return self._agent.deltas(segments, frames)


class ConsistencyLearner(Learner):
    """Draws levels and noise for the world model from a stream of their own; there are more levels the more of the
    planned updates are done."""

    def __init__(self, config: DeltaRunConfig, agent: DeltaAgent, buffer: ReplayBuffer, streams: RandomStreams) -> None:
        super().__init__(config, agent, buffer, streams)
        self.generator = _generator(config)
        self.epochs = config.training.epochs
        counts = schedules.all_points(self.generator.first_intervals, self.generator.last_intervals)
        self.intervals = {count: Intervals.of(count, self.generator, buffer.device) for count in counts}

    @staticmethod
    def build_agent(config: DeltaRunConfig, spec: EnvironmentSpec) -> DeltaAgent:
        model, image = config.model, spec.image
        tokenizer = ContinuousDeltaTokenizer(model.tokenizer, image.height, image.channels, spec.num_actions)
        world_model = ConsistencyWorldModel(
            model.world_model, _generator(config), image, tokenizer.shape, spec.num_actions
        )
        policy, target = (build_frame_policy(model.policy, spec) for _ in range(2))
        burn_in = config.training.actor_critic.burn_in
        return ConsistencyAgent(tokenizer, world_model, policy, target, burn_in + 1).eval()

    @staticmethod
    def traverse(config: DeltaRunConfig, buffer: ReplayBuffer, only: Iterable[int] | None) -> Iterator[Segments]:
        """Every step that counts is scored once, behind the n - 1 that it is predicted from."""
        before = _generator(config).context_states - 1
        length = max(config.training.sequence_length, before + 3)
        return traverse_between(buffer, config.evaluation.world_model_batch_size, length, before, only)

    @staticmethod
    def held_out(agent: DeltaAgent, segments: Segments) -> WorldModelLosses:
        """With the most levels, and the same noise at any time and on every device."""
        frames, _, deltas = agent.context(segments)
        world_model, host = _world_model(agent), torch.device("cpu")
        intervals = Intervals.of(world_model.generator.last_intervals + 1, world_model.generator, host)
        draws = world_model.draw(len(frames), frames.shape[1], intervals, torch.Generator(host).manual_seed(0))
        return _losses(world_model, segments, frames, deltas, draws.to(frames.device))

    def cache(self, autocast: Callable[[], AbstractContextManager[None]]) -> Any:
        return Encoder(cast(ConsistencyAgent, self.agent), autocast)

    def world_model(self, tokenizer: ComponentTrainer) -> ComponentTrainer:
        self.trainer = super().world_model(tokenizer)
        self.planned = sum(map(self.trainer.updates_in, filter(self.trainer.is_active, range(1, self.epochs + 1))))
        return self.trainer

    def world_model_losses(self, segments: Segments, frames: Tensor, deltas: Tensor) -> WorldModelLosses:
        first, last = self.generator.first_intervals, self.generator.last_intervals
        intervals = self.intervals[schedules.points(self.trainer.updates, self.planned, first, last)]
        world_model, generator = _world_model(self.agent), self.streams.torch("consistency")
        draws = world_model.draw(len(frames), frames.shape[1], intervals, generator)
        return _losses(world_model, segments, frames, deltas, draws)


def _generator(config: DeltaRunConfig) -> ConsistencyConfig:
    found = config.model.world_model.generator
    assert found is not None
    return found


def _world_model(agent: DeltaAgent) -> ConsistencyWorldModel:
    return cast(ConsistencyWorldModel, agent.world_model)


def _losses(
    world_model: ConsistencyWorldModel, segments: Segments, frames: Tensor, deltas: Tensor, draws: Draws
) -> WorldModelLosses:
    outcomes = segments.rewards, segments.terminations, segments.mask
    return world_model.loss(frames, segments.actions, deltas, *outcomes, draws)
