"""GPT-style transformer with absolute positions and a static key/value cache (IRIS section 2.2, appendix A.2), and the
form of Simulus-A: rotary positions, norms after the layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone, initialise_gpt
from tokenworlds.config import Attention, Norm, Positions, SuffixAttention, TransformerConfig
from tokenworlds.errors import UserError
from tokenworlds.ops.dropout import Dropout


@dataclass
class TransformerState:
    """Cache (layers, B, heads, max_tokens, head width), filled up to ``length``.

    ``length`` is a host integer: the order of calls does not depend on data, so a captured rollout holds it as a
    constant.
    """

    keys: Tensor
    values: Tensor
    length: int


def waves(positions: int, width: int, base: float = 10_000) -> Float[Tensor, "positions half_width 2"]:
    """Cosine and sine of position times base^(-2i/width).

    Raises:
        UserError: an odd width.
    """
    if width % 2:
        raise UserError(
            f"transformer: positions that are not learned need an even width (rotary: of a head), not {width}."
        )
    exponents = -2 / width * torch.arange(width // 2, dtype=torch.float64)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * base**exponents
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


class ConstantEmbedding(nn.Module):
    """Constants with the interface of an embedding, not part of the state dict."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)


class TransformerBackbone(Backbone[TransformerState]):
    def __init__(self, config: TransformerConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        super().__init__(embed_dim, max_tokens, block_size)
        self.config = config
        self.is_causal = config.attention is Attention.causal
        self.is_rotary = config.positions is Positions.rotary
        self.positions: nn.Embedding | ConstantEmbedding  # a row a position: what is added to the inputs, or a rotation
        match config.positions:
            case Positions.learned:
                self.positions = nn.Embedding(max_tokens, embed_dim)
            case Positions.sinusoidal:
                self.positions = ConstantEmbedding(waves(max_tokens, embed_dim).flip(-1).flatten(1))
            case Positions.rotary:
                self.positions = ConstantEmbedding(waves(max_tokens, embed_dim // config.num_heads))
        self.dropout = Dropout(config.embed_dropout)
        is_post_norm = config.norm is Norm.post
        block = PostNormBlock if is_post_norm else TransformerBlock
        self.blocks = nn.ModuleList(block(config, embed_dim) for _ in range(config.num_layers))
        self.norm: nn.Module = nn.Identity() if is_post_norm else nn.LayerNorm(embed_dim)
        self.pre_proj: nn.Module = nn.Identity()  # a place for what ``adaptation`` adds, like the next
        self.post_proj: nn.Module = nn.Identity()
        self.cache_heads = config.num_heads

    def initialise(self) -> None:
        """GPT's weights, layer norms 1 and 0; the form with norms after the layers keeps torch's defaults of
        construction."""
        if self.config.norm is Norm.pre:
            self.apply(initialise_gpt)

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self._run(x, self.positions.weight[: x.shape[1]], self._mask(0, x.shape[1], x.device))

    def parallel_and_query(
        self, x: Float[Tensor, "B S D"], query_tokens: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T K D"]]:
        """One pass over the sequence followed by all query tokens, under a mask."""
        self.check_query_tokens(x, query_tokens)
        length, (blocks, tokens) = x.shape[1], query_tokens.shape[1:3]
        positions = torch.arange(length, device=x.device)
        positions = torch.cat([positions, positions.view(blocks, self.block_size)[:, :tokens].flatten()])
        out = self._run(
            torch.cat([x, query_tokens.flatten(1, 2)], dim=1),
            self.positions.weight[positions],
            self._mask_with_queries(positions, length),
        )
        return out[:, self.block_size - 1 : length : self.block_size], out[:, length:].unflatten(1, (blocks, tokens))

    def init_state(self, batch: int) -> TransformerState:
        config, like = self.config, next(self.parameters())
        shape = (config.num_layers, batch, self.cache_heads, self.max_tokens, self.embed_dim // config.num_heads)
        device = like.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        return TransformerState(like.new_zeros(shape, dtype=dtype), like.new_zeros(shape, dtype=dtype), 0)

    def step(
        self, state: TransformerState, x: Float[Tensor, "B n D"]
    ) -> tuple[Float[Tensor, "B n D"], TransformerState]:
        stop = state.length + x.shape[1]
        return self._extend(state, x, stop), TransformerState(state.keys, state.values, stop)

    def step_and_query(
        self, state: TransformerState, x: Float[Tensor, "B n D"], query_tokens: Float[Tensor, "B K D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K D"], TransformerState]:
        """One pass: the query tokens are cached after x, where the next ``step`` overwrites them."""
        count, stop = x.shape[1], state.length + x.shape[1]
        out = self._extend(state, torch.cat([x, query_tokens], dim=1), stop)
        return out[:, count - 1], out[:, count:], TransformerState(state.keys, state.values, stop)

    def _extend(self, state: TransformerState, x: Tensor, first_query: int) -> Tensor:
        """Outputs of the tokens after the state; those before position ``first_query`` attend to none from there on."""
        start, stop = state.length, state.length + x.shape[1]
        self.check_room(start, stop)
        mask = self._mask(start, stop, x.device, first_query)
        cache = (state.keys[..., :stop, :], state.values[..., :stop, :])
        return self._run(x, self.positions.weight[start:stop], mask, cache)

    def _run(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, cache: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        h = self.pre_proj(self.dropout(x if self.is_rotary else x + positions))
        rotation = positions if self.is_rotary else None
        for layer, block in enumerate(self.blocks):
            h = block(h, mask, rotation, None if cache is None else (cache[0][layer], cache[1][layer]))
        return self.post_proj(self.norm(h))

    def _mask(
        self, start: int, stop: int, device: torch.device, first_query: int | None = None
    ) -> Bool[Tensor, "n S"] | None:
        """Rows [start, stop) of the attention mask over columns [0, stop), with query tokens from ``first_query`` on;
        None where plain causal attention from 0 applies, or nothing is hidden."""
        first_query = stop if first_query is None else first_query
        is_plain = self.is_causal and (first_query == stop or not self._queries_attend_to_all)
        if is_plain and (start == 0 or stop - start == 1):
            return None
        rows, columns = torch.arange(start, stop, device=device)[:, None], torch.arange(stop, device=device)[None]
        visible = self._is_visible(rows, columns)
        if is_plain:
            return visible
        is_query = rows >= first_query
        among_queries = is_query if self._queries_attend_to_all else is_query & visible
        return torch.where(columns >= first_query, among_queries, visible)

    def _mask_with_queries(self, positions: Int[Tensor, "n"], length: int) -> Bool[Tensor, "n n"]:
        """Over the ``length`` tokens of whole blocks, followed by the query tokens of all blocks."""
        is_query = torch.arange(len(positions), device=positions.device) >= length
        rows, columns = positions[:, None], positions[None]
        is_same_block, visible = self._is_same_block(rows, columns), self._is_visible(rows, columns)
        own = is_same_block if self._queries_attend_to_all else is_same_block & visible
        of_queries = torch.where(is_query[None], own, (rows > columns) & ~is_same_block)
        return torch.where(is_query[:, None], of_queries, visible & ~is_query[None])

    @property
    def _queries_attend_to_all(self) -> bool:
        return self.config.suffix_attention is SuffixAttention.full

    def _is_visible(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether a position attends to another of the same sequence."""
        causal = rows >= columns
        return causal if self.is_causal else causal | self._is_same_block(rows, columns)

    def _is_same_block(self, rows: Tensor, columns: Tensor) -> Tensor:
        return rows // self.block_size == columns // self.block_size


class TransformerBlock(nn.Module):
    """x <- x + drop(attention(norm(x))); x <- x + drop(W2 gelu(W1 norm(x))), exact GELU, hidden width 4 D."""

    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.attention = SelfAttention(config, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), Dropout(config.residual_dropout)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, rotation: Tensor | None, cache: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        x = x + self.attention(self.norm1(x), mask, rotation, cache)
        return x + self.mlp(self.norm2(x))


class PostNormBlock(TransformerBlock):
    """x <- norm(x + drop(attention(x))); x <- norm(x + drop(W2 gelu(W1 x)))."""

    def forward(
        self, x: Tensor, mask: Tensor | None, rotation: Tensor | None, cache: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        x = self.norm1(x + self.attention(x, mask, rotation, cache))
        return self.norm2(x + self.mlp(x))


class SelfAttention(nn.Module):
    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention_dropout = config.attention_dropout
        self.query_key_value = nn.Linear(width, 3 * width, bias=config.attention_bias)
        self.projection = nn.Linear(width, width, bias=config.attention_bias)
        self.dropout = Dropout(config.residual_dropout)

    def forward(
        self,
        x: Float[Tensor, "B n D"],
        mask: Bool[Tensor, "n S"] | None,
        rotation: Float[Tensor, "n half_width 2"] | None,
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "B n D"]:
        """With a cache of (rotated) keys and values up to and including these n tokens, their own are written to its
        end and all of it is attended to."""
        q, k, v = rearrange(self.query_key_value(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            count = x.shape[1]
            cache[0][:, :, -count:] = k
            cache[1][:, :, -count:] = v
            k, v = cache
        is_causal = mask is None and q.shape[2] > 1
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
        return self.dropout(self.projection(rearrange(mixed, "b h n d -> b n (h d)")))


def rotate(x: Float[Tensor, "B H n width"], rotation: Float[Tensor, "n half_width 2"]) -> Float[Tensor, "B H n width"]:
    """Rotate channels i and i + width/2 by the angle of their position."""
    cosine, sine = rotation.unbind(-1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).type_as(x)
