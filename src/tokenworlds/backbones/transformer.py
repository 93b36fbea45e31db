"""GPT-style pre-norm transformer with learned absolute positions and a static key/value cache (IRIS section 2.2,
appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone


@dataclass(frozen=True)
class TransformerConfig:
    num_layers: int
    num_heads: int
    embed_dim: int
    max_tokens: int
    block_size: int | None = None  # tokens of a block for block-causal attention; None: causal
    embed_dropout: float = 0.0
    residual_dropout: float = 0.0
    attention_dropout: float = 0.0


@dataclass
class TransformerState:
    """Cache (layers, B, heads, max_tokens, head width), filled up to ``length``.

    ``length`` is a host integer: the order of calls does not depend on data, so a captured rollout holds it as a
    constant.
    """

    keys: Tensor
    values: Tensor
    length: int


class TransformerBackbone(Backbone[TransformerState]):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.max_tokens = config.max_tokens
        self.is_causal = config.block_size is None
        self.positions = nn.Embedding(config.max_tokens, config.embed_dim)
        self.dropout = nn.Dropout(config.embed_dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.embed_dim)

    def parallel(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        mask = self._mask(0, x.shape[1], x.device)
        h = self.dropout(x + self.positions.weight[: x.shape[1]])
        for block in self.blocks:
            h = block(h, mask)
        out: Tensor = self.norm(h)
        return out

    def init_state(self, batch: int) -> TransformerState:
        config, like = self.config, self.positions.weight
        shape = (config.num_layers, batch, config.num_heads, config.max_tokens, config.embed_dim // config.num_heads)
        device = like.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        return TransformerState(like.new_zeros(shape, dtype=dtype), like.new_zeros(shape, dtype=dtype), 0)

    def step(
        self, state: TransformerState, x: Float[Tensor, "B n D"]
    ) -> tuple[Float[Tensor, "B n D"], TransformerState]:
        start, stop = state.length, state.length + x.shape[1]
        if stop > self.max_tokens:
            raise ValueError(f"the cache holds {self.max_tokens} tokens, {stop} are asked for; start a new state.")
        mask = self._mask(start, stop, x.device)
        h = self.dropout(x + self.positions.weight[start:stop])
        for layer, block in enumerate(self.blocks):
            h = block(h, mask, (state.keys[layer, :, :, :stop], state.values[layer, :, :, :stop]))
        out: Tensor = self.norm(h)
        return out, TransformerState(state.keys, state.values, stop)

    def _mask(self, start: int, stop: int, device: torch.device) -> Bool[Tensor, "n S"] | None:
        """Rows [start, stop) of the attention mask over columns [0, stop); None where plain causal attention from 0
        applies, or nothing is hidden."""
        block = self.config.block_size
        if block is None and (start == 0 or stop - start == 1):
            return None
        rows, columns = torch.arange(start, stop, device=device)[:, None], torch.arange(stop, device=device)[None]
        return rows >= columns if block is None else (rows >= columns) | (rows // block == columns // block)


class TransformerBlock(nn.Module):
    """x <- x + drop(attention(norm(x))); x <- x + drop(W2 gelu(W1 norm(x))), exact GELU, hidden width 4 D."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.attention = SelfAttention(config)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(config.residual_dropout)
        )

    def forward(self, x: Tensor, mask: Tensor | None, cache: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), mask, cache)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class SelfAttention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention_dropout = config.attention_dropout
        self.query_key_value = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.projection = nn.Linear(config.embed_dim, config.embed_dim)
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(
        self, x: Float[Tensor, "B n D"], mask: Tensor | None, cache: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "B n D"]:
        """With a cache (keys and values up to and including these n tokens), theirs are written to its end and all of
        it is attended to."""
        q, k, v = rearrange(self.query_key_value(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        if cache is not None:
            count = x.shape[1]
            cache[0][:, :, -count:] = k
            cache[1][:, :, -count:] = v
            k, v = cache
        is_causal = mask is None and q.shape[2] > 1
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
        out: Tensor = self.dropout(self.projection(rearrange(mixed, "b h n d -> b n (h d)")))
        return out
