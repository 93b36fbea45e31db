"""Agents: tokenizer, world model and policy, how they act together and how they imagine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.actor_critic import Policy, PolicyState
from tokenworlds.config import PolicyInput
from tokenworlds.replay import Segments
from tokenworlds.tokenizers import DeltaTokenizer, ObservationTokenizer, to_float
from tokenworlds.world_models import DeltaState, DeltaWorldModel, StepNoise, TokenWorldModel, WorldModelState


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
        return self.tokenizer.draw(self.decode(state.tokens))

    def portray(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        observations = {name: values.flatten(0, 1) for name, values in segments.observations.items()}
        drawn: Tensor = self.tokenizer.draw(observations).unflatten(0, segments.mask.shape)
        return drawn

    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        decoded = self.tokenizer.draw(self.decode(self.tokens(segments).flatten(0, 1)))
        return {"reconstruction": decoded.unflatten(0, segments.mask.shape)}


class DeltaAgent(Agent):
    """The policy looks at frames: real ones when acting, in imagination those decoded from the frame before, the action
    and the delta tokens (Delta-IRIS). ``target``, a moving average of the policy, judges what is imagined."""

    pads_burn_in = True

    def __init__(
        self,
        tokenizer: DeltaTokenizer,
        world_model: DeltaWorldModel,
        policy: Policy,
        target: Policy,
        context_frames: int = 1,
    ) -> None:
        super().__init__()
        self.tokenizer: DeltaTokenizer = tokenizer
        self.world_model: DeltaWorldModel = world_model
        self.policy = policy
        self.target = target.requires_grad_(False)
        self.target.load_state_dict(policy.state_dict())
        self.num_tokens = tokenizer.num_tokens
        self.context_frames = context_frames

    def look(self, observations: dict[str, Tensor]) -> Float[Tensor, "N C Y X"]:
        return to_float(observations["image"])

    @torch.no_grad()
    def tokens(self, frames: Tensor, actions: Int[Tensor, "B c1"]) -> Int[Tensor, "B c1 K"]:
        """Delta tokens of the transitions between the frames (B, c, C, Y, X)."""
        if actions.shape[1] == 0:
            return actions.new_zeros(len(actions), 0, self.num_tokens)
        before, after = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        return self.tokenizer.encode(before, actions.flatten(), after).view(*actions.shape, self.num_tokens)

    @torch.no_grad()
    def decode(
        self, frames: Float[Tensor, "N C Y X"], actions: Int[Tensor, "N"], deltas: Int[Tensor, "N K"]
    ) -> Float[Tensor, "N C Y X"]:
        """The frames that follow."""
        return self.tokenizer.decode(frames, actions, deltas)

    def context(
        self, segments: Segments
    ) -> tuple[Float[Tensor, "B c C Y X"], Int[Tensor, "B c1"], Int[Tensor, "B c1 K"]]:
        frames, actions = to_float(segments.observations["image"]), segments.actions[:, :-1]
        return frames, actions, self.tokens(frames, actions)

    def start(self, context: tuple[Tensor, ...]) -> DeltaState:
        frames, past_actions, deltas = context
        return self.world_model.start(frames, past_actions, deltas)

    def view(self, state: DeltaState) -> Float[Tensor, "B C Y X"]:
        return state.frames

    def step(
        self, state: DeltaState, actions: Int[Tensor, "B"], noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[DeltaState, Float[Tensor, "B"], Int[Tensor, "B"]]:
        after, deltas, rewards, ends = self.world_model.step(
            state, actions, noise, predict_observation=predict_observation
        )
        if deltas is not None:
            after = replace(after, frames=self.decode(state.frames, actions, deltas))
        return after, rewards, ends

    def picture(self, state: DeltaState) -> Float[Tensor, "B C Y X"]:
        return state.frames

    def portray(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        return to_float(segments.observations["image"])

    @torch.no_grad()
    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        """Every frame from the real one before it, the action, and the delta tokens of the transition; without any
        tokens (zeros in the place of their codes); and with tokens of other transitions of the batch. The first frame
        is shown as it is."""
        frames, actions, deltas = self.context(segments)
        given, taken = frames[:, :-1].flatten(0, 1), actions.flatten()
        codes = self.tokenizer.quantiser.embed(deltas.flatten(0, 1))
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0)).to(codes.device)
        ways = {"reconstruction": codes, "no delta tokens": torch.zeros_like(codes), "other delta tokens": codes[order]}
        decoded = {name: self.tokenizer.decode_codes(given, taken, some) for name, some in ways.items()}
        return {
            name: torch.cat([frames[:, :1], after.unflatten(0, actions.shape)], dim=1)
            for name, after in decoded.items()
        }


def perception_chunk(device: torch.device) -> int:
    """Frames encoded and decoded at once: few on a CPU, where larger batches fall out of the caches (measured:
    benchmarks/), many on a GPU."""
    return 4 if device.type == "cpu" else 512
