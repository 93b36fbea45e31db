"""Retention in chunks of tokens, as fast as a matrix product, and the plain parallel form that it equals.

For one head of decay g, with queries and keys rotated by their position and keys divided by sqrt(dk) (Sun et al. 2023,
section 2),

    parallel    o_n = sum over m <= n of g^(n-m) (q_n . k_m) v_m
    recurrent   S_n = g S_(n-1) + k_n v_n^T,  o_n = q_n^T S_n.

The chunkwise form is between the two, for all chunks of N tokens at once. With i = 1..N counted inside a chunk,
q'_i = g^i q_i and k'_i = g^-i k_i (N is small enough for that), and S the state before the chunk,

    o_i = sum over j <= i of (q'_i . k'_j) v_j + q'_i^T S,      state after it = g^N (S + sum over j of k'_j v_j^T),

so that the states of T chunks follow from their sums by one triangular matrix of decays. Shapes: B batch, T chunks, N
tokens a chunk, R rows (the tokens of all chunks), H heads, dk and dv widths of a head's keys and values; BR and BH are
two dimensions merged into one. Where no gradients are taken, results overwrite inputs that are not read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.errors import UserError

CHUNK = 64  # tokens; scores inside a chunk then cost about as much as the states between chunks
RANGE = 1e18  # largest g^-i inside a chunk: its square still is a float32


@dataclass
class Chunks:
    """T chunks of N consecutive tokens, the last one perhaps padded: the constants that all layers share."""

    rotation: Complex[Tensor, "H R 2 half_dk"]  # of queries and of keys, times decay; 0 for padding
    between: Float[Tensor, "H T T"] | None  # g^(N (t - s)) for s < t, else 0; not needed for one chunk
    since_start: Float[Tensor, "H T 1 1"]  # g^(N t)
    last: Float[Tensor, "H 1 1"]  # g^n over the n tokens of the last chunk
    count: int  # T
    size: int  # N


class RetentionTables(nn.Module):
    """Rotations by position and powers of each head's decay 1 - 1/memory, the memories a geometric sequence. Computed
    in double precision and rounded once, to float32 or wider."""

    rotations: Float[Tensor, "max_tokens half_dk 2"]  # cosine and sine
    decays: Float[Tensor, "H exponents"]  # g^0, g^1, ...
    scales: Float[Tensor, "H N 2"]  # g^i of queries and g^-i / sqrt(dk) of keys, i = 1..N

    def __init__(
        self, heads: int, key_dim: int, memories: tuple[float, float], max_tokens: int, block_size: int
    ) -> None:
        """``memories`` are those of the first and the last head, in tokens.

        Raises:
            UserError: the shortest memory decays over a block by more than numbers can hold.
        """
        super().__init__()
        self.heads, self.half_dim, self.memories = heads, key_dim // 2, memories
        self.max_tokens, self.block_size = max_tokens, block_size
        if self._within_range(block_size) < block_size:
            raise UserError(
                f"retnet: a memory of {min(memories):g} tokens is too short for blocks of {block_size} tokens, over "
                f"which it may decay by a factor of {RANGE:g} at most; raise shortest_memory or longest_memory."
            )
        self.longest_chunk = self._within_range(max(CHUNK, block_size))
        self._tabulate(torch.empty(0))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RetentionTables:
        super()._apply(fn, recurse)
        self._tabulate(self.decays)  # instead of converting values that may have been rounded before
        return self

    def _within_range(self, tokens: int) -> int:
        """At most ``tokens``, fewer if a chunk of them decays by more than numbers can hold."""
        shortest = min(self.memories)
        longest = math.log(RANGE) / -math.log1p(-1 / shortest) if shortest > 1 else 0
        return min(tokens, int(longest))

    @torch.no_grad()
    def _tabulate(self, like: Tensor) -> None:
        dtype = torch.promote_types(like.dtype, torch.float32)
        wide: dict[str, Any] = {"dtype": torch.float64, "device": like.device}
        angles = torch.arange(self.max_tokens, **wide)[:, None] * 10_000 ** -torch.linspace(0, 1, self.half_dim, **wide)
        first, last = (math.log(1 / memory) for memory in self.memories)
        log_decays = torch.log1p(-torch.exp(torch.linspace(first, last, self.heads, **wide)))
        decays = torch.exp(log_decays[:, None] * torch.arange(self.max_tokens + self.longest_chunk, **wide))
        inside = decays[:, 1 : max(self.longest_chunk, self._within_range(2 * self.block_size)) + 1]
        tables = {
            "rotations": torch.stack([angles.cos(), angles.sin()], dim=-1),
            "decays": decays,
            "scales": torch.stack([inside, 1 / (inside * math.sqrt(2 * self.half_dim))], dim=-1),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(dtype), persistent=False)

    def chunks(self, start: int, count: int, size: int | None = None) -> Chunks:
        """Positions start..start+count-1 in chunks of ``size`` tokens, by default as few and as equal as possible."""
        size = size or -(-count // -(-count // self.longest_chunk))
        number = -(-count // size)
        padding = number * size - count
        turns = pad_rows(self.rotations[start : start + count].flatten(1), number * size).view(number, size, 1, -1, 2)
        rotation = torch.view_as_complex(turns) * self.scales[:, None, :size, :, None]
        powers, last = self.decays[:, : number * size : size], self.decays[:, size - padding]
        chunk = torch.arange(number, device=powers.device)
        between = powers[:, (chunk[:, None] - chunk).clamp(min=0)].tril(-1) if number > 1 else None
        return Chunks(rotation.flatten(1, 2), between, powers[..., None, None], last[:, None, None], number, size)


def pad_rows(x: Tensor, rows: int) -> Tensor:
    """Pad the last dimension but one with zeros to this size."""
    return x if rows == x.shape[-2] else F.pad(x, (0, 0, 0, rows - x.shape[-2]))


def split_and_rotate(
    projected: Float[Tensor, "BR m"], rotation: Complex[Tensor, "H R 2 half_dk"]
) -> tuple[Float[Tensor, "BH R dk"], Float[Tensor, "BH R dk"], Float[Tensor, "BH R dv"]]:
    """Queries, keys and values of all heads; queries and keys rotated and scaled, pairs of channels as complex
    numbers. Overwrites ``projected`` if one head needs no copy; no gradient reads it."""
    heads, rows, _, half = rotation.shape
    heads_apart = projected.view(-1, rows, heads, projected.shape[-1] // heads).transpose(1, 2).contiguous()
    x = heads_apart.to(rotation.dtype.to_real()).flatten(0, 1)
    torch.view_as_complex(x[..., : 4 * half].view(-1, heads, rows, 2, half, 2)).mul_(rotation)
    q, k, v = torch.split_with_sizes(x, (2 * half, 2 * half, x.shape[-1] - 4 * half), -1)
    return q, k, v


def retain(
    q: Float[Tensor, "BH R dk"],
    k: Float[Tensor, "BH R dk"],
    v: Float[Tensor, "BH R dv"],
    chunks: Chunks,
    before: Float[Tensor, "B H dk dv"] | None = None,
) -> tuple[Float[Tensor, "BH R dv"], Float[Tensor, "B H dk dv"]]:
    """Outputs, and the state after them, from the state before (None: empty).

    A chunk may have up to N more rows, those of query tokens: they read the state before the chunk and each other, and
    leave the state as it is.
    """
    size, shape, heads = chunks.size, v.shape, len(chunks.since_start)
    q, k, v = (tensor.view(len(tensor) * chunks.count, -1, tensor.shape[-1]) for tensor in (q, k, v))
    sums = torch.bmm(k[:, :size].mT, v[:, :size])
    sums = sums.view(-1, heads, chunks.count, *sums.shape[1:])
    initial = None if before is None else chunks.since_start * before.unsqueeze(2)
    if chunks.between is None:
        states = torch.zeros_like(sums) if initial is None else initial
    else:
        states = (chunks.between @ sums.flatten(-2)).view_as(sums)
        states = states if initial is None else states + initial
    streams = zip(q.split(size, dim=1), k.split(size, dim=1), v.split(size, dim=1))
    outputs = [retain_inside(*stream, states.flatten(0, 2)) for stream in streams]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return joined.view(shape), chunks.last * (states[:, :, -1] + sums[:, :, -1])


def retain_inside(
    q: Float[Tensor, "C n dk"], k: Float[Tensor, "C n dk"], v: Float[Tensor, "C n dv"], before: Float[Tensor, "C dk dv"]
) -> Float[Tensor, "C n dv"]:
    """Outputs of single chunks: what their tokens read from one another and from the states before them."""
    scores = torch.bmm(q, k.mT).tril_()
    return torch.bmm(q, before).baddbmm_(scores, v)


def retain_and_query(
    q: Float[Tensor, "BH R dk"],
    k: Float[Tensor, "BH R dk"],
    v: Float[Tensor, "BH R dv"],
    kept: int,
    decay: Float[Tensor, "H 1 1"],
    before: Float[Tensor, "B H dk dv"],
) -> tuple[Float[Tensor, "BH R dv"], Float[Tensor, "B H dk dv"]]:
    """Outputs of one chunk, and the state after its first ``kept`` tokens, over which it decays by ``decay``; the rest
    are query tokens."""
    states = before.flatten(0, 1)
    after = torch.bmm(k[:, :kept].mT, v[:, :kept]).add_(states).view_as(before).mul_(decay)
    return retain_inside(q, k, v, states), after


def retain_plainly(
    q: Float[Tensor, "B H R dk"],
    k: Float[Tensor, "B H R dk"],
    v: Float[Tensor, "B H R dv"],
    decay: Float[Tensor, "H"],
    positions: Int[Tensor, "R"],
    is_read: Bool[Tensor, "R R"],
) -> Float[Tensor, "B H R dv"]:
    """The reference form, ((Q K^T) * D) V with D_nm = g^(n-m) where n reads m, else 0; queries and keys are rotated and
    scaled, and not multiplied by powers of the decay."""
    distance = (positions[:, None] - positions).clamp(min=0)
    return (q @ k.mT * torch.where(is_read, decay[:, None, None] ** distance, 0)) @ v
