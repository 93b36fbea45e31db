"""Sequence models, all behind one contract (``base.Backbone``)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from tokenworlds.backbones.base import Backbone
from tokenworlds.backbones.recurrent import RecurrentBackbone
from tokenworlds.backbones.retnet import RetNetBackbone
from tokenworlds.backbones.transformer import TransformerBackbone, initialise_gpt
from tokenworlds.config.backbones import Backbone as BackboneName
from tokenworlds.config.world_models import WorldModelConfig

__all__ = ["Backbone", "RecurrentBackbone", "RetNetBackbone", "TransformerBackbone", "build", "initialise_gpt"]

BUILDERS: dict[BackboneName, Callable[..., Backbone[Any]]] = {
    BackboneName.transformer: TransformerBackbone,
    BackboneName.retnet: RetNetBackbone,
    BackboneName.lstm: partial(RecurrentBackbone, nn.LSTM),
    BackboneName.gru: partial(RecurrentBackbone, nn.GRU),
}
"""Name -> what makes the backbone of its section, width, number of tokens and block size."""


def build(
    name: BackboneName, config: WorldModelConfig, block_size: int, lead: int = 0, spare_blocks: int = 0
) -> Backbone[Any]:
    """The backbone of a world model whose blocks have ``block_size`` tokens, after ``lead`` tokens at the start.

    ``spare_blocks`` is room after ``max_blocks``: a suffix that predicts the block after the last needs one.
    """
    sizes = (config.embed_dim, lead + (config.max_blocks + spare_blocks) * block_size, block_size)
    return BUILDERS[name](getattr(config, name.name), *sizes)
