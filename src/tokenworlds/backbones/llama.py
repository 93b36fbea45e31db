"""Transformer of Llama (Touvron et al. 2023): rotary positions, RMSNorm before attention and MLP, an MLP gated by SiLU,
and keys and values that groups of query heads share (Ainslie et al. 2023). No biases. Steps, masks, query tokens and
the cache are those of the other transformer."""

from __future__ import annotations

from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones.base import Backbone
from tokenworlds.backbones.transformer import ConstantEmbedding, TransformerBackbone, rotate, waves
from tokenworlds.config import Attention, TransformerConfig
from tokenworlds.config.backbones import LlamaConfig
from tokenworlds.ops.dropout import Dropout


class LlamaBackbone(TransformerBackbone):
    def __init__(self, config: LlamaConfig, embed_dim: int, max_tokens: int, block_size: int) -> None:
        Backbone.__init__(self, embed_dim, max_tokens, block_size)
        self.llama = config
        self.config = TransformerConfig(config.num_layers, config.num_heads, Attention.causal, 0.0, 0.0, 0.0)
        self.is_causal, self.is_rotary = True, True
        self.positions = ConstantEmbedding(waves(max_tokens, embed_dim // config.num_heads, config.rope_base))
        self.dropout = Dropout(0.0)
        self.pre_proj, self.post_proj = nn.Identity(), nn.Identity()
        self.blocks = nn.ModuleList(LlamaBlock(config, embed_dim) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(embed_dim, config.norm_epsilon)
        self.cache_heads = config.num_kv_heads

    def initialise(self) -> None:
        """N(0, 0.02^2) for every matrix, ones for the norms."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)


class LlamaBlock(nn.Module):
    """x <- x + attention(norm(x)); x <- x + mlp(norm(x))."""

    def __init__(self, config: LlamaConfig, width: int) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(width, config.norm_epsilon)
        self.attention = GroupedAttention(config, width)
        self.norm2 = nn.RMSNorm(width, config.norm_epsilon)
        self.mlp = GatedMLP(width, config.hidden_dim)

    def forward(
        self, x: Tensor, mask: Tensor | None, rotation: Tensor, cache: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "B n D"]:
        x = x + self.attention(self.norm1(x), mask, rotation, cache)
        return x + self.mlp(self.norm2(x))


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class GroupedAttention(nn.Module):
    """Attention whose queries have more heads than keys and values."""

    def __init__(self, config: LlamaConfig, width: int) -> None:
        super().__init__()
        self.head_width = width // config.num_heads
        self.sharing = config.num_heads // config.num_kv_heads  # query heads to one of keys and values
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, config.num_kv_heads * self.head_width, bias=False)
        self.value = nn.Linear(width, config.num_kv_heads * self.head_width, bias=False)
        self.projection = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B n D"],
        mask: Bool[Tensor, "n S"] | None,
        rotation: Float[Tensor, "n half_width 2"],
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "B n D"]:
        """With a cache of rotated keys and values up to and including these n tokens, their own are written to its
        end."""
        q, k, v = (
            rearrange(linear(x), "b n (h d) -> b h n d", d=self.head_width)
            for linear in (self.query, self.key, self.value)
        )
        q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            cache[0][:, :, -x.shape[1] :] = k
            cache[1][:, :, -x.shape[1] :] = v
            k, v = cache
        k, v = (repeat(shared, "b h n d -> b (h shares) n d", shares=self.sharing) for shared in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and q.shape[2] > 1)
        return self.projection(rearrange(mixed, "b h n d -> b n (h d)"))
