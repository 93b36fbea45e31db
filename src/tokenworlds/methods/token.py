"""IRIS (Micheli, Alonso, Fleuret, ICLR 2023), REM (Cohen et al., ICML 2024) and M3 (Cohen et al., 2025): how tokenizer,
world model and policy are composed, and in which order they are trained.

Each epoch: collect steps with the policy; train the tokenizer on stored observations, where one of its parts learns;
train the world model on token sequences; train the policy purely in imagination. No gradient crosses the border of a
component. What sets the methods apart (backbone, decoding, tokenizer network, embeddings, what the policy sees, how
segments are drawn, what is a reward) are settings: ``pipeline/<method>/params.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenworlds import backbones, world_models
from tokenworlds.actor_critic import ActorCriticLosses, ReturnScale, behaviour_losses, build_policy
from tokenworlds.agents import TokenAgent
from tokenworlds.agents.imagination import ImaginationNoise, rollout_of
from tokenworlds.agents.token_cache import PerceptionCache
from tokenworlds.config import ImaginationStart, ReadOut, Sampling, TokenRunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.losses import Losses
from tokenworlds.methods.component import Phase
from tokenworlds.ops import precision
from tokenworlds.replay import (
    SAMPLERS,
    Anchor,
    EpisodeSampler,
    PrioritisedSampler,
    ReplayBuffer,
    Sampler,
    SegmentSampler,
    traverse,
)
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import observation
from tokenworlds.tokenizers.image import TokenizerLosses
from tokenworlds.world_models.base import WorldModelLosses
from tokenworlds.world_models.embeddings import action_tokens


def build_agent(config: TokenRunConfig, spec: EnvironmentSpec) -> TokenAgent:
    """Freshly initialised networks; an environment's spec decides the tokenizers and the layout of a block."""
    model, world = config.model, config.model.world_model
    quirks, tokens = config.quirks, action_tokens(spec.actions, world.tokenized_actions)
    tokenizer = observation.build(model.tokenizer, spec, tokens, quirks.perceptual_dropout)
    layout = tokenizer.layout
    # The prediction tokens behind the last of max_blocks stand in one more block.
    spare = 1 if world.read_out is ReadOut.prediction else 0
    backbone = backbones.build(model.backbone, world, layout.block_size, spare_blocks=spare)
    world_model = world_models.build(model.decoding, world, backbone, layout, spec.actions, tokenizer.coded, quirks)
    if quirks.identical_layers:
        backbone.repeat_first_layer()
    policy = build_policy(model.policy, spec, tokenizer, world.action_levels, quirks.burn_in_actions)
    return TokenAgent(tokenizer, world_model, policy, model.policy.input, world.context).eval()


def build_phases(
    config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams
) -> list[Phase]:
    """The components in the order in which an epoch trains them."""
    learner = Learner(config, agent, buffer, streams)
    perceived = [learner.tokenizer()] if agent.tokenizer.learns else []
    return [*perceived, learner.world_model(*perceived), learner.behaviour(*perceived)]


def lead(config: TokenRunConfig) -> int:
    """Steps of an episode that stand before the first frame that imagination may start from."""
    return config.model.world_model.lead


def held_out(config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, component: str) -> Iterator[Losses]:
    """Losses of tokenizer or world model on all the steps of ``buffer``, batch after batch."""
    evaluation, world = config.evaluation, config.model.world_model
    if component == "tokenizer":
        for some in traverse(buffer, evaluation.tokenizer_batch_size, 1):
            yield agent.tokenizer.loss({name: values.squeeze(1) for name, values in some.observations.items()})
    else:
        length, batch = config.training.sequence_length, evaluation.world_model_batch_size
        for some in traverse(buffer, batch, length, world.unscored_blocks):
            tokens = agent.tokens(some)
            yield agent.world_model.loss(tokens, some.actions, some.rewards, some.terminations, some.mask)


class Learner:
    """Makes the phases of one agent; they share the replay buffer and what the tokenizer makes of its frames."""

    def __init__(self, config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams) -> None:
        self.agent, self.buffer, self.streams = agent, buffer, streams
        self.model, self.training, self.quirks = config.model, config.training, config.quirks
        self.has_final_observations = config.collection.train.final_observation
        self.perception = PerceptionCache(buffer, agent)
        self.autocast = precision.autocast(self.training.precision, buffer.device)
        self.rollout = rollout_of(agent, self.training.actor_critic.batch_size, buffer.device, config.runtime.compile)

    def _sampler(self, name: str, batch: int, length: int, anchor: Anchor = "start", context: int = 0) -> Sampler:
        generator = self.streams.torch(f"replay/{name}")
        return SAMPLERS[self.training.sampling](self.buffer, batch, length, generator, anchor=anchor, context=context)

    def tokenizer(self) -> Phase:
        """Reconstruct single frames."""
        config, tokenizer = self.training.tokenizer, self.agent.tokenizer
        frames = self._sampler("tokenizer", config.batch_size, 1)

        def losses() -> TokenizerLosses:
            segments = frames.sample()
            with self.autocast():
                return tokenizer.loss({name: values.squeeze(1) for name, values in segments.observations.items()})

        return Phase("tokenizer", tokenizer, config, losses, frames)

    def world_model(self, tokenizer: Phase | None = None) -> Phase:
        """Predict tokens, rewards and ends of segments; those of ``unscored_blocks`` are given. What each segment cost
        is told to the sampler."""
        config, world_model = self.training.world_model, self.agent.world_model
        unscored = self.model.world_model.unscored_blocks
        sequences = self._sequences(config.batch_size, self.training.sequence_length, unscored)

        def losses() -> WorldModelLosses:
            segments = sequences.sample(with_observations=False)
            tokens = self.perception.tokens(segments.rows)
            with self.autocast():
                found = world_model.loss(
                    tokens, segments.actions, segments.rewards, segments.terminations, segments.mask
                )
            assert found.segments is not None
            sequences.update_priorities(found.segments)
            return found

        return Phase(
            "world_model",
            world_model,
            config,
            losses,
            sequences,
            prepare=lambda updates: self.perception.refresh_tokens(_updates(tokenizer)),
        )

    def _sequences(self, batch: int, length: int, context: int) -> Sampler:
        """What the world model learns from. Batches are full where members of an ensemble share them out."""
        given = (self.buffer, batch, length, self.streams.torch("replay/world_model"))
        training, has_members = self.training, self.model.world_model.curiosity.members > 0
        match training.sampling:
            case Sampling.episodes:
                return EpisodeSampler(*given, context=context)
            case Sampling.segments:
                return SegmentSampler(*given, context=context, drop_last=has_members)
            case Sampling.prioritised:
                share, lag = training.uniform_fraction, self.quirks.priority_lag
                return PrioritisedSampler(*given, context=context, uniform_fraction=share, lag=lag)

    def behaviour(self, tokenizer: Phase | None = None) -> Phase:
        """Act in imagination, from stored observations on; those before them warm up the policy's state.

        Where final observations are stored, imagination starts one step before the end of a segment: nothing follows
        them. Published M3 lets the policy look first at the observation behind the last one that the world model has
        read.
        """
        config, policy, context = self.training.actor_critic, self.agent.policy, self.model.world_model.context
        num_tokens, is_legacy = self.agent.num_tokens, self.quirks.imagination_start is ImaginationStart.legacy
        ahead = 1 if self.has_final_observations else 0
        lead = self.model.world_model.lead + ahead
        starts = self._sampler("actor_critic", config.batch_size, config.burn_in + 1 + ahead, "end", lead)
        scale = None if config.return_window is None else ReturnScale(config.return_window)

        def prepare(updates: int) -> None:
            draws = updates * config.gradient_accumulation * config.batch_size * config.burn_in
            self.perception.refresh_seen(_updates(tokenizer), draws)

        def losses() -> ActorCriticLosses:
            segments = starts.sample(with_observations=False)
            generator, count = self.streams.torch("imagination"), len(segments.rows)
            noise = ImaginationNoise.draw(config.horizon, num_tokens, count, generator, policy.actions.draws)
            with self.autocast():
                before = slice(None, -1 if is_legacy else -1 - ahead)
                past = self.perception.seen(segments.rows[:, before])
                state = policy.burn_in(past, segments.actions[:, before], segments.mask[:, before])
                present = self.perception.tokens(segments.rows[:, -context - ahead :])
                actions = segments.actions[:, -context - ahead : -1 - ahead]
                shown = (present[:, -1],) if is_legacy else ()
                imagined = self.rollout((present[:, :context], actions, *shown), state, noise)
                is_warming_up = phase.updates < config.critic_warmup_epochs * config.updates_per_epoch
                return behaviour_losses(
                    policy,
                    imagined,
                    state,
                    config,
                    scale=scale,
                    critic_only=is_warming_up,
                    entropy_of_last=self.quirks.entropy_of_last,
                )

        phase = Phase("actor_critic", policy, config, losses, starts, prepare, scale)
        return phase


def _updates(tokenizer: Phase | None) -> int:
    """How often the tokenizer was trained; never, where there is nothing to train."""
    return 0 if tokenizer is None else tokenizer.updates
