"""Closed-form continuous-time cells (Hasani et al. 2022), dense or over the wiring of a neural circuit policy: token
after token, a state of fixed size.

A cell has three stages (inter, command and motor neurons), each of which reads the one before it and itself:
f = tanh((W1 * M) c + b1), g = tanh((W2 * M) c + b2), s = sigmoid((Wa c + ba) dt + Wb c + bb) of its inputs u and its
state h, c = [u, h]; the new state is (1 - s) f + s g. M is 1 where the wiring has a connection, and on the stage's own
state. The time dt between two tokens is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone
from tokenworlds.backbones.wiring import auto_ncp, stage_sizes
from tokenworlds.config.backbones import CfCConfig
from tokenworlds.ops.dropout import Dropout
from tokenworlds.ops.precision import without_autocast

TIME_GAP = 1.0

StageWeights = tuple[Tensor, Tensor, Tensor]  # of the inputs, of the state, biases: for f, g and the argument of s


@dataclass
class CfCState:
    """The state (B, neurons) of every stage of every layer after ``length`` tokens (a host integer). ``step`` makes new
    ones and keeps these unchanged.

    The weights are masked and added at the start: what an optimiser does afterwards has no effect on them.
    """

    hidden: tuple[Tensor, ...]
    length: int
    weights: tuple[StageWeights, ...]


class CfCStage(nn.Module):
    """Neurons that read ``inputs`` numbers and each other; without ``connections`` they read all inputs."""

    mask: Bool[Tensor, "size inputs_size"] | None

    def __init__(self, inputs: int, size: int, connections: Bool[Tensor, "size inputs"] | None = None) -> None:
        super().__init__()
        self.inputs, self.size = inputs, size
        self.first, self.second, self.rate, self.shift = (nn.Linear(inputs + size, size) for _ in range(4))
        mask = None if connections is None else F.pad(connections, (0, size), value=True)
        self.register_buffer("mask", mask, persistent=False)

    def initialise(self) -> None:
        """Xavier uniform matrices; biases keep torch's defaults of construction."""
        for linear in (self.first, self.second, self.rate, self.shift):
            nn.init.xavier_uniform_(linear.weight)

    def weights(self) -> StageWeights:
        """The four linear maps as one: those of f and g masked, those of s added."""
        first, second = self.first.weight, self.second.weight
        if self.mask is not None:
            first, second = first * self.mask, second * self.mask
        weight = torch.cat([first, second, torch.add(self.shift.weight, self.rate.weight, alpha=TIME_GAP)])
        bias = torch.cat(
            [self.first.bias, self.second.bias, torch.add(self.shift.bias, self.rate.bias, alpha=TIME_GAP)]
        )
        of_inputs, of_state = weight.split([self.inputs, self.size], dim=1)
        return of_inputs, of_state.T, bias


def run_stage(
    u: Float[Tensor, "B n inputs"], h: Float[Tensor, "B size"], weights: StageWeights
) -> tuple[Float[Tensor, "B n size"], Float[Tensor, "B size"]]:
    """The states after each of n tokens, and the last of them."""
    of_inputs, of_state, bias = weights
    states = []
    for driven in F.linear(u, of_inputs, bias).unbind(1):
        f, g, s = torch.addmm(driven, h, of_state).chunk(3, dim=-1)
        h = torch.lerp(f.tanh(), g.tanh(), s.sigmoid())
        states.append(h)
    return torch.stack(states, dim=1), h


class CfCLayer(nn.Module):
    """Layer norm, a cell of three stages, dropout; no residual connection. The motor neurons are the outputs."""

    def __init__(self, config: CfCConfig, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        sizes = stage_sizes(config.hidden_dim, width)
        connections: Sequence[Tensor | None] = [None] * len(sizes)
        if config.sparsity is not None:
            wiring = auto_ncp(width, config.hidden_dim, width, config.sparsity, config.wiring_seed)
            connections = [torch.tensor(part) for part in wiring]
        self.stages = nn.ModuleList(map(CfCStage, (width, *sizes), sizes, connections))
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "B n D"], hidden: Sequence[Tensor], weights: Sequence[StageWeights]
    ) -> tuple[Float[Tensor, "B n D"], list[Tensor]]:
        """Outputs, and the stages' states after them. The cell is not touched by autocast: errors would add up over the
        tokens."""
        h, after = self.norm(x), []
        with without_autocast(x.device.type):
            h = h.to(hidden[0].dtype)
            for state, part in zip(hidden, weights):
                h, last = run_stage(h, state, part)
                after.append(last)
        return self.dropout(h), after


class CfCBackbone(Backbone[CfCState]):
    def __init__(self, config: CfCConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        self.positions = nn.Embedding(block_size, embed_dim) if config.block_positions else None
        self.layers = nn.ModuleList(CfCLayer(config, embed_dim) for _ in range(config.num_layers))

    @property
    def stages(self) -> list[CfCStage]:
        return [cast(CfCStage, stage) for layer in self.layers for stage in cast(CfCLayer, layer).stages]

    def initialise(self) -> None:
        """Xavier uniform matrices, positions N(0, 0.02^2)."""
        for stage in self.stages:
            stage.initialise()
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self.step(self.init_state(len(x)), x)[0]

    def init_state(self, batch: int) -> CfCState:
        hidden = tuple(stage.first.weight.new_zeros(batch, stage.size) for stage in self.stages)
        return CfCState(hidden, 0, tuple(stage.weights() for stage in self.stages))

    def step(self, state: CfCState, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], CfCState]:
        stop, per_layer, after = state.length + x.shape[1], len(state.hidden) // len(self.layers), []
        if self.positions is not None:
            # A sequence ends with a whole block, whatever precedes the first one
            places = torch.arange(state.length - self.max_tokens, stop - self.max_tokens, device=x.device)
            x = x + self.positions(places % self.block_size)
        for index, layer in enumerate(self.layers):
            own = slice(index * per_layer, (index + 1) * per_layer)
            x, hidden = layer(x, state.hidden[own], state.weights[own])
            after += hidden
        return x, CfCState(tuple(after), stop, state.weights)
