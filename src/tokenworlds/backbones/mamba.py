"""Selective state space model (Mamba; Gu and Dao 2023, algorithm 2), in plain PyTorch: a linear recurrence whose step
size and input and output maps depend on the token.

Shapes: D width, E inner width, N states of a channel, k width of the convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tokenworlds.backbones.base import Backbone
from tokenworlds.config.backbones import MambaConfig
from tokenworlds.ops.precision import without_autocast

EPSILON = 1e-5
SMALLEST_STEP, LARGEST_STEP = 1e-3, 1e-1  # initial ones, even in their logarithm


@dataclass
class MambaState:
    """For every layer the last k - 1 inputs of its convolution (B, k - 1, E) and its states (B, E, N). ``step`` makes
    new ones and keeps these unchanged."""

    inputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]


class MambaBackbone(Backbone[MambaState]):
    def __init__(self, config: MambaConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        self.layers = nn.ModuleList(MambaLayer(config, embed_dim) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(embed_dim, eps=EPSILON)

    def initialise(self) -> None:
        """As the authors: torch's defaults of construction, outputs of layers smaller by the root of their number,
        decays -1 to -N, step sizes from 0.001 to 0.1."""
        for layer in self.layers:
            cast(MambaLayer, layer).initialise(len(self.layers))

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self.step(self.init_state(len(x)), x)[0]

    def init_state(self, batch: int) -> MambaState:
        zeros = [cast(MambaLayer, layer).init_state(batch) for layer in self.layers]
        return MambaState(*zip(*zeros))

    def step(self, state: MambaState, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], MambaState]:
        after = []
        for layer, inputs, states in zip(self.layers, state.inputs, state.states):
            x, *own = layer(x, inputs, states)
            after.append(own)
        return self.norm(x), MambaState(*zip(*after))


class MambaLayer(nn.Module):
    """x + W_out (scan(silu(conv(u))) * silu(z)), where u and z are projections of norm(x)."""

    def __init__(self, config: MambaConfig, width: int) -> None:
        super().__init__()
        inner = config.expand * width
        self.ranks = (config.step_rank, config.state_dim, config.state_dim)
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        self.input = nn.Linear(width, 2 * inner, bias=False)
        self.convolution = nn.Conv1d(inner, inner, config.conv_width, groups=inner)
        self.selection = nn.Linear(inner, sum(self.ranks), bias=False)  # step size, input and output map
        self.step_size = nn.Linear(config.step_rank, inner)
        self.log_decay = nn.Parameter(torch.zeros(inner, config.state_dim))
        self.skip = nn.Parameter(torch.ones(inner))
        self.output = nn.Linear(inner, width, bias=False)

    @torch.no_grad()
    def initialise(self, layers: int) -> None:
        self.log_decay.copy_(torch.arange(1.0, 1 + self.log_decay.shape[1]).log())
        nn.init.ones_(self.skip)
        nn.init.uniform_(self.step_size.weight, -(self.ranks[0] ** -0.5), self.ranks[0] ** -0.5)
        steps = nn.init.uniform_(self.step_size.bias, math.log(SMALLEST_STEP), math.log(LARGEST_STEP)).exp()
        self.step_size.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus gives the step size back
        self.output.weight.div_(layers**0.5)

    def init_state(self, batch: int) -> tuple[Tensor, Tensor]:
        inner, states = self.log_decay.shape
        width = self.convolution.kernel_size[0]
        return self.log_decay.new_zeros(batch, width - 1, inner), self.log_decay.new_zeros(batch, inner, states)

    def forward(
        self, x: Float[Tensor, "B n D"], inputs: Float[Tensor, "B past E"], states: Float[Tensor, "B E N"]
    ) -> tuple[Float[Tensor, "B n D"], Float[Tensor, "B past E"], Float[Tensor, "B E N"]]:
        u, z = self.input(self.norm(x)).chunk(2, dim=-1)
        inputs = torch.cat([inputs, u.to(inputs.dtype)], dim=1)
        u = F.silu(self.convolution(inputs.transpose(1, 2)).transpose(1, 2))
        step, write, read = self.selection(u).split(self.ranks, dim=-1)
        step = self.step_size(step)
        with without_autocast(x.device.type):  # errors would add up over the tokens
            tensors = (part.to(states.dtype) for part in (u, step, write, read))
            arguments = (*tensors, -self.log_decay.exp(), states)
            if torch.is_grad_enabled():  # the states of all tokens are computed again, not kept
                mixed, states = checkpoint(selective_scan, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                mixed, states = selective_scan(*arguments)
            mixed = mixed + self.skip * u
        return x + self.output(mixed * F.silu(z)), inputs[:, x.shape[1] :], states


def selective_scan(
    u: Float[Tensor, "B n E"],
    step: Float[Tensor, "B n E"],
    write: Float[Tensor, "B n N"],
    read: Float[Tensor, "B n N"],
    decay: Float[Tensor, "E N"],
    before: Float[Tensor, "B E N"],
) -> tuple[Float[Tensor, "B n E"], Float[Tensor, "B E N"]]:
    """h_t = exp(d_t decay) h_{t-1} + d_t u_t write_t with d = softplus(step): the products of h_t with read_t, and the
    last h.

    The tokens are cut into chunks of about the root of their number. First all chunks advance at once, from zero; then
    the states between them one after another: 2 sqrt(n) operations in a row instead of n. Every factor is at most 1.
    """
    count = u.shape[1]
    size = math.isqrt(count - 1) + 1
    # What fills the last chunk has a step size of 0, which leaves the state as it is
    cut = [F.pad(x, (0, 0, 0, -count % size)).unflatten(1, (-1, size)) for x in (F.softplus(step), u, write, read)]
    step, u, write, read = cut
    written = (step * u)[..., None] * write[..., None, :]
    kept = (step[..., None] * decay).exp()
    within, h = [], torch.zeros_like(written[:, :, 0])
    for factor, term in zip(kept.unbind(2), written.unbind(2)):
        h = torch.addcmul(term, factor, h)
        within.append(h)
    since_start = (step.cumsum(dim=2)[..., None] * decay).exp()  # factor from the chunk's start to each of its tokens
    starts = [before]
    for factor, term in zip(since_start[:, :, -1].unbind(1), within[-1].unbind(1)):
        starts.append(torch.addcmul(term, factor, starts[-1]))
    h = torch.addcmul(torch.stack(within, dim=2), since_start, torch.stack(starts[:-1], dim=1)[:, :, None])
    mixed = (h @ read[..., None]).squeeze(-1)
    return mixed.flatten(1, 2)[:, :count], starts[-1]
