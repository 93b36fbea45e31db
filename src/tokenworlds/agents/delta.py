"""The agent whose tokens stand for changes between frames: Delta-IRIS."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.actor_critic import Policy
from tokenworlds.agents.base import Agent
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.delta import DeltaTokenizer
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.delta import DeltaState, DeltaWorldModel


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
