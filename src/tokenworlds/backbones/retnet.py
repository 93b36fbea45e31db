"""Retentive network: attention without softmax, whose weights decay with distance, and therefore also a recurrence over
a state of fixed size (REM section 3 and appendix A).

For one head of decay g, with queries and keys rotated by their position and keys divided by sqrt(dk),

    parallel    o_n = sum over m <= n of g^(n-m) (q_n . k_m) v_m
    recurrent   S_n = g S_(n-1) + k_n v_n^T,  o_n = q_n^T S_n.

The memory of a head is 1 / (1 - g) tokens; those of the heads lie evenly on a logarithmic scale.

What runs here lies between the two, for all chunks of N tokens at once. With i = 1..N counted inside a chunk,
q'_i = g^i q_i and k'_i = g^-i k_i (N is small enough for that), and S the state before the chunk,

    o_i = sum over j <= i of (q'_i . k'_j) v_j + q'_i^T S,      state after it = g^N (S + sum over j of k'_j v_j^T),

so that the states of T chunks follow from their sums by one triangular matrix of decays. Shapes: B batch, T chunks, N
tokens a chunk, R rows (the tokens of all chunks), D width, H heads, dk and dv widths of a head's keys and values; BR
and BH are two dimensions as one.

On a CPU imagination spends a third of its time between the matrix products. Therefore layers are functions of tensors
that are looked up once a rollout, work on BR rows, copy once, head by head, and write over what is not read again (most
of it where no gradients are taken).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone
from tokenworlds.config import RetNetConfig
from tokenworlds.errors import UserError
from tokenworlds.ops.dropout import Dropout
from tokenworlds.ops.layer_norm import Standardise

EPSILON = 1e-6
CHUNK = 64  # tokens; scores inside a chunk then cost about as much as the states between chunks
RANGE = 1e18  # of g^-i inside a chunk: its square still is a float32

# Queries and keys (BH, R, dk), values (BH, R, dv) -> outputs as the values, state (B, H, dk, dv) after them
Mix = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# Of every so many rows, those from this one on (first, count): the rows whose outputs anyone reads; None: all
Pick = tuple[int, int] | None
Affine = tuple[Tensor, Tensor]  # weight and bias


class Parts(NamedTuple):
    """What one layer computes with. A module takes longer to find its tensors, and to be called, than imagination can
    spare between products of a few hundred rows."""

    heads: int
    norm1: Affine
    query_key_value: Affine
    gate: Affine
    standard: Affine  # ones and zeros, for the norm of the heads
    out: Affine
    norm2: Affine
    up: Affine
    down: Affine
    drop: Callable[[Tensor], Tensor]


@dataclass
class RetNetState:
    """One state (B, H, dk, dv) a layer, after ``length`` tokens (a host integer: it does not depend on data). ``step``
    makes new ones and leaves these as they are.

    The layers' parts are those found at the start: optimiser steps in place are seen, a replaced parameter is not, nor
    a change to training."""

    layers: tuple[Tensor, ...]
    length: int
    parts: tuple[Parts, ...]


@dataclass
class Chunks:
    """Consecutive tokens cut into T chunks of N, the last one perhaps padded: what retention over them needs in every
    layer."""

    rotation: Complex[Tensor, "H R 2 half_dk"]  # of queries and of keys, times decay; 0 for padding
    between: Float[Tensor, "H T T"] | None  # g^(N (t - s)) for s < t, else 0; not needed for one chunk
    since_start: Float[Tensor, "H T 1 1"]  # g^(N t)
    last: Float[Tensor, "H 1 1"]  # g^n over the n tokens of the last chunk
    count: int  # T
    size: int  # N

    @property
    def rows(self) -> int:
        return self.count * self.size


class RetNetBackbone(Backbone[RetNetState]):
    rotations: Float[Tensor, "max_tokens half_dk 2"]  # cosine and sine
    decays: Float[Tensor, "H exponents"]  # g^0, g^1, ...
    scales: Float[Tensor, "H N 2"]  # g^i of queries and g^-i / sqrt(dk) of keys, i = 1..N

    def __init__(self, config: RetNetConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        if embed_dim % (2 * config.num_heads) or config.value_dim % (2 * config.num_heads):
            raise ValueError(
                f"channels are rotated in pairs: embed_dim and value_dim must be multiples of 2 num_heads, found "
                f"{embed_dim}, {config.value_dim} and {config.num_heads} heads."
            )
        self.config = config
        unit = block_size if config.memory_in_blocks else 1
        self.memories = (config.shortest_memory * unit, config.longest_memory * unit)  # tokens
        self.longest_chunk = self._longest_chunk()
        self.layers = nn.ModuleList(RetNetLayer(config, embed_dim) for _ in range(config.num_layers))
        self._tabulate()

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
        mixes = [partial(retain, chunks=chunks)] * len(self.layers)
        h, _ = run_layers(_pad(x, chunks.rows), self.parts(), chunks.rotation, mixes)
        return h[:, : x.shape[1]]

    def parallel_with_branches(
        self, x: Float[Tensor, "B S D"], suffix: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """One pass: behind every block its suffix."""
        self.check_branches(x, suffix)
        n, k = self.block_size, suffix.shape[2]
        chunks = self._chunks(0, x.shape[1], n)
        blocks = chunks.rotation.unflatten(1, (-1, n))
        rotation = torch.cat([blocks, blocks[:, :, :k]], dim=2).flatten(1, 2)
        h = torch.cat([x.unflatten(1, (-1, n)), suffix], dim=2).flatten(1, 2)
        mixes = [partial(retain, chunks=chunks)] * len(self.layers)
        h, _ = run_layers(h, self.parts(), rotation, mixes, (n - 1, n + k))
        last, branches = h.unflatten(1, (-1, 1 + k)).split([1, k], dim=2)
        return last.squeeze(2), branches

    def init_state(self, batch: int) -> RetNetState:
        heads = self.config.num_heads
        shape = (batch, heads, self.embed_dim // heads, self.config.value_dim // heads)
        return RetNetState(tuple(self.decays.new_zeros(shape) for _ in self.layers), 0, self.parts())

    def step(self, state: RetNetState, x: Float[Tensor, "B n D"]) -> tuple[Float[Tensor, "B n D"], RetNetState]:
        chunks = self._chunks(state.length, x.shape[1])
        mixes = [partial(retain, chunks=chunks, before=before) for before in state.layers]
        h, after = run_layers(_pad(x, chunks.rows), state.parts, chunks.rotation, mixes)
        return h[:, : x.shape[1]], RetNetState(after, state.length + x.shape[1], state.parts)

    def branch(
        self, state: RetNetState, x: Float[Tensor, "B n D"], suffix: Float[Tensor, "B K D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K D"], RetNetState]:
        """Both as one chunk, of which the suffix leaves nothing in the state; as ``step`` and ``step`` where that chunk
        would be too long for its decays."""
        n, count = x.shape[1], x.shape[1] + suffix.shape[1]
        if count > self.scales.shape[1]:
            return super().branch(state, x, suffix)
        chunk, decay = self._chunks(state.length, count, count), self.decays[:, n, None, None]
        mixes = [partial(retain_and_branch, kept=n, decay=decay, before=before) for before in state.layers]
        h = torch.cat([x, suffix], dim=1)
        h, after = run_layers(h, state.parts, chunk.rotation, mixes, (n - 1, count))
        return h[:, 0], h[:, 1:], RetNetState(after, state.length + n, state.parts)

    def parts(self) -> tuple[Parts, ...]:
        return tuple(cast(RetNetLayer, layer).parts() for layer in self.layers)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RetNetBackbone:
        super()._apply(fn, recurse)
        self._tabulate()  # instead of converting what may have been rounded before
        return self

    def _longest_chunk(self) -> int:
        """Tokens.

        Raises:
            UserError: the shortest memory decays over a block by more than numbers can hold.
        """
        if self._within_range(self.block_size) < self.block_size:
            raise UserError(
                f"retnet: a memory of {min(self.memories):g} tokens is too short for blocks of {self.block_size} "
                f"tokens, over which it may decay by a factor of {RANGE:g} at most; raise shortest_memory or "
                "longest_memory."
            )
        return self._within_range(max(CHUNK, self.block_size))

    def _within_range(self, tokens: int) -> int:
        """So many, or fewer if a chunk of them decays by more than numbers can hold."""
        shortest = min(self.memories)
        longest = math.log(RANGE) / -math.log1p(-1 / shortest) if shortest > 1 else 0
        return min(tokens, int(longest))

    @torch.no_grad()
    def _tabulate(self) -> None:
        """The constants, in double precision and then rounded to that of the states."""
        weight = next(self.parameters())
        heads, half = self.config.num_heads, self.embed_dim // self.config.num_heads // 2
        dtype = torch.promote_types(weight.dtype, torch.float32)
        wide: dict[str, Any] = {"dtype": torch.float64, "device": weight.device}
        angles = torch.arange(self.max_tokens, **wide)[:, None] * 10_000 ** -torch.linspace(0, 1, half, **wide)
        first, last = (math.log(1 / memory) for memory in self.memories)
        log_decays = torch.log1p(-torch.exp(torch.linspace(first, last, heads, **wide)))
        decays = torch.exp(log_decays[:, None] * torch.arange(self.max_tokens + self.longest_chunk, **wide))
        inside = decays[:, 1 : max(self.longest_chunk, self._within_range(2 * self.block_size)) + 1]
        tables = {
            "rotations": torch.stack([angles.cos(), angles.sin()], dim=-1),
            "decays": decays,
            "scales": torch.stack([inside, 1 / (inside * math.sqrt(2 * half))], dim=-1),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(dtype), persistent=False)

    def _chunks(self, start: int, count: int, size: int | None = None) -> Chunks:
        """Positions start..start+count-1 in chunks of ``size`` tokens, by default as few and as equal as possible."""
        self.check_room(start, start + count)
        size = size or -(-count // -(-count // self.longest_chunk))
        number = -(-count // size)
        padding = number * size - count
        turns = _pad(self.rotations[start : start + count].flatten(1), number * size).view(number, size, 1, -1, 2)
        rotation = torch.view_as_complex(turns) * self.scales[:, None, :size, :, None]
        powers, last = self.decays[:, : number * size : size], self.decays[:, size - padding]
        chunk = torch.arange(number, device=powers.device)
        between = powers[:, (chunk[:, None] - chunk).clamp(min=0)].tril(-1) if number > 1 else None
        return Chunks(
            rotation.flatten(1, 2), between, powers[..., None, None], last[:, None, None], count=number, size=size
        )


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
        self.standardise = Standardise(config.value_dim // self.heads, EPSILON)

    @torch.no_grad()
    def initialise(self) -> None:
        width = self.gate.in_features
        projections = [torch.empty(rows, width) for rows in self.widths]
        for matrix in (*projections, self.gate.weight, self.out.weight, self.up.weight, self.down.weight):
            nn.init.xavier_normal_(matrix)
        self.query_key_value.weight.copy_(by_head(projections, self.heads))
        for linear in (self.query_key_value, self.gate, self.out, self.up, self.down):
            nn.init.zeros_(linear.bias)

    def parts(self) -> Parts:
        affine = (self.norm1, self.query_key_value, self.gate, self.out, self.norm2, self.up, self.down)
        norm1, query_key_value, gate, out, norm2, up, down = ((part.weight, part.bias) for part in affine)
        standard = (self.standardise.ones, self.standardise.zeros)
        drop = self.dropout if self.dropout.training else _keep
        return Parts(self.heads, norm1, query_key_value, gate, standard, out, norm2, up, down, drop)


def by_head(projections: Sequence[Float[Tensor, "_ *D"]], heads: int) -> Float[Tensor, "rows *D"]:
    """Rows of the projections to queries, keys and values (or of their biases) as a layer holds them: those of the
    first head, then those of the second, and so on."""
    return torch.cat([rows.unflatten(0, (heads, -1)) for rows in projections], dim=1).flatten(0, 1)


def run_layers(
    h: Float[Tensor, "B R D"], layers: Sequence[Parts], rotation: Tensor, mixes: Sequence[Mix], pick: Pick = None
) -> tuple[Float[Tensor, "B r D"], tuple[Tensor, ...]]:
    """Outputs of the picked rows and the states of all layers; in the last layer the others leave only those."""
    batch, states = len(h), []
    h = h.flatten(0, 1)
    for parts, mix in zip(layers, mixes):
        h, state = run_layer(h, parts, rotation, mix, pick if parts is layers[-1] else None)
        states.append(state)
    return h.unflatten(0, (batch, -1)), tuple(states)


def run_layer(
    x: Float[Tensor, "BR D"], parts: Parts, rotation: Tensor, mix: Mix, pick: Pick = None
) -> tuple[Float[Tensor, "Br D"], Tensor]:
    """x <- x + drop(retention(norm(x))); x <- x + mlp(norm(x))."""
    drop = parts.drop
    mixed, state = retention(normalise(x, parts.norm1), parts, rotation, mix, pick)
    x = picked(x, 0, pick) + drop(mixed)
    hidden = drop(silu(F.linear(normalise(x, parts.norm2), *parts.up)))
    return torch.add(x, drop(F.linear(hidden, *parts.down)), out=place_of(x)), state


def retention(
    x: Float[Tensor, "BR D"], parts: Parts, rotation: Complex[Tensor, "H R 2 half_dk"], mix: Mix, pick: Pick = None
) -> tuple[Float[Tensor, "Br D"], Tensor]:
    """Gated retention: every head's output is standardised, multiplied by SiLU(gate(x)) and projected. Decays, states
    and norms are not touched by autocast."""
    projected = F.linear(x, *parts.query_key_value)
    gate = silu(F.linear(picked(x, 0, pick), *parts.gate))
    with without_autocast(x.device.type):
        o, state = mix(*rotated(projected, rotation))
        o = normalise(picked(parts.drop(o), 1, pick), parts.standard)
        o = o.view(-1, parts.heads, *o.shape[1:]).transpose(1, 2)
        gate = gate.view(o.shape)
        gated = torch.mul(gate, o, out=place_of(gate)).reshape(-1, o.shape[2] * o.shape[3])
    return F.linear(gated, *parts.out), state


def rotated(
    projected: Float[Tensor, "BR m"], rotation: Complex[Tensor, "H R 2 half_dk"]
) -> tuple[Float[Tensor, "BH R dk"], Float[Tensor, "BH R dk"], Float[Tensor, "BH R dv"]]:
    """Queries, keys and values of all heads; queries and keys turned and scaled, pairs of channels as complex
    numbers. Writes over ``projected`` where one head needs no copy; no gradient reads that."""
    heads, rows, _, half = rotation.shape
    heads_apart = projected.view(-1, rows, heads, projected.shape[-1] // heads).transpose(1, 2).contiguous()
    x = heads_apart.to(rotation.dtype.to_real()).flatten(0, 1)
    torch.view_as_complex(x[..., : 4 * half].view(-1, heads, rows, 2, half, 2)).mul_(rotation)
    q, k, v = torch.split_with_sizes(x, (2 * half, 2 * half, x.shape[-1] - 4 * half), -1)
    return q, k, v


def normalise(x: Float[Tensor, "*B m"], norm: Affine) -> Float[Tensor, "*B m"]:
    out: Tensor = torch.layer_norm(x, norm[0].shape, *norm, EPSILON)
    return out


def picked(x: Tensor, dim: int, pick: Pick) -> Tensor:
    """The picked ones along a dimension of rows."""
    if pick is None:
        return x
    first, count = pick
    rows: Tensor = x.unflatten(dim, (-1, count))
    return rows.narrow(dim + 1, first, count - first).flatten(dim, dim + 1)


def place_of(x: Tensor) -> Tensor | None:
    """Where a result may go when nothing reads x again: in its place, unless gradients will."""
    return None if torch.is_grad_enabled() else x


def silu(x: Tensor) -> Tensor:
    """In the place of x, unless gradients will read it."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def without_autocast(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def retain(
    q: Float[Tensor, "BH R dk"],
    k: Float[Tensor, "BH R dk"],
    v: Float[Tensor, "BH R dv"],
    chunks: Chunks,
    before: Float[Tensor, "B H dk dv"] | None = None,
) -> tuple[Float[Tensor, "BH R dv"], Float[Tensor, "B H dk dv"]]:
    """Outputs, and the state after them, from the state before (None: empty).

    A chunk may have more rows than N: behind its own tokens those of a suffix, N at most, which read the state before
    the chunk and leave no trace.
    """
    size, shape, heads = chunks.size, v.shape, len(chunks.since_start)
    q, k, v = (tensor.view(len(tensor) * chunks.count, -1, tensor.shape[-1]) for tensor in (q, k, v))
    sums = torch.bmm(k[:, :size].mT, v[:, :size])
    sums = sums.view(-1, heads, chunks.count, *sums.shape[1:])
    given = None if before is None else chunks.since_start * before.unsqueeze(2)
    if chunks.between is None:
        states = torch.zeros_like(sums) if given is None else given
    else:
        states = (chunks.between @ sums.flatten(-2)).view_as(sums)
        states = states if given is None else states + given
    streams = zip(q.split(size, dim=1), k.split(size, dim=1), v.split(size, dim=1))
    outputs = [retain_inside(*stream, states.flatten(0, 2)) for stream in streams]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return joined.view(shape), chunks.last * (states[:, :, -1] + sums[:, :, -1])


def retain_inside(
    q: Float[Tensor, "C n dk"],
    k: Float[Tensor, "C n dk"],
    v: Float[Tensor, "C n dv"],
    before: Float[Tensor, "C dk dv"],
) -> Float[Tensor, "C n dv"]:
    """Outputs of chunks: what their tokens read from one another, and from the states before them."""
    scores = torch.bmm(q, k.mT).tril_()
    return torch.bmm(q, before).baddbmm_(scores, v)


def retain_and_branch(
    q: Float[Tensor, "BH R dk"],
    k: Float[Tensor, "BH R dk"],
    v: Float[Tensor, "BH R dv"],
    kept: int,
    decay: Float[Tensor, "H 1 1"],
    before: Float[Tensor, "B H dk dv"],
) -> tuple[Float[Tensor, "BH R dv"], Float[Tensor, "B H dk dv"]]:
    """Outputs of one chunk, and the state after its first ``kept`` tokens, over which it decays by ``decay``."""
    states = before.flatten(0, 1)
    after = torch.bmm(k[:, :kept].mT, v[:, :kept]).add_(states).view_as(before).mul_(decay)
    return retain_inside(q, k, v, states), after


def _pad(x: Tensor, rows: int) -> Tensor:
    """Zeros behind the tokens (the last dimension but one), up to this many."""
    return x if rows == x.shape[-2] else F.pad(x, (0, 0, 0, rows - x.shape[-2]))


def _keep(x: Tensor) -> Tensor:
    return x
