"""Retentive network (Sun et al. 2023; REM section 3 and appendix A): attention without softmax, whose weights decay
with distance, and therefore also a recurrence over a state of fixed size. Retention itself is ``ops.retention``.

On a CPU imagination spends a third of its time between the matrix products. Therefore layers are functions of tensors
that are looked up once a rollout, work on merged rows, and overwrite what is not read again unless gradients are taken.
Shapes: D width, R rows (tokens), H heads, dk and dv widths of a head's keys and values; BR and BH are two dimensions
merged into one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone
from tokenworlds.config import RetNetConfig
from tokenworlds.ops.dropout import Dropout
from tokenworlds.ops.layer_norm import LayerNorm
from tokenworlds.ops.precision import without_autocast
from tokenworlds.ops.retention import Chunks, RetentionTables, pad_rows, retain, retain_and_query, split_and_rotate

EPSILON = 1e-6

# Queries and keys (BH, R, dk), values (BH, R, dv) -> outputs (BH, R, dv), state (B, H, dk, dv) after them
Retain = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# (first, count): of every ``count`` rows the outputs of those from ``first`` on are needed; None: of all
Rows = tuple[int, int] | None
Affine = tuple[Tensor, Tensor]  # weight and bias


class LayerTensors(NamedTuple):
    """Tensors of one layer. To find tensors in modules and to call modules takes longer than imagination can spare
    between products of a few hundred rows."""

    heads: int
    norm1: Affine
    query_key_value: Affine
    gate: Affine
    head_norm: Affine  # ones and zeros
    out: Affine
    norm2: Affine
    up: Affine
    down: Affine
    drop: Callable[[Tensor], Tensor]


@dataclass
class RetNetState:
    """One state (B, H, dk, dv) a layer after ``length`` tokens (a host integer, as it does not depend on data).
    ``step`` makes new ones and keeps these unchanged.

    The layers' tensors are looked up at the start: optimiser steps in place act on them, a replaced parameter or a
    change of training mode does not."""

    layers: tuple[Tensor, ...]
    length: int
    tensors: tuple[LayerTensors, ...]


class RetNetBackbone(Backbone[RetNetState]):
    def __init__(self, config: RetNetConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        if embed_dim % (2 * config.num_heads) or config.value_dim % (2 * config.num_heads):
            raise ValueError(
                f"channels are rotated in pairs: embed_dim and value_dim must be multiples of 2 num_heads, found "
                f"{embed_dim}, {config.value_dim} and {config.num_heads} heads."
            )
        self.config = config
        unit = block_size if config.memory_in_blocks else 1
        memories = (float(config.shortest_memory * unit), float(config.longest_memory * unit))
        self.tables = RetentionTables(config.num_heads, embed_dim // config.num_heads, memories, max_tokens, block_size)
        self.layers = nn.ModuleList(RetNetLayer(config, embed_dim) for _ in range(config.num_layers))

    def initialise(self) -> None:
        """Xavier normal for every matrix (queries, keys, values and gate one by one), biases 0."""
        for layer in self.layers:
            cast(RetNetLayer, layer).initialise()

    def repeat_first_layer(self) -> None:
        """Give all layers the weights of the first (``quirks.identical_layers``)."""
        for layer in self.layers[1:]:
            layer.load_state_dict(self.layers[0].state_dict())

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        chunks = self._chunks(0, x.shape[1])
        forms = [partial(retain, chunks=chunks)] * len(self.layers)
        h, _ = run_layers(pad_rows(x, chunks.count * chunks.size), self.tensors(), chunks.rotation, forms)
        return h[:, : x.shape[1]]

    def parallel_and_query(
        self, x: Float[Tensor, "B S D"], query_tokens: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """One pass, with the query tokens after their blocks."""
        self.check_query_tokens(x, query_tokens)
        n, k = self.block_size, query_tokens.shape[2]
        chunks = self._chunks(0, x.shape[1], n)
        blocks = chunks.rotation.unflatten(1, (-1, n))
        rotation = torch.cat([blocks, blocks[:, :, :k]], dim=2).flatten(1, 2)
        h = torch.cat([x.unflatten(1, (-1, n)), query_tokens], dim=2).flatten(1, 2)
        forms = [partial(retain, chunks=chunks)] * len(self.layers)
        h, _ = run_layers(h, self.tensors(), rotation, forms, (n - 1, n + k))
        last, predictions = h.unflatten(1, (-1, 1 + k)).split([1, k], dim=2)
        return last.squeeze(2), predictions

    def init_state(self, batch: int) -> RetNetState:
        heads = self.config.num_heads
        shape = (batch, heads, self.embed_dim // heads, self.config.value_dim // heads)
        return RetNetState(tuple(self.tables.decays.new_zeros(shape) for _ in self.layers), 0, self.tensors())

    def step(self, state: RetNetState, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], RetNetState]:
        chunks = self._chunks(state.length, x.shape[1])
        forms = [partial(retain, chunks=chunks, before=before) for before in state.layers]
        h, after = run_layers(pad_rows(x, chunks.count * chunks.size), state.tensors, chunks.rotation, forms)
        return h[:, : x.shape[1]], RetNetState(after, state.length + x.shape[1], state.tensors)

    def step_and_query(
        self, state: RetNetState, x: Float[Tensor, "B n D"], query_tokens: Float[Tensor, "B K D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K D"], RetNetState]:
        """Both as one chunk; as two steps if that chunk is too long for its decays."""
        n, count = x.shape[1], x.shape[1] + query_tokens.shape[1]
        if count > self.tables.scales.shape[1]:
            return super().step_and_query(state, x, query_tokens)
        chunk, decay = self._chunks(state.length, count, count), self.tables.decays[:, n, None, None]
        forms = [partial(retain_and_query, kept=n, decay=decay, before=before) for before in state.layers]
        h = torch.cat([x, query_tokens], dim=1)
        h, after = run_layers(h, state.tensors, chunk.rotation, forms, (n - 1, count))
        return h[:, 0], h[:, 1:], RetNetState(after, state.length + n, state.tensors)

    def tensors(self) -> tuple[LayerTensors, ...]:
        return tuple(cast(RetNetLayer, layer).tensors() for layer in self.layers)

    def _chunks(self, start: int, count: int, size: int | None = None) -> Chunks:
        self.check_room(start, start + count)
        return self.tables.chunks(start, count, size)


class RetNetLayer(nn.Module):
    """The parameters of ``run_layer``."""

    def __init__(self, config: RetNetConfig, width: int) -> None:
        super().__init__()
        self.heads, self.widths = config.num_heads, (width, width, config.value_dim)
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.query_key_value = nn.Linear(width, sum(self.widths))  # head by head
        self.gate = nn.Linear(width, config.value_dim)
        self.out = nn.Linear(config.value_dim, width)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.up = nn.Linear(width, config.hidden_dim)
        self.down = nn.Linear(config.hidden_dim, width)
        self.dropout = Dropout(config.dropout)
        self.head_norm = LayerNorm(config.value_dim // self.heads, EPSILON)

    @torch.no_grad()
    def initialise(self) -> None:
        width = self.gate.in_features
        projections = [torch.empty(rows, width) for rows in self.widths]
        for matrix in (*projections, self.gate.weight, self.out.weight, self.up.weight, self.down.weight):
            nn.init.xavier_normal_(matrix)
        self.query_key_value.weight.copy_(by_head(projections, self.heads))
        for linear in (self.query_key_value, self.gate, self.out, self.up, self.down):
            nn.init.zeros_(linear.bias)

    def tensors(self) -> LayerTensors:
        affine = (self.norm1, self.query_key_value, self.gate, self.head_norm, self.out, self.norm2, self.up, self.down)
        drop = self.dropout if self.dropout.training else _identity
        return LayerTensors._make((self.heads, *((part.weight, part.bias) for part in affine), drop))


def by_head(projections: Sequence[Float[Tensor, "_ *D"]], heads: int) -> Float[Tensor, "rows *D"]:
    """Rows of the projections to queries, keys and values (or of their biases) as a layer stores them: the rows of the
    first head, then those of the second, and so on."""
    return torch.cat([rows.unflatten(0, (heads, -1)) for rows in projections], dim=1).flatten(0, 1)


def run_layers(
    h: Float[Tensor, "B R D"],
    layers: Sequence[LayerTensors],
    rotation: Tensor,
    forms: Sequence[Retain],
    needed: Rows = None,
) -> tuple[Float[Tensor, "B r D"], tuple[Tensor, ...]]:
    """Outputs of the needed rows and the states of all layers; the other rows of the last layer only enter these."""
    batch, states = len(h), []
    h = h.flatten(0, 1)
    for layer, form in zip(layers, forms):
        h, state = run_layer(h, layer, rotation, form, needed if layer is layers[-1] else None)
        states.append(state)
    return h.unflatten(0, (batch, -1)), tuple(states)


def run_layer(
    x: Float[Tensor, "BR D"], layer: LayerTensors, rotation: Tensor, form: Retain, needed: Rows = None
) -> tuple[Float[Tensor, "Br D"], Tensor]:
    """Y = X + drop(MSR(LN(X))), then Y + FFN(LN(Y)) (Sun et al. 2023, equation 9)."""
    drop = layer.drop
    mixed, state = multi_scale_retention(normalise(x, layer.norm1), layer, rotation, form, needed)
    x = select_rows(x, 0, needed) + drop(mixed)
    hidden = drop(silu(F.linear(normalise(x, layer.norm2), *layer.up)))
    return torch.add(x, drop(F.linear(hidden, *layer.down)), out=reusable(x)), state


def multi_scale_retention(
    x: Float[Tensor, "BR D"],
    layer: LayerTensors,
    rotation: Complex[Tensor, "H R 2 half_dk"],
    form: Retain,
    needed: Rows = None,
) -> tuple[Float[Tensor, "Br D"], Tensor]:
    """W_O (swish(X W_G) * GroupNorm_h(heads)) (equation 8). Decays, states and norms are not touched by autocast."""
    projected = F.linear(x, *layer.query_key_value)
    gate = silu(F.linear(select_rows(x, 0, needed), *layer.gate))
    with without_autocast(x.device.type):
        o, state = form(*split_and_rotate(projected, rotation))
        o = normalise(select_rows(layer.drop(o), 1, needed), layer.head_norm)
        o = o.view(-1, layer.heads, *o.shape[1:]).transpose(1, 2)
        gate = gate.view(o.shape)
        gated = torch.mul(gate, o, out=reusable(gate)).reshape(-1, o.shape[2] * o.shape[3])
    return F.linear(gated, *layer.out), state


def normalise(x: Float[Tensor, "*B m"], norm: Affine) -> Float[Tensor, "*B m"]:
    return torch.layer_norm(x, norm[0].shape, *norm, EPSILON)


def select_rows(x: Tensor, dim: int, needed: Rows) -> Tensor:
    if needed is None:
        return x
    first, count = needed
    rows: Tensor = x.unflatten(dim, (-1, count))
    return rows.narrow(dim + 1, first, count - first).flatten(dim, dim + 1)


def reusable(x: Tensor) -> Tensor | None:
    """The memory of a tensor that is not read again, unless gradients need it."""
    return None if torch.is_grad_enabled() else x


def silu(x: Tensor) -> Tensor:
    """SiLU, in place unless gradients need x."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def _identity(x: Tensor) -> Tensor:
    return x
