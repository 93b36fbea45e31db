"""The interface of an agent to collection, imagination and evaluation: tokenizer, world model and policy together."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.actor_critic import PolicyState
from tokenworlds.agents.world import World
from tokenworlds.replay import Segments
from tokenworlds.world_models.base import WorldModel


class Agent(nn.Module, World):
    """Tokenizer, world model and policy; also the world that its policy imagines."""

    tokenizer: nn.Module
    world_model: WorldModel
    pads_burn_in: bool  # whether the black frames before an episode are policy steps, too, or skipped
    num_tokens: int  # sampled per step in imagination: symbols of an observation, or delta tokens
    context_frames: int  # that imagination starts from, the current one included
    frames_after_restart: int  # that a state remembers then

    @property
    def num_draws(self) -> int:
        """Uniforms that an imagined observation is sampled with: one a token, unless it has none."""
        return self.num_tokens

    @abstractmethod
    def observe(self, observations: dict[str, Tensor]) -> Float[Tensor, "N *input"]:
        """Policy inputs of real observations (N, ...)."""

    @torch.no_grad()
    def act(
        self, observations: dict[str, Tensor], state: PolicyState, generator: torch.Generator, temperature: float
    ) -> tuple[Tensor, PolicyState]:
        """Actions (B, ...) for a batch of environments (``Policy.sample``), and the policy's next state."""
        logits, _, state = self.policy(self.observe(observations), state)
        actions = self.policy.sample(logits, generator, temperature)
        return actions, self.policy.observe_action(actions, state)

    @torch.no_grad()
    def burn_in(self, segments: Segments) -> PolicyState:
        """The policy's state after the steps of ``segments``, from zero."""
        if segments.mask.shape[1] == 0:
            return self.policy.initial_state(len(segments.mask))
        inputs = self.observe({name: values.flatten(0, 1) for name, values in segments.observations.items()})
        mask = torch.ones_like(segments.mask) if self.pads_burn_in else segments.mask
        return self.policy.burn_in(inputs.unflatten(0, mask.shape), segments.actions, mask)

    # The imagined world

    @abstractmethod
    def context(self, segments: Segments) -> Any:
        """What imagination at the last frame of ``segments`` is conditioned on: a named tuple of tensors, past frames
        and the actions between them first."""

    @abstractmethod
    def imagined(self, state: Any) -> dict[str, Tensor]:
        """The current imagined observation by modality (B, ...), in the environment's units; pictures in [0, 1]."""

    @abstractmethod
    def restart(self, state: Any) -> Any:
        """The state that remembers no more than its last ``frames`` and, if it has them, the ``actions`` between; the
        same state where it never remembers more than a few."""

    @abstractmethod
    def stored(self, imagined: dict[str, Tensor]) -> dict[str, Tensor]:
        """Imagined observations (``imagined``) as real ones are stored: pictures in uint8."""

    @abstractmethod
    def imagined_tokens(self, state: Any) -> Int[Tensor, "B S"] | None:
        """The tokens sampled in the last step: those of the current observation, or the delta tokens before it; None
        where there was no step."""

    # Pictures, in [0, 1]

    @abstractmethod
    def render_imagined(self, imagined: dict[str, Tensor]) -> Float[Tensor, "B C Y X"]:
        """Imagined observations (``imagined``)."""

    def render(self, state: Any) -> Float[Tensor, "B C Y X"]:
        """The current imagined observation."""
        return self.render_imagined(self.imagined(state))

    @abstractmethod
    def render_segments(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        """Stored observations."""

    @abstractmethod
    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        """Reconstructions of stored frames from their tokens, by the name of each kind of reconstruction."""
