"""Delta-IRIS (Micheli, Alonso, Fleuret, ICML 2024): how tokenizer, world model and policy are composed, and in which
order they are trained.

Each epoch: collect steps with the policy, which observes real frames; train the tokenizer on transitions; train the
world model on sequences of frames, actions and delta tokens; train the policy purely in imagination. No gradient
crosses the border of a component. Hyper-parameters: ``pipeline/delta_iris/params.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module

import torch
from torch import Tensor

from tokenworlds.actor_critic import ActorCriticLosses, build_frame_policy, trajectory_losses, update_ema
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.agents.delta_cache import TransitionCache
from tokenworlds.agents.imagination import ImaginationNoise, rollout_of
from tokenworlds.config import ComponentTrainingConfig, DeltaRunConfig, Generator, Precision
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.losses import Losses
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.ops import precision
from tokenworlds.replay import Anchor, LeastUsedSampler, ReplayBuffer, Segments, traverse_chunks
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.delta import DeltaTokenizer, ReconstructionLosses
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.world_models.base import WorldModelLosses
from tokenworlds.world_models.delta import DeltaWorldModel

GENERATORS = {Generator.consistency: ("consistency", "ConsistencyLearner")}
"""Of continuous deltas: the module, imported when it is chosen, and the class that takes the place of ``Learner``."""


def build_agent(config: DeltaRunConfig, spec: EnvironmentSpec) -> DeltaAgent:
    """Freshly initialised networks over the environment's pictures."""
    return _learner(config).build_agent(config, spec)


def build_components(
    config: DeltaRunConfig, agent: DeltaAgent, buffer: ReplayBuffer, streams: RandomStreams
) -> list[ComponentTrainer]:
    """The components in the order in which an epoch trains them."""
    learner = _learner(config)(config, agent, buffer, streams)
    tokenizer = learner.tokenizer()
    return [tokenizer, learner.world_model(tokenizer), learner.actor_critic(tokenizer)]


def min_context(config: DeltaRunConfig) -> int:
    """Imagination may start from any frame."""
    return 0


def held_out(
    config: DeltaRunConfig,
    agent: DeltaAgent,
    buffer: ReplayBuffer,
    component: str,
    only: Iterable[int] | None = None,
) -> Iterator[Losses]:
    """Losses of tokenizer or world model on the steps of these episodes of ``buffer`` (by default all), batch after
    batch."""
    evaluation, training = config.evaluation, config.training
    if component == "tokenizer":
        length = training.tokenizer_sequence_length
        for some in traverse_chunks(buffer, evaluation.tokenizer_batch_size, length, only):
            yield agent.tokenizer.loss(some.observations["image"], some.actions, some.mask)
    else:
        learner = _learner(config)
        for some in learner.traverse(config, buffer, only):
            yield learner.held_out(agent, buffer.as_trained(some))


def _learner(config: DeltaRunConfig) -> type[Learner]:
    if config.model.world_model.generator is None:
        return Learner
    module, kind = GENERATORS[config.model.world_model.generator.kind]
    learner: type[Learner] = getattr(import_module(f"tokenworlds.methods.{module}"), kind)
    return learner


class Learner:
    """Makes the component trainers of one agent; they share the replay buffer.

    As published, the world model learns from delta tokens encoded in ``training.precision``, and imagination starts
    after delta tokens encoded in full precision, whatever the precision of the networks in imagination: near ties of
    the codes are resolved differently. Where both are the same tokens, they are cached once.
    """

    def __init__(self, config: DeltaRunConfig, agent: DeltaAgent, buffer: ReplayBuffer, streams: RandomStreams) -> None:
        self.agent, self.buffer, self.streams, self.training = agent, buffer, streams, config.training
        actor_critic = self.training.actor_critic
        self.autocast = precision.autocast(self.training.precision, buffer.device)
        self.transitions = self.past_transitions = self.cache(self.autocast)
        if self.training.precision is Precision.bf16:
            self.past_transitions = self.cache(precision.autocast(Precision.float32, buffer.device))
        self.imagination_autocast = precision.autocast(actor_critic.precision or self.training.precision, buffer.device)
        self.rollout = rollout_of(agent, actor_critic.batch_size, buffer.device, config.runtime.compile)

    @staticmethod
    def build_agent(config: DeltaRunConfig, spec: EnvironmentSpec) -> DeltaAgent:
        """Freshly initialised networks."""
        model, image = config.model, spec.image
        tokenizer = DeltaTokenizer(model.tokenizer, image.height, image.channels, spec.num_actions)
        world_model = DeltaWorldModel(
            model.world_model, model.backbone, image, tokenizer.num_tokens, tokenizer.vocab_size, spec.num_actions
        )
        policy, target = (build_frame_policy(model.policy, spec) for _ in range(2))
        return DeltaAgent(tokenizer, world_model, policy, target, config.training.actor_critic.burn_in + 1).eval()

    @staticmethod
    def traverse(config: DeltaRunConfig, buffer: ReplayBuffer, only: Iterable[int] | None) -> Iterator[Segments]:
        """What the world model is evaluated on. As published, the last step of an episode is left out where it would
        be alone in its chunk."""
        return traverse_chunks(buffer, config.evaluation.world_model_batch_size, config.training.sequence_length, only)

    @staticmethod
    def held_out(agent: DeltaAgent, segments: Segments) -> WorldModelLosses:
        """Losses of the world model."""
        frames, _, deltas = agent.context(segments)
        return _losses(agent, segments, frames, deltas)

    def cache(self, autocast: Callable[[], AbstractContextManager[None]]) -> TransitionCache:
        """Delta tokens of stored transitions, encoded under ``autocast``."""
        return TransitionCache(self.buffer, self.agent, autocast)

    def world_model_losses(self, segments: Segments, frames: Tensor, deltas: Tensor) -> WorldModelLosses:
        """Losses of an update."""
        return _losses(self.agent, segments, frames, deltas)

    def _sampler(self, name: str, batch: int, length: int, anchor: Anchor = "start") -> LeastUsedSampler:
        generator, exponent = self.streams.torch(f"replay/{name}"), self.training.sampling_exponent
        return LeastUsedSampler(self.buffer, batch, length, generator, anchor=anchor, exponent=exponent)

    def tokenizer(self) -> ComponentTrainer:
        """Reconstruct every frame from the one before, the action, and the tokens of the transition."""
        config, tokenizer = self.training.tokenizer, self.agent.tokenizer
        sequences = self._sampler("tokenizer", config.batch_size, self.training.tokenizer_sequence_length)

        def losses() -> ReconstructionLosses:
            segments = sequences.sample()
            with self.autocast():
                return tokenizer.loss(segments.observations["image"], segments.actions, segments.mask)

        return ComponentTrainer("tokenizer", tokenizer, config, losses, sequences)

    def world_model(self, tokenizer: ComponentTrainer) -> ComponentTrainer:
        """Predict delta tokens, rewards and terminations of segments."""
        config, length = self.training.world_model, self.training.sequence_length
        sequences = self._sampler("world_model", config.batch_size, length)

        def prepare(updates: int) -> None:
            self.transitions.refresh(tokenizer.updates, updates * _steps_per_update(config, length))

        def losses() -> WorldModelLosses:
            some = sequences.sample()
            frames = to_float(some.observations["image"])
            deltas = self.transitions.tokens(some, frames)
            with self.autocast():
                return self.world_model_losses(some, frames, deltas)

        return ComponentTrainer("world_model", self.agent.world_model, config, losses, sequences, prepare)

    def actor_critic(self, tokenizer: ComponentTrainer) -> ComponentTrainer:
        """Act in imagination after stored frames; the frames before them burn in policy and target. The last of the
        ``horizon`` + 1 policy steps only bootstraps. Delta tokens that the world model's trainer has cached in this
        epoch stay cached, if they are the same."""
        agent, config, world_model = self.agent, self.training.actor_critic, self.training.world_model
        starts = self._sampler("actor_critic", config.batch_size, config.burn_in + 1, "end")

        def prepare(updates: int) -> None:
            draws = updates * _steps_per_update(config, config.burn_in + 1)
            if self.past_transitions is self.transitions:
                per_update = _steps_per_update(world_model, self.training.sequence_length)
                draws = max(world_model.updates_per_epoch * per_update, draws)
            self.past_transitions.refresh(tokenizer.updates, draws)

        def losses() -> ActorCriticLosses:
            segments = starts.sample()
            frames, past_actions = to_float(segments.observations["image"]), segments.actions[:, :-1]
            generator = self.streams.torch("imagination")
            noise = ImaginationNoise.sample(config.horizon + 1, agent.num_draws, len(frames), generator)
            context = DeltaContext(frames, past_actions, self.past_transitions.tokens(segments, frames))
            with self.imagination_autocast():
                past = (frames[:, :-1], past_actions, torch.ones_like(past_actions, dtype=torch.bool))
                state, target_state = (policy.burn_in(*past) for policy in (agent.policy, agent.target))
                imagined = self.rollout(context, state, noise)
                result = trajectory_losses(agent.policy, imagined, state, config, (agent.target, target_state))
            update_ema(agent.target, agent.policy, config.target_decay)
            return result

        return ComponentTrainer("actor_critic", agent.policy, config, losses, starts, prepare)


def _losses(agent: DeltaAgent, segments: Segments, frames: Tensor, deltas: Tensor) -> WorldModelLosses:
    outcomes = segments.rewards, segments.terminations, segments.mask
    return agent.world_model.loss(frames, segments.actions, deltas, *outcomes)


def _steps_per_update(config: ComponentTrainingConfig, length: int) -> int:
    """Stored steps drawn for an optimiser step."""
    return config.gradient_accumulation * config.batch_size * length
