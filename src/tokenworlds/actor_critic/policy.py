"""Policy and value over frames: a small CNN, a recurrent cell, two linear heads.

What is seen of a frame are its pixels (IRIS appendix A.3, Delta-IRIS) or the code vectors of its tokens (REM section
3). The policy is a pure function of (what is seen, recurrent state): nothing is kept on the module.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds import scalars
from tokenworlds.config import (
    BurnInActions,
    DeltaPolicyConfig,
    EncoderConfig,
    PolicyInput,
    Recurrence,
    Scalar,
    TokenPolicyConfig,
)
from tokenworlds.convolutions import FrameEncoder, flatten_map
from tokenworlds.envs.spec import ImageSpec
from tokenworlds.tokenizers import ImageTokenizer

CHANNELS = (32, 32, 64, 64)


@dataclass
class PolicyState:
    """The recurrent state; a GRU has no cell, its width is 0."""

    hidden: Float[Tensor, "B D"]
    cell: Float[Tensor, "B C"]

    def where(self, mask: Bool[Tensor, "B"], other: PolicyState) -> PolicyState:
        """This state in the rows where ``mask`` is true, ``other`` elsewhere."""
        mask = mask.unsqueeze(-1)
        return PolicyState(torch.where(mask, self.hidden, other.hidden), torch.where(mask, self.cell, other.cell))


class PixelEncoder(nn.Module):
    """Frames (N, C, Y, X) in [0, 1] to features, halved four times."""

    def __init__(self, resolution: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise((channels, *CHANNELS)))
        self.width = CHANNELS[-1] * (resolution // 2 ** len(CHANNELS)) ** 2

    def forward(self, frames: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N F"]:
        """Pooling comes before the ReLU, which gives the same numbers for a quarter of its work."""
        h = frames * 2 - 1
        for convolution in self.convolutions:
            h = F.relu(F.max_pool2d(convolution(h), 2))
        return h.flatten(1)


class CodeEncoder(nn.Module):
    """Code vectors (N, E, h, w) of a frame's tokens to features, at the grid's resolution."""

    def __init__(self, embed_dim: int, grid: int, width: int) -> None:
        super().__init__()
        widths = (embed_dim, embed_dim // 2, embed_dim // 4)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.dense = nn.Linear(widths[-1] * grid**2, width)
        self.width = width

    def forward(self, codes: Float[Tensor, "N E h w"]) -> Float[Tensor, "N F"]:
        h = codes
        for convolution in self.convolutions:
            h = F.silu(convolution(h))
        return F.silu(self.dense(h.flatten(1)))


class FlatEncoder(FrameEncoder):
    """Frames (N, C, Y, X) in [0, 1] to the map of Delta-IRIS's convolutional stack, flattened."""

    def __init__(self, config: EncoderConfig, resolution: int, channels: int) -> None:
        super().__init__(config, resolution, channels)
        self.width = self.latent_dim * self.grid**2

    def forward(self, frames: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N F"]:
        return flatten_map(super().forward(frames))


class Policy(nn.Module):
    """What is seen of a frame to action logits (B, A) and what the critic says of the value, (B, W): the value itself
    is ``values.mean`` of it.

    With ``action_input`` the policy also takes each action that it has chosen: one more recurrent step, on an embedding
    of the action (``remember``). In burn-in it takes the action of frame i where i + 1 is a multiple of
    ``burn_in_every``.
    """

    def __init__(
        self,
        encoder: PixelEncoder | CodeEncoder | FlatEncoder,
        recurrence: Recurrence,
        hidden: int,
        num_actions: int,
        action_input: bool = False,
        burn_in_every: int = 1,
        values: Scalar = Scalar.regression,
        zero_critic: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        cell = {Recurrence.lstm: nn.LSTMCell, Recurrence.gru: nn.GRUCell}[recurrence]
        self.recurrence = cell(encoder.width, hidden)
        self.actor = nn.Linear(hidden, num_actions)
        self.values = scalars.build(values)
        self.critic = nn.Linear(hidden, self.values.width)
        if zero_critic:  # every value starts at zero
            nn.init.zeros_(self.critic.weight)
            nn.init.zeros_(self.critic.bias)
        self.embed_action = nn.Embedding(num_actions, encoder.width) if action_input else None
        self.burn_in_every = burn_in_every

    def initial_state(self, batch: int) -> PolicyState:
        hidden = self.actor.weight.new_zeros(batch, self.recurrence.hidden_size)
        return PolicyState(hidden, hidden if isinstance(self.recurrence, nn.LSTMCell) else hidden[:, :0])

    def advance(self, features: Float[Tensor, "B F"], state: PolicyState) -> PolicyState:
        """One recurrent step."""
        if isinstance(self.recurrence, nn.LSTMCell):
            return PolicyState(*self.recurrence(features, (state.hidden, state.cell)))
        return PolicyState(self.recurrence(features, state.hidden), state.cell)

    def remember(self, actions: Int[Tensor, "B"], state: PolicyState) -> PolicyState:
        """The state after the chosen actions; the same state where the policy does not take actions."""
        return state if self.embed_action is None else self.advance(self.embed_action(actions), state)

    def read_out(self, state: PolicyState) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B W"]]:
        return self.actor(state.hidden), self.critic(state.hidden)

    def forward(
        self, seen: Float[Tensor, "B *seen"], state: PolicyState
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B W"], PolicyState]:
        state = self.advance(self.encoder(seen), state)
        return (*self.read_out(state), state)

    @torch.no_grad()
    def burn_in(
        self, seen: Float[Tensor, "B T *seen"], actions: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> PolicyState:
        """The state after the steps where ``mask`` is true, from zero; other steps leave a row's state as it is."""
        state = self.initial_state(len(seen))
        if seen.shape[1] == 0:
            return state
        features = self._features(seen)
        for t in range(seen.shape[1]):
            after = self.advance(features[:, t], state)
            if (t + 1) % self.burn_in_every == 0:
                after = self.remember(actions[:, t], after)
            state = after.where(mask[:, t], state)
        return state

    def unroll(
        self, seen: Float[Tensor, "B T *seen"], actions: Int[Tensor, "B T"], state: PolicyState
    ) -> tuple[Float[Tensor, "B T A"], Float[Tensor, "B T W"], PolicyState]:
        """Logits and the critic's outputs along a trajectory, and the state after its last action."""
        features = self._features(seen)
        logits, outputs = [], []
        for t in range(seen.shape[1]):
            state = self.advance(features[:, t], state)
            step_logits, step_outputs = self.read_out(state)
            logits.append(step_logits)
            outputs.append(step_outputs)
            state = self.remember(actions[:, t], state)
        return torch.stack(logits, dim=1), torch.stack(outputs, dim=1), state

    def _features(self, seen: Float[Tensor, "B T *seen"]) -> Float[Tensor, "B T F"]:
        """The convolutions of all frames in one batch."""
        features: Tensor = self.encoder(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        return features


def build_policy(config: TokenPolicyConfig, num_actions: int, image: ImageSpec, tokenizer: ImageTokenizer) -> Policy:
    """The configured policy over the pictures ``image``, or over their codes by ``tokenizer``."""
    encoder: PixelEncoder | CodeEncoder = (
        PixelEncoder(image.height, image.channels)
        if config.input is PolicyInput.pixels
        else CodeEncoder(tokenizer.embedding.embedding_dim, tokenizer.grid, config.hidden_dim)
    )
    every = tokenizer.num_tokens if config.burn_in_actions is BurnInActions.published else 1
    return Policy(
        encoder,
        config.recurrence,
        config.hidden_dim,
        num_actions,
        config.action_input,
        every,
        config.values,
        zero_critic=config.values is Scalar.two_hot,
    )


def build_frame_policy(config: DeltaPolicyConfig, num_actions: int, image: ImageSpec) -> Policy:
    """The configured policy over the pictures ``image`` themselves."""
    encoder = FlatEncoder(config.frame_encoder, image.height, image.channels)
    return Policy(encoder, config.recurrence, config.hidden_dim, num_actions, values=config.values, zero_critic=True)
