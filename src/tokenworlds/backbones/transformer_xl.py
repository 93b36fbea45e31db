"""Transformer-XL (Dai et al. 2019): the transformer, with attention that knows distances in the place of positions.

The score of query i and key j is (q_i + u) . k_j + (q_i + v) . W r(i - j), over the root of a head's width, where r
are sinusoids of the distance. Its memory is the cache of the transformer's state: keys and values of all tokens before,
as many as the world model's blocks have (340 for IRIS), which are what the hidden states of the paper would give again.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.transformer import ConstantEmbedding, TransformerBackbone, rotate, waves
from tokenworlds.config.backbones import Attention, Positions, TransformerConfig, TransformerXLConfig
from tokenworlds.ops.dropout import Dropout


class TransformerXLBackbone(TransformerBackbone):
    """All but the attention is the transformer's with norms before the layers. Distances are differences of rotations,
    so that positions are handed to the layers as rotary ones are."""

    def __init__(self, config: TransformerXLConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        dropouts = (config.embed_dropout, config.residual_dropout, config.attention_dropout)
        form = TransformerConfig(
            config.num_layers, config.num_heads, Attention.causal, *dropouts, positions=Positions.rotary
        )
        super().__init__(form, embed_dim, max_tokens, block_size)
        self.positions = ConstantEmbedding(waves(max_tokens, embed_dim))
        for block in self.blocks:
            block.attention = RelativeAttention(config, embed_dim, self.positions)

    def initialise(self) -> None:
        """GPT's weights, and the same for the biases of queries."""
        super().initialise()
        for part in self.modules():
            if isinstance(part, RelativeAttention):
                nn.init.normal_(part.content_bias, std=0.02)
                nn.init.normal_(part.distance_bias, std=0.02)


class RelativeAttention(nn.Module):
    """Sinusoids of a difference are those of one position, rotated by the other: with w = W^T (q_i + v), the score of a
    distance is the product of w, rotated by position i, with the sinusoids of position j. So both scores are one
    product, of [q_i + u, rotated w] and [k_j, sinusoids of j], and no matrix of distances is shifted or gathered."""

    def __init__(self, config: TransformerXLConfig, width: int, positions: ConstantEmbedding) -> None:
        super().__init__()
        self.heads, self.positions = config.num_heads, positions
        self.attention_dropout = config.attention_dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.distance = nn.Linear(width, width, bias=False)  # W
        self.content_bias = nn.Parameter(torch.zeros(width))  # u
        self.distance_bias = nn.Parameter(torch.zeros(width))  # v
        self.projection = nn.Linear(width, width)
        self.dropout = Dropout(config.residual_dropout)

    def forward(
        self,
        x: Float[Tensor, "B n D"],
        mask: Bool[Tensor, "n S"] | None,
        rotation: Float[Tensor, "n half_D 2"],
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "B n D"]:
        """With a cache of keys and values up to and including these n tokens, their own are written to its end and all
        of it is attended to."""
        q, k, v = self.query_key_value(x).chunk(3, dim=-1)
        by_content, k, v = map(self._by_head, (q + self.content_bias, k, v))
        weight = self.distance.weight.unflatten(0, (self.heads, -1))
        by_distance = rotate(self._by_head(q + self.distance_bias) @ weight, rotation)
        if cache is not None:
            cache[0][:, :, -x.shape[1] :] = k
            cache[1][:, :, -x.shape[1] :] = v
            k, v = cache
            rotation = self.positions.weight[: k.shape[2]]
        waves_of_keys = rotation.transpose(1, 2).flatten(1).to(k.dtype).expand(*k.shape[:2], -1, -1)
        mixed = F.scaled_dot_product_attention(
            torch.cat([by_content, by_distance], dim=-1),
            torch.cat([k, waves_of_keys], dim=-1),
            v,
            attn_mask=mask,
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=mask is None and x.shape[1] > 1,
            scale=v.shape[-1] ** -0.5,
        )
        return self.dropout(self.projection(rearrange(mixed, "b h n d -> b n (h d)")))

    def _by_head(self, x: Float[Tensor, "B n D"]) -> Float[Tensor, "B H n d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
