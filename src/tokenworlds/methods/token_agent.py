"""IRIS (Micheli, Alonso, Fleuret, ICLR 2023) and REM (Cohen et al., ICML 2024): how tokenizer, world model and policy
are composed, and in which order they are trained.

Each epoch: collect steps with the policy; train the tokenizer on stored frames; train the world model on token
sequences; train the policy purely in imagination. No gradient crosses the border of a component. What sets the two
methods apart (backbone, decoding, tokenizer network, embeddings, what the policy sees, how segments are drawn) are
settings: ``pipeline/<method>/params.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tokenworlds import backbones, replay, tokenizers, world_models
from tokenworlds.actor_critic import ActorCriticLosses, actor_critic_losses, build_policy
from tokenworlds.agent import Agent
from tokenworlds.config import Compile, RunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.imagination import CapturedImagination, ImaginationNoise, Trajectory, imagine
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import TokenizerLosses
from tokenworlds.training import precision
from tokenworlds.training.perception import PerceptionCache
from tokenworlds.training.phase import Phase
from tokenworlds.world_models import WorldModelLosses


def build_agent(config: RunConfig, spec: EnvironmentSpec) -> Agent:
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
    return Agent(tokenizer, world_model, policy, model.policy.input).eval()


def build_phases(config: RunConfig, agent: Agent, buffer: ReplayBuffer, streams: RandomStreams) -> list[Phase]:
    """The components in the order in which an epoch trains them."""
    training, context = config.training, config.model.world_model.context
    behaviour = training.actor_critic
    perception = PerceptionCache(buffer, agent)
    autocast = precision.autocast(config.training.precision, buffer.device)
    rollout = rollout_of(config, agent, buffer.device, behaviour.batch_size)
    sampler = replay.SAMPLERS[training.sampling]
    frames = sampler(buffer, training.tokenizer.batch_size, 1, streams.torch("replay/tokenizer"))
    sequences = sampler(
        buffer,
        training.world_model.batch_size,
        training.sequence_length,
        streams.torch("replay/world_model"),
        context=config.model.world_model.unscored_blocks,
    )
    starts = sampler(
        buffer,
        behaviour.batch_size,
        behaviour.burn_in + 1,
        streams.torch("replay/actor_critic"),
        anchor="end",
        context=config.model.world_model.lead,
    )

    def tokenizer_losses() -> TokenizerLosses:
        segments = frames.draw()
        with autocast():
            return agent.tokenizer.loss({name: values.squeeze(1) for name, values in segments.observations.items()})

    def world_model_losses() -> WorldModelLosses:
        segments = sequences.draw(look=False)
        with autocast():
            return agent.world_model.loss(
                perception.tokens(segments.rows), segments.actions, segments.rewards, segments.ends, segments.mask
            )

    def behaviour_losses() -> ActorCriticLosses:
        segments = starts.draw(look=False)
        count = len(segments.rows)
        noise = ImaginationNoise.draw(
            behaviour.horizon, agent.tokenizer.layout.num_tokens, count, streams.torch("imagination")
        )
        with autocast():
            past = perception.seen(segments.rows[:, :-1])
            state = agent.policy.burn_in(past, segments.actions[:, :-1], segments.mask[:, :-1])
            present = perception.tokens(segments.rows[:, -context:])
            trajectory = rollout(present, segments.actions[:, -context:-1], state, noise)
            logits, values, _ = agent.policy.unroll(trajectory.observations, trajectory.actions, state)
        return actor_critic_losses(
            logits.float(),
            values.float(),
            trajectory.actions,
            trajectory.rewards,
            trajectory.ends,
            gamma=behaviour.gamma,
            lambda_=behaviour.lambda_,
            entropy_weight=behaviour.entropy_weight,
        )

    def before_world_model() -> None:
        perception.refresh_tokens(tokenizer.updates)
        sequences.restart()

    def before_behaviour() -> None:
        updates = behaviour.updates_per_epoch * behaviour.gradient_accumulation
        perception.refresh_seen(tokenizer.updates, updates * behaviour.batch_size * behaviour.burn_in)
        starts.restart()

    tokenizer = Phase("tokenizer", agent.tokenizer, training.tokenizer, tokenizer_losses, frames.restart)
    return [
        tokenizer,
        Phase("world_model", agent.world_model, training.world_model, world_model_losses, before_world_model),
        Phase("actor_critic", agent.policy, behaviour, behaviour_losses, before_behaviour),
    ]


def rollout_of(config: RunConfig, agent: Agent, device: torch.device, batch: int) -> Callable[..., Trajectory]:
    """Imagination inside this agent; where there is a GPU, captured as a CUDA graph for batches of this size."""
    if device.type == "cuda" and config.runtime.compile is Compile.auto:
        return CapturedImagination(agent.world_model, agent.policy, agent.see, batch)
    return partial(imagine, agent.world_model, agent.policy, agent.see)
