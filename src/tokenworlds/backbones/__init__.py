"""Sequence models, all behind one contract (``base.Backbone``)."""

from typing import Any

from tokenworlds.backbones.base import Backbone
from tokenworlds.backbones.transformer import TransformerBackbone, TransformerConfig
from tokenworlds.config import Attention, WorldModelConfig
from tokenworlds.config import Backbone as BackboneName

__all__ = ["Backbone", "TransformerBackbone", "TransformerConfig", "build"]


def build(name: BackboneName, config: WorldModelConfig, block_size: int) -> Backbone[Any]:
    """The backbone of a token world model whose blocks have ``block_size`` tokens."""
    match name:
        case BackboneName.transformer:
            return TransformerBackbone(
                TransformerConfig(
                    num_layers=config.num_layers,
                    num_heads=config.num_heads,
                    embed_dim=config.embed_dim,
                    max_tokens=config.max_blocks * block_size,
                    block_size=block_size if config.attention is Attention.block_causal else None,
                    embed_dropout=config.embed_dropout,
                    residual_dropout=config.residual_dropout,
                    attention_dropout=config.attention_dropout,
                )
            )
