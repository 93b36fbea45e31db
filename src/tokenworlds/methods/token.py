"""IRIS (Micheli, Alonso, Fleuret, ICLR 2023), REM (Cohen et al., ICML 2024) and M3 (Cohen et al., 2025): how tokenizer,
world model and policy are composed, and in which order they are trained.

Each epoch: collect steps with the policy; train the tokenizer on stored observations, where one of its parts learns;
train the world model on token sequences; train the policy purely in imagination. No gradient crosses the border of a
component. The methods differ in settings (backbone, decoding, tokenizer network, embeddings, policy input, sampling,
rewards): ``pipeline/<method>/params.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from tokenworlds import world_models
from tokenworlds.actor_critic import ActorCriticLosses, PolicyState, ReturnScale, Trajectory, trajectory_losses
from tokenworlds.actor_critic.token_policy import build_policy
from tokenworlds.agents.imagination import ImaginationNoise, rollout_of
from tokenworlds.agents.token import TokenAgent, TokenContext
from tokenworlds.agents.token_cache import TokenCache
from tokenworlds.config import ImaginationStart, Sampling, TokenRunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.losses import Losses
from tokenworlds.methods import learners
from tokenworlds.methods.component import ComponentTrainer, Data
from tokenworlds.ops import precision
from tokenworlds.replay import (
    SAMPLERS,
    EpisodeSampler,
    Observations,
    PrioritisedSampler,
    ReplayBuffer,
    Sampler,
    Segments,
    SegmentSampler,
    traverse,
)
from tokenworlds.replay.companions import Companions
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import observation
from tokenworlds.tokenizers.image import TokenizerLosses
from tokenworlds.tokenizers.trained import trained_part
from tokenworlds.world_models.base import WorldModelLosses
from tokenworlds.world_models.embeddings import action_tokens


def build_agent(config: TokenRunConfig, spec: EnvironmentSpec) -> TokenAgent:
    """Freshly initialised networks; an environment's spec decides the tokenizers and the layout of a block."""
    model, world = config.model, config.model.world_model
    quirks, tokens = config.quirks, action_tokens(spec.actions, world.tokenized_actions)
    tokenizer = observation.build(model.tokenizer, spec, tokens, quirks.perceptual_dropout)
    layout = tokenizer.layout
    backbone = world_models.build_backbone(model.decoding, model.backbone, world, layout)
    world_model = world_models.build(model.decoding, world, backbone, layout, spec.actions, tokenizer.coded, quirks)
    if quirks.identical_layers:
        backbone.repeat_first_layer()
    policy = build_policy(model.policy, spec, tokenizer, world.action_levels, quirks.burn_in_actions)
    return TokenAgent(tokenizer, world_model, policy, model.policy.input, world.context).eval()


def build_components(
    config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams
) -> list[ComponentTrainer]:
    """The components in the order in which an epoch trains them."""
    return learners.build(config.model.decoding, config, agent, buffer, streams).components()


def min_context(config: TokenRunConfig) -> int:
    """Steps of an episode before the first frame that imagination may start from."""
    return config.model.world_model.lead


def held_out(
    config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, component: str, only: Iterable[int] | None = None
) -> Iterator[Losses]:
    """Losses of tokenizer or world model on the steps of ``only`` these episodes (by default all), in batches."""
    evaluation, world, length = config.evaluation, config.model.world_model, config.training.sequence_length
    if component == "tokenizer":
        companions = Companions(buffer, agent.tokenizer.needs)
        for some in traverse(buffer, evaluation.tokenizer_batch_size, 1, episodes=only):
            yield agent.tokenizer.loss(*_frames(some, companions))
    else:
        again = max(world.unscored_blocks - 1, 0)  # steps that a chunk shares with the one before it
        for stored in traverse(buffer, evaluation.world_model_batch_size, length, world.unscored_blocks, only):
            some = buffer.as_trained(stored)
            given = some.actions, some.rewards, some.terminations, some.mask
            yield agent.world_model.loss(agent.tokens(some), *given, again)


class Learner:
    """Makes the component trainers of one agent; they share the replay buffer and the tokens of its frames."""

    def __init__(self, config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams) -> None:
        self.agent, self.buffer, self.streams = agent, buffer, streams
        self.model, self.training, self.quirks = config.model, config.training, config.quirks
        self.has_final_observations = config.collection.train.final_observation
        self.cache = TokenCache(buffer, agent)
        self.autocast = precision.autocast(self.training.precision, buffer.device)
        self.rollout = rollout_of(agent, self.training.actor_critic.batch_size, buffer.device, config.runtime.compile)

    def components(self) -> list[ComponentTrainer]:
        """In the order in which an epoch trains them."""
        tokenizer = self.tokenizers()
        return [*tokenizer, self.world_model(*tokenizer), self.actor_critic(*tokenizer)]

    def tokenizers(self) -> list[ComponentTrainer]:
        """Of the tokenizer; none where nothing of it is trained."""
        module = trained_part(self.agent.tokenizer, self.training.tokenizer.train)
        return [] if module is None else [self.tokenizer(module)]

    def tokenizer(self, module: nn.Module | None = None) -> ComponentTrainer:
        """Reconstruct single frames. ``module`` is the part of the tokenizer that is trained, by default all of it."""
        config, tokenizer = self.training.tokenizer, self.agent.tokenizer
        generator, companions = self.streams.torch("replay/tokenizer"), Companions(self.buffer, tokenizer.needs)
        frames = SAMPLERS[self.training.sampling](companions.steps, config.batch_size, 1, generator)

        def losses() -> TokenizerLosses:
            batch = _frames(frames.sample(), companions)
            with self.autocast():
                return tokenizer.loss(*batch)

        return ComponentTrainer("tokenizer", tokenizer if module is None else module, config, losses, frames)

    def world_model(self, tokenizer: ComponentTrainer | None = None) -> ComponentTrainer:
        """Predict tokens, rewards and terminations of segments after ``unscored_blocks``. The sampler gets the losses
        of each segment."""
        config, world_model = self.training.world_model, self.agent.world_model
        sequences = self._sequences(config.batch_size, self.model.world_model.unscored_blocks)

        def losses() -> WorldModelLosses:
            segments = sequences.sample(with_observations=False)
            tokens = self.cache.tokens(segments.rows)
            with self.autocast():
                found = world_model.loss(
                    tokens, segments.actions, segments.rewards, segments.terminations, segments.mask
                )
            assert found.segments is not None
            sequences.update_priorities(found.segments)
            return found

        def prepare(updates: int) -> None:
            self.cache.refresh_tokens(_updates(tokenizer))

        return ComponentTrainer("world_model", world_model, config, losses, sequences, prepare)

    def _sequences(self, batch: int, context: int) -> Sampler:
        """The world model's sampler. Batches are full where the members of an ensemble divide them."""
        training, has_members = self.training, self.model.world_model.curiosity.members > 0
        given = (self.buffer, batch, training.sequence_length, self.streams.torch("replay/world_model"))
        match training.sampling:
            case Sampling.episodes:
                return EpisodeSampler(*given, context=context)
            case Sampling.segments:
                return SegmentSampler(*given, context=context, drop_last=has_members)
            case Sampling.prioritised:
                fraction, lag = training.uniform_fraction, self.quirks.priority_lag
                return PrioritisedSampler(*given, context=context, uniform_fraction=fraction, lag=lag)

    def actor_critic(self, tokenizer: ComponentTrainer | None = None) -> ComponentTrainer:
        """Act in imagination after stored observations; those before them burn in the policy's state.

        Where final observations are stored, imagination starts one step before the end of a segment: nothing follows
        them. In published M3 the policy first observes the step after the last one that the world model has read.
        """
        config, policy, context = self.training.actor_critic, self.agent.policy, self.model.world_model.context
        is_legacy = self.quirks.imagination_start is ImaginationStart.legacy
        ahead = 1 if self.has_final_observations else 0
        starts = SAMPLERS[self.training.sampling](
            self.buffer,
            config.batch_size,
            config.burn_in + 1 + ahead,
            self.streams.torch("replay/actor_critic"),
            anchor="end",
            context=self.model.world_model.lead + ahead,
        )

        def prepare(updates: int) -> None:
            draws = updates * config.gradient_accumulation * config.batch_size * config.burn_in
            self.cache.refresh_inputs(_updates(tokenizer), draws)

        def roll() -> tuple[PolicyState, Trajectory]:
            segments = starts.sample(with_observations=False)
            noise = self.noise(len(segments.rows))
            past = segments.steps(slice(None, -1 if is_legacy else -1 - ahead))
            state = policy.burn_in(self.cache.policy_inputs(past.rows), past.actions, past.mask)
            tokens = self.cache.tokens(segments.rows[:, -context - ahead :])
            actions = segments.actions[:, -context - ahead : -1 - ahead]
            given = TokenContext(tokens[:, :context], actions, tokens[:, -1] if is_legacy else None)
            return state, self.rollout(given, state, noise)

        return self.behaviour(starts, roll, prepare)

    def noise(self, count: int) -> ImaginationNoise:
        """The random numbers of so many trajectories."""
        horizon, draws = self.training.actor_critic.horizon, self.agent.policy.actions.draws
        return ImaginationNoise.sample(horizon, self.agent.num_tokens, count, self.streams.torch("imagination"), draws)

    def behaviour(
        self, data: Data, roll: Callable[[], tuple[PolicyState, Trajectory]], prepare: Callable[[int], None]
    ) -> ComponentTrainer:
        """Learn from rollouts: the policy's state before each, and what followed."""
        config, policy = self.training.actor_critic, self.agent.policy
        scale = None if config.return_window is None else ReturnScale(config.return_window)

        def losses() -> ActorCriticLosses:
            with self.autocast():
                state, imagined = roll()
                is_critic_only = trainer.updates < config.critic_warmup_epochs * config.updates_per_epoch
                ends = self.quirks.entropy_of_last
                return trajectory_losses(
                    policy, imagined, state, config, scale=scale, critic_only=is_critic_only, entropy_of_last=ends
                )

        trainer = ComponentTrainer("actor_critic", policy, config, losses, data, prepare, scale)
        return trainer


def _frames(some: Segments, companions: Companions) -> tuple[Observations, dict[str, dict[str, Tensor]]]:
    """Segments of one step as single frames, and what goes with them."""
    return {name: values.squeeze(1) for name, values in some.observations.items()}, companions.of(some.rows.squeeze(1))


def _updates(tokenizer: ComponentTrainer | None) -> int:
    """Updates of the tokenizer so far; 0 where there is nothing to train."""
    return 0 if tokenizer is None else tokenizer.updates
