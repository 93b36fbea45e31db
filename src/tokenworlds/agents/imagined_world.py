"""A world model stepped by actions from outside: to play in it, to train other agents in it, to measure it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.agents.base import Agent
from tokenworlds.config import RunConfig, TokenRunConfig
from tokenworlds.ops.categorical import sampler_at
from tokenworlds.replay import Segments
from tokenworlds.world_models.base import ImaginationMode, StepNoise, WorldModel


@dataclass(frozen=True)
class ImaginedStep:
    """What follows an action in a batch of imagined episodes."""

    rewards: Float[Tensor, "B"]  # the environment's, as predicted: unweighted, without an intrinsic reward
    terminations: Int[Tensor, "B"]
    tokens: Int[Tensor, "B S"]  # of the next observation, or delta tokens
    has_restarted: bool  # whether the memory had been dropped before this step


def published_memory(config: RunConfig) -> int:
    """Frames that a world model remembers by its paper: those of a training sequence, or (Delta-IRIS) as many as its
    backbone has room for."""
    if isinstance(config, TokenRunConfig):
        return config.training.sequence_length
    return config.model.world_model.max_blocks


class ImaginedWorld:
    """A batch of imagined episodes.

    The memory of a world model ends after ``memory`` frames, those of the context included: then the context is read
    again from the last frames, imagined ones, and the episode goes on. As published (``published_memory``) IRIS starts
    again every 19 frames, REM and M3 every H - c (sequences of H frames, c of them context). Delta-IRIS drops all but
    the current frame; its memory also ends where its backbone is full. A consistency model always knows its last n
    steps and never starts again. Episodes do not stop at a termination; that is up to the caller.

    Args:
        agent: whose world model imagines.
        generator: of the uniforms that steps are sampled with, on the agent's device.
        memory: frames, more than those of the context.
        temperature: of tokens and terminations; 0 for the most likely ones.
    """

    def __init__(self, agent: Agent, generator: torch.Generator, memory: int, temperature: float = 1.0) -> None:
        self.agent, self.generator, self.memory = agent, generator, memory
        self.temperature = temperature
        self.frames = 0  # in the memory, the current one included
        self.state: Any = None
        self._decoded: tuple[Any, dict[str, Tensor]] | None = None  # of which state, and its observations

    @torch.no_grad()
    def begin(self, segments: Segments) -> None:
        """Start after the last frames of segments; at least ``agent.context_frames`` of these, if the episode has as
        many. What is padding is read as black frames."""
        given = self._last(segments)
        self.state, self.frames = self.agent.start(self.agent.context(given)), given.mask.shape[1]

    @torch.no_grad()
    def replace(self, rows: Int[Tensor, "n"], segments: Segments) -> None:
        """Begin new episodes in some rows, after the last frames of n segments, at least ``agent.context_frames`` of
        them. The states of a batch have one length, so that the next step reads all contexts again, as when the memory
        is full: the other rows go on from their last frames."""
        begun = self.agent.start(self.agent.context(self._last(segments)))
        remembered = {name: getattr(self.state, name) for name in ("frames", "actions", "past") if hasattr(begun, name)}
        changed = {name: old.index_copy(0, rows, getattr(begun, name)) for name, old in remembered.items()}
        self.state, self.frames = replace(self.state, **changed), self.memory

    @torch.no_grad()
    def step(self, actions: Tensor, noise: StepNoise | None = None) -> ImaginedStep:
        """Imagine the next observation, reward and termination after actions (B, *action).

        Args:
            noise: the uniforms of this step; by default drawn from the generator.
        """
        agent = self.agent
        before = agent.restart(self.state) if self.frames >= self.memory else self.state
        world_model: WorldModel = agent.world_model
        mode = ImaginationMode(sampler_at(self.temperature), is_intrinsic=False, temperature=self.temperature)
        with world_model.imagining(mode):
            after, rewards, terminations = agent.step(before, actions, noise or self._draw(len(actions)))
        # a backbone that is full has dropped its past by itself
        has_restarted = before is not self.state or after.length <= before.length
        self.frames = agent.frames_after_restart + 1 if has_restarted else min(self.frames + 1, self.memory)
        self.state = after
        tokens = agent.imagined_tokens(after)
        assert tokens is not None
        return ImaginedStep(rewards, terminations, tokens, has_restarted)

    def _last(self, segments: Segments) -> Segments:
        return segments.steps(slice(-self.agent.context_frames, None))

    def _draw(self, batch: int) -> StepNoise:
        uniforms = torch.rand(2 + self.agent.num_draws, batch, generator=self.generator, device=self.generator.device)
        return StepNoise(uniforms[0], uniforms[1], uniforms[2:])

    @torch.no_grad()
    def observations(self) -> dict[str, Tensor]:
        """The current observations (B, ...) as real ones are stored."""
        return self.agent.stored(self._imagined())

    @torch.no_grad()
    def pictures(self) -> Float[Tensor, "B 3 Y X"]:
        """Pictures of the current observations, in [0, 1]."""
        return self.agent.render_imagined(self._imagined())

    def _imagined(self) -> dict[str, Tensor]:
        """The current observations, decoded once."""
        if self._decoded is None or self._decoded[0] is not self.state:
            self._decoded = self.state, self.agent.imagined(self.state)
        return self._decoded[1]
