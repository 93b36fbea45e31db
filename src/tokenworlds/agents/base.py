"""What collection, imagination and evaluation ask of an agent: tokenizer, world model and policy together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.actor_critic import Policy, PolicyState
from tokenworlds.replay import Segments
from tokenworlds.world_models.base import StepNoise


class Agent(nn.Module, ABC):
    """What collection, imagination and evaluation ask of the agents of all methods.

    An agent is also the world that its policy imagines: ``start``, ``view`` and ``step``. What a state is, is its own
    affair.
    """

    tokenizer: nn.Module
    world_model: nn.Module
    policy: Policy
    pads_burn_in: bool  # whether the policy takes in the black frames before an episode, or they are skipped
    num_tokens: int  # drawn a step in imagination: symbols of an observation, or delta tokens
    context_frames: int  # that imagination starts from, the current one included

    @abstractmethod
    def look(self, observations: dict[str, Tensor]) -> Float[Tensor, "N *seen"]:
        """What the policy sees of real observations (N, ...)."""

    @torch.no_grad()
    def act(
        self, observations: dict[str, Tensor], state: PolicyState, uniforms: Float[Tensor, "n B"], temperature: float
    ) -> tuple[Tensor, PolicyState]:
        """Actions (B, ...) sampled from softmax(logits / temperature) for a batch of environments, and the policy's
        next state."""
        logits, _, state = self.policy(self.look(observations), state)
        actions = self.policy.actions.sample(logits / temperature, uniforms)
        return actions, self.policy.remember(actions, state)

    @torch.no_grad()
    def burn_in(self, segments: Segments) -> PolicyState:
        """The policy's state after the steps of ``segments``, from zero."""
        if segments.mask.shape[1] == 0:
            return self.policy.initial_state(len(segments.mask))
        seen = self.look({name: values.flatten(0, 1) for name, values in segments.observations.items()})
        mask = torch.ones_like(segments.mask) if self.pads_burn_in else segments.mask
        return self.policy.burn_in(seen.unflatten(0, mask.shape), segments.actions, mask)

    # The imagined world

    @abstractmethod
    def context(self, segments: Segments) -> tuple[Tensor, ...]:
        """What imagination starts from at the last frame of ``segments``, in the agent's own form: past frames, the
        actions between them, and what else it knows."""

    @abstractmethod
    def start(self, context: tuple[Tensor, ...]) -> Any:
        """The state behind a context."""

    @abstractmethod
    def view(self, state: Any) -> Float[Tensor, "B *seen"]:
        """What the policy sees of the current observation."""

    @abstractmethod
    def step(
        self, state: Any, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[Any, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """The next state, rewards and end flags."""

    # Pictures, in [0, 1]

    @abstractmethod
    def picture(self, state: Any) -> Float[Tensor, "B C Y X"]:
        """The current observation."""

    @abstractmethod
    def portray(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        """Stored observations."""

    @abstractmethod
    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        """What the tokens keep of stored frames, by a name for each way to look at it."""


def perception_chunk(device: torch.device) -> int:
    """Frames encoded and decoded at once: few on a CPU, where larger batches fall out of the caches (measured:
    benchmarks/), many on a GPU."""
    return 4 if device.type == "cpu" else 512
