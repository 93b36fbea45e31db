"""Agents whose tokens stand for observations: IRIS, REM and M3."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.actor_critic import Policy
from tokenworlds.agents.base import Agent, perception_chunk
from tokenworlds.config import PolicyInput
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.observation import ObservationTokenizer
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.token import TokenWorldModel, WorldModelState


class TokenAgent(Agent):
    """The policy looks at what the tokens hold of an observation, when acting as well as in imagination, so that both
    look alike: at the decoded frame (IRIS section 2.3), at the code vectors (REM section 3.3), or at the tokens of all
    modalities, which it looks up itself (M3).

    Shapes: S symbols of an observation, see ``tokenizers.layout``."""

    pads_burn_in = False

    def __init__(
        self,
        tokenizer: ObservationTokenizer,
        world_model: TokenWorldModel,
        policy: Policy,
        policy_input: PolicyInput = PolicyInput.pixels,
        context_frames: int = 1,
    ) -> None:
        super().__init__()
        self.tokenizer: ObservationTokenizer = tokenizer
        self.world_model: TokenWorldModel = world_model
        self.policy = policy
        self.policy_input = policy_input
        self.num_tokens = tokenizer.layout.num_symbols
        self.context_frames = context_frames

    def decode(self, tokens: Int[Tensor, "N S"]) -> dict[str, Tensor]:
        """The decoded observations, pictures clamped to [0, 1]; in chunks, which a CPU's caches like."""
        parts = [self.tokenizer.decode(some) for some in tokens.split(perception_chunk(tokens.device))]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def see(self, tokens: Int[Tensor, "N S"]) -> Tensor:
        """What the policy sees of these tokens: images (N, C, Y, X), codes (N, E, h, w) or the tokens themselves."""
        match self.policy_input:
            case PolicyInput.pixels:
                return self.decode(tokens)["image"]
            case PolicyInput.codes:
                return self.tokenizer.image.codes(tokens)
            case PolicyInput.tokens:
                return tokens

    @torch.no_grad()
    def encode(self, observations: dict[str, Tensor]) -> Int[Tensor, "N S"]:
        """Tokens of stored observations, in chunks; of none, an empty tensor."""
        count, chunk = len(next(iter(observations.values()))), perception_chunk(self.policy.actor.weight.device)
        parts = [
            self.tokenizer.encode({name: values[start : start + chunk] for name, values in observations.items()})
            for start in range(0, max(count, 1), chunk)  # an empty chunk has the right shape, too
        ]
        return torch.cat(parts)

    def look(self, observations: dict[str, Tensor]) -> Tensor:
        return self.see(self.encode(observations))

    def tokens(self, segments: Segments) -> Int[Tensor, "B T S"]:
        """Tokens of the observations of segments."""
        frames = {name: values.flatten(0, 1) for name, values in segments.observations.items()}
        tokens: Tensor = self.encode(frames).unflatten(0, segments.mask.shape)
        return tokens

    def context(self, segments: Segments) -> tuple[Int[Tensor, "B c S"], Tensor]:
        recent = segments.steps(slice(-self.context_frames, None))
        return self.tokens(recent), recent.actions[:, :-1]

    def start(self, context: tuple[Tensor, ...]) -> WorldModelState:
        """Where the context names a third part, the tokens (B, S) of another observation, the policy looks at that one
        first: as in the published M3, at the one behind the context's last."""
        frames, past_actions, *shown = context
        state = self.world_model.start(frames, past_actions)
        return replace(state, shown=shown[0]) if shown else state

    def view(self, state: WorldModelState) -> Tensor:
        return self.see(state.tokens if state.shown is None else state.shown)

    def step(
        self, state: WorldModelState, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[WorldModelState, Float[Tensor, "B"], Int[Tensor, "B"]]:
        return self.world_model.step(state, actions, noise, predict_observation=predict_observation)

    def picture(self, state: WorldModelState) -> Float[Tensor, "B C Y X"]:
        return self.tokenizer.render(self.decode(state.tokens))

    def portray(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        observations = {name: values.flatten(0, 1) for name, values in segments.observations.items()}
        drawn: Tensor = self.tokenizer.render(observations).unflatten(0, segments.mask.shape)
        return drawn

    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        decoded = self.tokenizer.render(self.decode(self.tokens(segments).flatten(0, 1)))
        return {"reconstruction": decoded.unflatten(0, segments.mask.shape)}
