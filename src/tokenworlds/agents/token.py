"""Agents whose tokens encode observations: IRIS, REM and M3."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.actor_critic import Policy
from tokenworlds.agents.base import Agent
from tokenworlds.agents.chunks import chunk_size
from tokenworlds.config import PolicyInput
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.observation import ObservationTokenizer
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.token import TokenWorldModel, WorldModelState


class TokenContext(NamedTuple):
    """Past tokens and actions. Published M3 is off by one: its policy first observes the tokens after the last ones
    that the world model has read (``first_tokens``)."""

    tokens: Int[Tensor, "B c S"]
    actions: Tensor  # between them, (B, c - 1, ...)
    first_tokens: Int[Tensor, "B S"] | None = None


class TokenAgent(Agent):
    """The policy observes tokens, when acting as well as in imagination, so that both are alike: as the decoded frame
    (IRIS section 2.3), as code vectors (REM section 3.3), or the tokens of all modalities themselves (M3).

    Shapes: S symbols of an observation, see ``tokenizers.layout``."""

    pads_burn_in = False

    def __init__(
        self,
        tokenizer: ObservationTokenizer,
        world_model: TokenWorldModel,
        policy: Policy,
        input: PolicyInput = PolicyInput.pixels,
        context_frames: int = 1,
    ) -> None:
        super().__init__()
        self.tokenizer: ObservationTokenizer = tokenizer
        self.world_model: TokenWorldModel = world_model
        self.policy = policy
        self.input = input
        self.num_tokens = tokenizer.layout.num_symbols
        self.context_frames = self.frames_after_restart = context_frames

    def decode(self, tokens: Int[Tensor, "N S"]) -> dict[str, Tensor]:
        """The decoded observations, pictures clamped to [0, 1]."""
        parts = [self.tokenizer.decode(some) for some in tokens.split(chunk_size(tokens.device))]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def policy_input(self, tokens: Int[Tensor, "N S"]) -> Tensor:
        """Images (N, C, Y, X), codes (N, E, h, w) or the tokens themselves."""
        match self.input:
            case PolicyInput.pixels:
                return self.decode(tokens)["image"]
            case PolicyInput.codes:
                return self.tokenizer.image.codes(tokens)
            case PolicyInput.tokens:
                return tokens

    @torch.no_grad()
    def encode(self, observations: dict[str, Tensor]) -> Int[Tensor, "N S"]:
        """Tokens of stored observations; of none, an empty tensor."""
        count, chunk = len(next(iter(observations.values()))), chunk_size(self.policy.actor.weight.device)
        parts = [
            self.tokenizer.encode({name: values[start : start + chunk] for name, values in observations.items()})
            for start in range(0, max(count, 1), chunk)  # an empty chunk has the right shape, too
        ]
        return torch.cat(parts)

    def observe(self, observations: dict[str, Tensor]) -> Tensor:
        return self.policy_input(self.encode(observations))

    def tokens(self, segments: Segments) -> Int[Tensor, "B T S"]:
        """Tokens of the observations of segments."""
        return self.encode(_flat(segments)).unflatten(0, segments.mask.shape)

    def context(self, segments: Segments) -> TokenContext:
        recent = segments.steps(slice(-self.context_frames, None))
        return TokenContext(self.tokens(recent), recent.actions[:, :-1])

    def first_input(self, context: TokenContext) -> Tensor:
        return self.policy_input(context.tokens[:, -1] if context.first_tokens is None else context.first_tokens)

    def start(self, context: TokenContext) -> WorldModelState:
        return self.world_model.start(context.tokens, context.actions)

    def observe_imagined(self, state: WorldModelState) -> Tensor:
        return self.policy_input(state.tokens)

    def imagined(self, state: WorldModelState) -> dict[str, Tensor]:
        return self.decode(state.tokens)

    def step(
        self, state: WorldModelState, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[WorldModelState, Float[Tensor, "B"], Int[Tensor, "B"]]:
        return self.world_model.step(state, actions, noise, predict_observation=predict_observation)

    def restart(self, state: WorldModelState) -> WorldModelState:
        return self.world_model.start(state.frames, state.actions)

    def stored(self, imagined: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.tokenizer.stored(imagined)

    def imagined_tokens(self, state: WorldModelState) -> Int[Tensor, "B S"]:
        return state.tokens

    def render_imagined(self, imagined: dict[str, Tensor]) -> Float[Tensor, "B C Y X"]:
        return self.tokenizer.render(imagined)

    def render_segments(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        return self.tokenizer.render(_flat(segments)).unflatten(0, segments.mask.shape)

    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        decoded = self.tokenizer.render(self.decode(self.tokens(segments).flatten(0, 1)))
        return {"reconstruction": decoded.unflatten(0, segments.mask.shape)}


def _flat(segments: Segments) -> dict[str, Tensor]:
    return {name: values.flatten(0, 1) for name, values in segments.observations.items()}
