"""IRIS (Micheli, Alonso, Fleuret, ICLR 2023): how tokenizer, world model and policy are composed, and in which order
they are trained.

Each epoch: collect steps with the policy; train the tokenizer on stored frames; train the world model on token
sequences; train the policy purely in imagination. No gradient crosses the border of a component.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tokenworlds import backbones, tokenizers
from tokenworlds.actor_critic import ActorCriticLosses, PixelPolicy, actor_critic_losses
from tokenworlds.agent import Agent
from tokenworlds.config import Compile, RunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.imagination import CapturedImagination, ImaginationNoise, Trajectory, imagine
from tokenworlds.replay import ReplayBuffer, sample_from_end, sample_from_start
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import TokenizerLosses
from tokenworlds.training import precision
from tokenworlds.training.perception import PerceptionCache
from tokenworlds.training.phase import Phase
from tokenworlds.world_models import TokenWorldModel, WorldModelLosses


def build_agent(config: RunConfig, spec: EnvironmentSpec) -> Agent:
    """Freshly initialised networks; an environment's observation spec decides the tokenizers and the layout of a
    block."""
    model = config.model
    tokenizer = tokenizers.build(model.tokenizer, spec)
    backbone = backbones.build(model.backbone, model.world_model, tokenizer.layout.block_size)
    world_model = TokenWorldModel(backbone, tokenizer.layout, spec.num_actions, model.world_model.embed_dim)
    image = spec.observation["image"]
    policy = PixelPolicy(spec.num_actions, model.policy.lstm_dim, image.height, image.channels)
    return Agent(tokenizer, world_model, policy).eval()


def build_phases(config: RunConfig, agent: Agent, buffer: ReplayBuffer, streams: RandomStreams) -> list[Phase]:
    """The components in the order in which an epoch trains them."""
    training = config.training
    perception = PerceptionCache(buffer, agent)
    autocast = precision.autocast(config.training.precision, buffer.device)
    rollout = rollout_of(config, agent, buffer.device)

    def tokenizer_losses() -> TokenizerLosses:
        segments = sample_from_start(buffer, training.tokenizer.batch_size, 1, streams.torch("replay/tokenizer"))
        with autocast():
            return agent.tokenizer.loss({name: values.squeeze(1) for name, values in segments.observations.items()})

    def world_model_losses() -> WorldModelLosses:
        generator = streams.torch("replay/world_model")
        segments = sample_from_start(
            buffer, training.world_model.batch_size, training.sequence_length, generator, look=False
        )
        with autocast():
            return agent.world_model.loss(
                perception.tokens(segments.rows), segments.actions, segments.rewards, segments.ends, segments.mask
            )

    def behaviour_losses() -> ActorCriticLosses:
        generator = streams.torch("replay/actor_critic")
        segments = sample_from_end(buffer, behaviour.batch_size, behaviour.burn_in + 1, generator, look=False)
        past, present = segments.rows[:, :-1], segments.rows[:, -1:]
        noise = ImaginationNoise.draw(
            behaviour.horizon, agent.tokenizer.layout.num_tokens, behaviour.batch_size, streams.torch("imagination")
        )
        with autocast():
            state = agent.policy.burn_in(perception.seen(past), segments.mask[:, :-1])
            trajectory = rollout(perception.tokens(present).squeeze(1), state, noise)
            logits, values, _ = agent.policy.unroll(trajectory.observations, state)
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

    tokenizer = Phase("tokenizer", agent.tokenizer, training.tokenizer, tokenizer_losses)
    behaviour = training.actor_critic
    burned_in = (
        behaviour.updates_per_epoch * behaviour.gradient_accumulation * behaviour.batch_size * behaviour.burn_in
    )  # frames an epoch
    return [
        tokenizer,
        Phase(
            "world_model",
            agent.world_model,
            training.world_model,
            world_model_losses,
            prepare=lambda: perception.refresh_tokens(tokenizer.updates),
        ),
        Phase(
            "actor_critic",
            agent.policy,
            behaviour,
            behaviour_losses,
            prepare=lambda: perception.refresh_seen(tokenizer.updates, burned_in),
        ),
    ]


def rollout_of(config: RunConfig, agent: Agent, device: torch.device) -> Callable[..., Trajectory]:
    """Imagination inside this agent, captured as a CUDA graph where there is a GPU."""
    if device.type == "cuda" and config.runtime.compile is Compile.auto:
        return CapturedImagination(agent.world_model, agent.policy, agent.decode)
    return partial(imagine, agent.world_model, agent.policy, agent.decode)
