"""World models: over the tokens of observations (``build``), and over frames and delta tokens (``delta``)."""

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenworlds import backbones
from tokenworlds.config import Backbone, Decoding, ReadOut, TokenWorldModelConfig
from tokenworlds.tokenizers.layout import TokenLayout

if TYPE_CHECKING:
    from tokenworlds.world_models.token import TokenWorldModel

DECODINGS = {  # module, imported when it is chosen, and class
    Decoding.autoregressive: ("autoregressive", "AutoregressiveWorldModel"),
    Decoding.pop: ("parallel", "ParallelWorldModel"),
    Decoding.frame: ("frame", "FrameWorldModel"),
    Decoding.oracle: ("oracle", "NoWorldModel"),
}


def kind_of(decoding: Decoding) -> "type[TokenWorldModel]":
    module, kind = DECODINGS[decoding]
    return getattr(import_module(f"{__name__}.{module}"), kind)


def build(decoding: Decoding, *arguments: Any) -> "TokenWorldModel":
    """The world model that predicts observations by ``decoding``, with the arguments of ``TokenWorldModel``."""
    return kind_of(decoding)(*arguments)


def build_backbone(
    decoding: Decoding, name: Backbone, config: TokenWorldModelConfig, layout: TokenLayout
) -> backbones.Backbone[Any]:
    """The sequence model of such a world model, over tokens of this layout or over whole blocks of them."""
    if kind_of(decoding).reads_blocks:
        return backbones.build(name, replace(config, embed_dim=layout.block_size * config.embed_dim), block_size=1)
    # The prediction tokens after the last of max_blocks take one more block.
    spare = 1 if config.read_out is ReadOut.prediction else 0
    return backbones.build(name, config, layout.block_size, spare_blocks=spare)
