"""Sequence models with a common contract (``base.Backbone``); a module is imported when its backbone is built."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from tokenworlds.backbones import trunk
from tokenworlds.backbones.base import Backbone, initialise_gpt
from tokenworlds.config.backbones import Backbone as BackboneName
from tokenworlds.config.world_models import WorldModelConfig

__all__ = ["Backbone", "build", "initialise_gpt"]

BACKBONES = {  # module and class, which takes its section of the configuration, width, most tokens and block size
    BackboneName.transformer: ("transformer", "TransformerBackbone"),
    BackboneName.retnet: ("retnet", "RetNetBackbone"),
    BackboneName.lstm: ("recurrent", "LSTMBackbone"),
    BackboneName.gru: ("recurrent", "GRUBackbone"),
    BackboneName.transformer_xl: ("transformer_xl", "TransformerXLBackbone"),
    BackboneName.mamba: ("mamba", "MambaBackbone"),
    BackboneName.cfc: ("cfc", "CfCBackbone"),
    BackboneName.llama: ("llama", "LlamaBackbone"),
}


def build(
    name: BackboneName, config: WorldModelConfig, block_size: int, first_tokens: int = 0, spare_blocks: int = 0
) -> Backbone[Any]:
    """The backbone of a world model over blocks of ``block_size`` tokens, preceded by ``first_tokens``.

    ``spare_blocks`` adds room after ``max_blocks``: query tokens that predict the block after the last need one.
    """
    module, kind = BACKBONES[name]
    backbone: Callable[..., Backbone[Any]] = getattr(import_module(f"{__name__}.{module}"), kind)
    max_tokens = first_tokens + (config.max_blocks + spare_blocks) * block_size
    built = backbone(getattr(config, name.name), config.embed_dim, max_tokens, block_size)
    if config.trunk is not None:
        trunk.adapt(built, config.trunk)
    return built
