"""Selective state space model (Mamba; Gu and Dao 2023, algorithm 2), in plain PyTorch: a linear recurrence whose step
size and input and output maps depend on the token.

Shapes: D width, E inner width, N states of a channel, k width of the convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone
from tokenworlds.config.backbones import MambaConfig
from tokenworlds.ops.precision import without_autocast

EPSILON = 1e-5
SMALLEST_STEP, LARGEST_STEP = 1e-3, 1e-1  # initial ones, even in their logarithm


@dataclass
class MambaState:
    """For every layer the last k - 1 inputs of its convolution (B, k - 1, E) and its states (B, N, E). ``step`` makes
    new ones and keeps these unchanged."""

    inputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]


class MambaBackbone(Backbone[MambaState]):
    def __init__(self, config: MambaConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        self.layers = nn.ModuleList(MambaLayer(config, embed_dim) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(embed_dim, eps=EPSILON)

    def initialise(self) -> None:
        """As the authors: torch's defaults, outputs of layers smaller by the root of their number,
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
        self.log_decay = nn.Parameter(torch.zeros(config.state_dim, inner))
        self.skip = nn.Parameter(torch.ones(inner))
        self.output = nn.Linear(inner, width, bias=False)

    @torch.no_grad()
    def initialise(self, layers: int) -> None:
        self.log_decay.copy_(torch.arange(1.0, 1 + len(self.log_decay)).log()[:, None])
        nn.init.ones_(self.skip)
        nn.init.uniform_(self.step_size.weight, -(self.ranks[0] ** -0.5), self.ranks[0] ** -0.5)
        steps = nn.init.uniform_(self.step_size.bias, math.log(SMALLEST_STEP), math.log(LARGEST_STEP)).exp()
        self.step_size.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus gives the step size back
        self.output.reset_parameters()
        self.output.weight.div_(layers**0.5)

    def init_state(self, batch: int) -> tuple[Tensor, Tensor]:
        states, inner = self.log_decay.shape
        width = self.convolution.kernel_size[0]
        return self.log_decay.new_zeros(batch, width - 1, inner), self.log_decay.new_zeros(batch, states, inner)

    def forward(
        self, x: Float[Tensor, "B n D"], inputs: Float[Tensor, "B past E"], states: Float[Tensor, "B N E"]
    ) -> tuple[Float[Tensor, "B n D"], Float[Tensor, "B past E"], Float[Tensor, "B N E"]]:
        u, z = self.input(self.norm(x)).chunk(2, dim=-1)
        inputs = torch.cat([inputs, u.to(inputs.dtype)], dim=1)
        u = F.silu(self.convolution(inputs.transpose(1, 2)).transpose(1, 2))
        step, write, read = self.selection(u).split(self.ranks, dim=-1)
        step = self.step_size(step)
        with without_autocast(x.device.type):  # errors would add up over the tokens
            u, step, write, read = (part.to(states.dtype) for part in (u, step, write, read))
            mixed, states = selective_scan(u, step, write, read, -self.log_decay.exp(), states)
            mixed = mixed + self.skip * u
        return x + self.output(mixed * F.silu(z)), inputs[:, x.shape[1] :], states


def selective_scan(
    u: Float[Tensor, "B n E"],
    step: Float[Tensor, "B n E"],
    write: Float[Tensor, "B n N"],
    read: Float[Tensor, "B n N"],
    decay: Float[Tensor, "N E"],
    before: Float[Tensor, "B N E"],
) -> tuple[Float[Tensor, "B n E"], Float[Tensor, "B N E"]]:
    """h_t = exp(d_t decay) h_{t-1} + d_t u_t write_t with d = softplus(step): the products of h_t with read_t, and the
    last h.

    The tokens are cut into chunks of about the root of n. What fills up the last one has a step size of 0, which leaves
    the state as it is.
    """
    count = u.shape[1]
    size = math.isqrt(count - 1) + 1
    cut = (F.pad(x, (0, 0, 0, -count % size)) for x in (u, F.softplus(step), write, read))
    mixed, last = SelectiveScan.apply(*cut, decay, before, size)
    return mixed[:, :count], last


class SelectiveScan(torch.autograd.Function):
    """States of all tokens are as large as the rest of a model together: they are computed again for the gradients, not
    kept, and overwritten where autograd alone would make new ones."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, step: Tensor, write: Tensor, read: Tensor, decay: Tensor, before: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(u, step, write, read, decay, before)
        ctx.size = size
        _, h = states_of(u, step, write, decay, before, size)
        return (read[..., None, :] @ h).squeeze(-2), h[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, of_mixed: Tensor, of_last: Tensor) -> tuple[Tensor | None, ...]:
        """The same recurrence from the end: the gradient of h_t is its own and exp(d_{t+1} decay) times that of
        h_{t+1}."""
        u, step, write, read, decay, before = ctx.saved_tensors
        kept, h = states_of(u, step, write, decay, before, ctx.size)
        following = torch.cat([kept[:, 1:], torch.ones_like(kept[:, :1])], dim=1)
        of_h = of_mixed[..., None, :] * read[..., None]
        advance(following, of_h, of_last, ctx.size, is_reversed=True)
        of_read = (h @ of_mixed[..., None]).squeeze(-1)
        of_write = (of_h @ (step * u)[..., None]).squeeze(-1)
        of_written = (write[..., None, :] @ of_h).squeeze(-2)
        of_before = kept[:, 0] * of_h[:, 0]
        of_exponent = kept.mul_(of_h).mul_(torch.cat([before[:, None], h[:, :-1]], dim=1))
        of_step = (of_exponent * decay).sum(dim=2) + of_written * u
        of_decay = (of_exponent * step[..., None, :]).sum(dim=(0, 1))
        return of_written * step, of_step, of_write, of_read, of_decay, of_before, None


def states_of(
    u: Tensor, step: Tensor, write: Tensor, decay: Tensor, before: Tensor, size: int
) -> tuple[Float[Tensor, "B n N E"], Float[Tensor, "B n N E"]]:
    """The factors between the states of all tokens, and these."""
    kept = (step[..., None, :] * decay).exp_()
    h = (step * u)[..., None, :] * write[..., None]
    advance(kept, h, before, size)
    return kept, h


def advance(
    factors: Float[Tensor, "B n N E"],
    h: Float[Tensor, "B n N E"],
    before: Float[Tensor, "B N E"],
    size: int,
    is_reversed: bool = False,
) -> None:
    """Add to each h, in place, its factor (from 0 to 1) times the one before it, in either direction.

    All chunks of ``size`` advance at once, from zero; then each gets, one after another, what comes from the one before
    it: 2 sqrt(n) operations in a row instead of n.
    """
    factors, h = factors.unflatten(1, (-1, size)), h.unflatten(1, (-1, size))
    direction = -1 if is_reversed else 1
    chunks, tokens = range(h.shape[1])[::direction], range(size)[::direction]
    products = factors.clone()
    for last, token in pairwise(tokens):
        h[:, :, token].addcmul_(factors[:, :, token], h[:, :, last])
        products[:, :, token].mul_(products[:, :, last])
    for chunk in chunks:
        h[:, chunk].addcmul_(products[:, chunk], before[:, None])
        before = h[:, chunk, tokens[-1]]
