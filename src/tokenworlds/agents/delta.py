"""The agent whose tokens encode changes between frames: Delta-IRIS."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from tokenworlds.actor_critic import Policy
from tokenworlds.agents.base import Agent
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.delta import DeltaTokenizer
from tokenworlds.tokenizers.pictures import to_bytes, to_float
from tokenworlds.world_models.base import StepNoise, WorldModel


class DeltaContext(NamedTuple):
    """Past frames, and the actions and delta tokens between them."""

    frames: Float[Tensor, "B c C Y X"]
    actions: Int[Tensor, "B c1"]
    deltas: Shaped[Tensor, "B c1 *tokens"]


class DeltaAgent(Agent):
    """The policy observes frames: real ones when acting, in imagination those decoded from the frame before, the action
    and the delta tokens (Delta-IRIS). ``target``, an EMA of the policy, provides the values in imagination."""

    pads_burn_in = True

    def __init__(
        self,
        tokenizer: DeltaTokenizer,
        world_model: WorldModel,
        policy: Policy,
        target: Policy,
        context_frames: int = 1,
    ) -> None:
        super().__init__()
        self.tokenizer: DeltaTokenizer = tokenizer
        self.world_model: Any = world_model  # over delta tokens, or generating deltas
        self.policy = policy
        self.target = target.requires_grad_(False)
        self.target.load_state_dict(policy.state_dict())
        self.num_tokens = tokenizer.num_tokens
        self.context_frames = context_frames

    def observe(self, observations: dict[str, Tensor]) -> Float[Tensor, "N C Y X"]:
        return to_float(observations["image"])

    @torch.no_grad()
    def tokens(self, frames: Tensor, actions: Int[Tensor, "B c1"]) -> Shaped[Tensor, "B c1 *tokens"]:
        """Delta tokens of the transitions between the frames (B, c, C, Y, X)."""
        if actions.shape[1] == 0:
            return actions.new_zeros(len(actions), 0, self.num_tokens)
        before, after = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        return self.tokenizer.encode(before, actions.flatten(), after).unflatten(0, actions.shape)

    @torch.no_grad()
    def decode(
        self, frames: Float[Tensor, "N C Y X"], actions: Int[Tensor, "N"], deltas: Shaped[Tensor, "N *tokens"]
    ) -> Float[Tensor, "N C Y X"]:
        """The frames that follow."""
        return self.tokenizer.decode(frames, actions, deltas)

    def context(self, segments: Segments) -> DeltaContext:
        frames, actions = self.render_segments(segments), segments.actions[:, :-1]
        return DeltaContext(frames, actions, self.tokens(frames, actions))

    def first_input(self, context: DeltaContext) -> Float[Tensor, "B C Y X"]:
        return context.frames[:, -1]

    def start(self, context: DeltaContext) -> Any:
        return self.world_model.start(*context)

    def observe_imagined(self, state: Any) -> Float[Tensor, "B C Y X"]:
        return state.frames

    def imagined(self, state: Any) -> dict[str, Tensor]:
        return {"image": state.frames}

    def step(
        self, state: Any, actions: Int[Tensor, "B"], noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[Any, Float[Tensor, "B"], Int[Tensor, "B"]]:
        after, deltas, rewards, terminations = self.world_model.step(
            state, actions, noise, predict_observation=predict_observation
        )
        if deltas is not None:
            after = replace(after, frames=self.decode(state.frames, actions, deltas))
        return after, rewards, terminations

    frames_after_restart = 1

    def restart(self, state: Any) -> Any:
        return state.dropped()

    def stored(self, imagined: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"image": to_bytes(imagined["image"])}

    def imagined_tokens(self, state: Any) -> Int[Tensor, "B K"] | None:
        tokens: Tensor | None = state.deltas
        return tokens

    def render_imagined(self, imagined: dict[str, Tensor]) -> Float[Tensor, "B C Y X"]:
        return imagined["image"]

    def render_segments(self, segments: Segments) -> Float[Tensor, "B T C Y X"]:
        return to_float(segments.observations["image"])

    @torch.no_grad()
    def reconstruct(self, segments: Segments) -> dict[str, Float[Tensor, "B T C Y X"]]:
        """Every frame from the real one before it, the action, and the delta tokens of the transition; without any
        tokens (zeros instead of their codes); and with tokens of other transitions of the batch. The first frame is the
        real one."""
        frames, actions, deltas = self.context(segments)
        before, taken = frames[:, :-1].flatten(0, 1), actions.flatten()
        codes = self.tokenizer.embed(deltas.flatten(0, 1))
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0)).to(codes.device)
        others = order.roll(1)[order.argsort()]  # one cycle through all of them: none keeps its own
        kinds = {
            "reconstruction": codes,
            "no delta tokens": torch.zeros_like(codes),
            "other delta tokens": codes[others],
        }
        decoded = {name: self.tokenizer.decode_codes(before, taken, some) for name, some in kinds.items()}
        return {
            name: torch.cat([frames[:, :1], after.unflatten(0, actions.shape)], dim=1)
            for name, after in decoded.items()
        }
