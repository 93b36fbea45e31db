"""Sequence models, all behind one contract (``base.Backbone``)."""

from typing import Any

from tokenworlds.backbones.base import Backbone
from tokenworlds.backbones.recurrent import RecurrentBackbone
from tokenworlds.backbones.retnet import RetNetBackbone
from tokenworlds.backbones.transformer import TransformerBackbone, initialise_gpt
from tokenworlds.config import Backbone as BackboneName
from tokenworlds.config import WorldModelConfig

__all__ = ["Backbone", "RecurrentBackbone", "RetNetBackbone", "TransformerBackbone", "build", "initialise_gpt"]


def build(
    name: BackboneName, config: WorldModelConfig, block_size: int, lead: int = 0, spare_blocks: int = 0
) -> Backbone[Any]:
    """The backbone of a world model whose blocks have ``block_size`` tokens, behind ``lead`` tokens at the start.

    ``spare_blocks`` is room behind ``max_blocks``: a suffix that predicts the block after the last needs one.
    """
    sizes = (config.embed_dim, lead + (config.max_blocks + spare_blocks) * block_size, block_size)
    match name:
        case BackboneName.transformer:
            return TransformerBackbone(config.transformer, *sizes)
        case BackboneName.retnet:
            return RetNetBackbone(config.retnet, *sizes)
        case BackboneName.lstm:
            return RecurrentBackbone(name, config.lstm, *sizes)
        case BackboneName.gru:
            return RecurrentBackbone(name, config.gru, *sizes)
