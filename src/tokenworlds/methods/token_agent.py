"""IRIS (Micheli, Alonso, Fleuret, ICLR 2023) and REM (Cohen et al., ICML 2024): how tokenizer, world model and policy
are composed, and in which order they are trained.

Each epoch: collect steps with the policy; train the tokenizer on stored frames; train the world model on token
sequences; train the policy purely in imagination. No gradient crosses the border of a component. What sets the two
methods apart (backbone, decoding, tokenizer network, embeddings, what the policy sees, how segments are drawn) are
settings: ``pipeline/<method>/params.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenworlds import backbones, tokenizers, world_models
from tokenworlds.actor_critic import ActorCriticLosses, behaviour_losses, build_policy
from tokenworlds.agent import TokenAgent
from tokenworlds.config import TokenRunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.imagination import ImaginationNoise, rollout_of
from tokenworlds.losses import Losses
from tokenworlds.replay import SAMPLERS, Anchor, ReplayBuffer, Sampler, traverse
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import TokenizerLosses
from tokenworlds.training import precision
from tokenworlds.training.perception import PerceptionCache
from tokenworlds.training.phase import Phase
from tokenworlds.world_models import WorldModelLosses


def build_agent(config: TokenRunConfig, spec: EnvironmentSpec) -> TokenAgent:
    """Freshly initialised networks; an environment's observation spec decides the tokenizers and the layout of a
    block."""
    model = config.model
    tokenizer = tokenizers.build(model.tokenizer, spec)
    layout = tokenizer.layout
    backbone = backbones.build(model.backbone, model.world_model, layout.block_size)
    world_model = world_models.build(
        model.decoding, model.world_model, backbone, layout, spec.num_actions, tokenizer.codebooks
    )
    policy = build_policy(model.policy, spec.num_actions, spec.observation["image"], tokenizer.part("image"))
    return TokenAgent(tokenizer, world_model, policy, model.policy.input, model.world_model.context).eval()


def build_phases(
    config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams
) -> list[Phase]:
    """The components in the order in which an epoch trains them."""
    learner = Learner(config, agent, buffer, streams)
    tokenizer = learner.tokenizer()
    return [tokenizer, learner.world_model(tokenizer), learner.behaviour(tokenizer)]


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
            yield agent.world_model.loss(tokens, some.actions, some.rewards, some.ends, some.mask)


class Learner:
    """Makes the phases of one agent; they share the replay buffer and what the tokenizer makes of its frames."""

    def __init__(self, config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams) -> None:
        self.agent, self.buffer, self.streams = agent, buffer, streams
        self.model, self.training = config.model, config.training
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
            segments = frames.draw()
            with self.autocast():
                return tokenizer.loss({name: values.squeeze(1) for name, values in segments.observations.items()})

        return Phase("tokenizer", tokenizer, config, losses, frames)

    def world_model(self, tokenizer: Phase) -> Phase:
        """Predict tokens, rewards and ends of segments; those of ``unscored_blocks`` are given."""
        config, world_model = self.training.world_model, self.agent.world_model
        unscored = self.model.world_model.unscored_blocks
        sequences = self._sampler("world_model", config.batch_size, self.training.sequence_length, context=unscored)

        def losses() -> WorldModelLosses:
            segments = sequences.draw(look=False)
            tokens = self.perception.tokens(segments.rows)
            with self.autocast():
                return world_model.loss(tokens, segments.actions, segments.rewards, segments.ends, segments.mask)

        return Phase(
            "world_model",
            world_model,
            config,
            losses,
            sequences,
            prepare=lambda updates: self.perception.refresh_tokens(tokenizer.updates),
        )

    def behaviour(self, tokenizer: Phase) -> Phase:
        """Act in imagination, from stored frames on; the frames before them warm up the policy's state."""
        config, policy, context = self.training.actor_critic, self.agent.policy, self.model.world_model.context
        lead, num_tokens = self.model.world_model.lead, self.agent.num_tokens
        starts = self._sampler("actor_critic", config.batch_size, config.burn_in + 1, "end", lead)

        def prepare(updates: int) -> None:
            draws = updates * config.gradient_accumulation * config.batch_size * config.burn_in
            self.perception.refresh_seen(tokenizer.updates, draws)

        def losses() -> ActorCriticLosses:
            segments = starts.draw(look=False)
            generator = self.streams.torch("imagination")
            noise = ImaginationNoise.draw(config.horizon, num_tokens, len(segments.rows), generator)
            with self.autocast():
                past = self.perception.seen(segments.rows[:, :-1])
                state = policy.burn_in(past, segments.actions[:, :-1], segments.mask[:, :-1])
                present = self.perception.tokens(segments.rows[:, -context:])
                imagined = self.rollout((present, segments.actions[:, -context:-1]), state, noise)
                return behaviour_losses(policy, imagined, state, config)

        return Phase("actor_critic", policy, config, losses, starts, prepare)
