"""Policy and value over frames: a small CNN, an LSTM cell, two linear heads (IRIS appendix A.3).

The policy is a pure function of (frame, recurrent state): nothing is kept on the module.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = (32, 32, 64, 64)


@dataclass
class PolicyState:
    hidden: Float[Tensor, "B D"]
    cell: Float[Tensor, "B D"]

    def where(self, mask: Bool[Tensor, "B"], other: "PolicyState") -> "PolicyState":
        """This state in the rows where ``mask`` is true, ``other`` elsewhere."""
        mask = mask.unsqueeze(-1)
        return PolicyState(torch.where(mask, self.hidden, other.hidden), torch.where(mask, self.cell, other.cell))


class PixelPolicy(nn.Module):
    """Frames (B, C, Y, X) in [0, 1] to action logits (B, A) and value (B,)."""

    def __init__(self, num_actions: int, lstm_dim: int, resolution: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = (channels, *CHANNELS)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.lstm = nn.LSTMCell(CHANNELS[-1] * (resolution // 2 ** len(CHANNELS)) ** 2, lstm_dim)
        self.actor = nn.Linear(lstm_dim, num_actions)
        self.critic = nn.Linear(lstm_dim, 1)

    def initial_state(self, batch: int) -> PolicyState:
        zeros = self.actor.weight.new_zeros(batch, self.lstm.hidden_size)
        return PolicyState(zeros, zeros)

    def features(self, frames: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N F"]:
        """Pooling comes before the ReLU, which gives the same numbers for a quarter of its work."""
        h = frames * 2 - 1
        for convolution in self.convolutions:
            h = F.relu(F.max_pool2d(convolution(h), 2))
        return h.flatten(1)

    def advance(self, features: Float[Tensor, "B F"], state: PolicyState) -> PolicyState:
        return PolicyState(*self.lstm(features, (state.hidden, state.cell)))

    def read_out(self, state: PolicyState) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B"]]:
        return self.actor(state.hidden), self.critic(state.hidden).squeeze(-1)

    def forward(
        self, frames: Float[Tensor, "B C Y X"], state: PolicyState
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B"], PolicyState]:
        state = self.advance(self.features(frames), state)
        return (*self.read_out(state), state)

    @torch.no_grad()
    def burn_in(self, frames: Float[Tensor, "B T C Y X"], mask: Bool[Tensor, "B T"]) -> PolicyState:
        """The state after the frames where ``mask`` is true, from zero; other frames leave a row's state as it is."""
        state = self.initial_state(len(frames))
        if frames.shape[1] == 0:
            return state
        features = self.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        for t in range(frames.shape[1]):
            state = self.advance(features[:, t], state).where(mask[:, t], state)
        return state

    def unroll(
        self, frames: Float[Tensor, "B T C Y X"], state: PolicyState
    ) -> tuple[Float[Tensor, "B T A"], Float[Tensor, "B T"], PolicyState]:
        """Logits and values along a trajectory; the convolutions of all frames in one batch."""
        features = self.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        logits, values = [], []
        for t in range(frames.shape[1]):
            state = self.advance(features[:, t], state)
            step_logits, value = self.read_out(state)
            logits.append(step_logits)
            values.append(value)
        return torch.stack(logits, dim=1), torch.stack(values, dim=1), state
