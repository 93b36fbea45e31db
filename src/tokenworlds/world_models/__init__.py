"""World models: over the tokens of observations (``build``), and over frames and delta tokens (``delta``)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokenworlds.backbones import Backbone
from tokenworlds.config import Decoding, TokenWorldModelConfig
from tokenworlds.envs.spec import ActionSpec
from tokenworlds.tokenizers.layout import TokenLayout

if TYPE_CHECKING:
    from tokenworlds.world_models.embeddings import CodedTokenizer
    from tokenworlds.world_models.token import TokenWorldModel


def build(
    decoding: Decoding,
    config: TokenWorldModelConfig,
    backbone: Backbone[Any],
    layout: TokenLayout,
    actions: ActionSpec,
    coded: "Mapping[str, CodedTokenizer] | None" = None,
) -> "TokenWorldModel":
    """The world model that predicts observations by ``decoding``; see ``TokenWorldModel`` for the rest."""
    if decoding is Decoding.pop:
        from tokenworlds.world_models.parallel import ParallelWorldModel

        return ParallelWorldModel(config, backbone, layout, actions, coded)
    from tokenworlds.world_models.autoregressive import AutoregressiveWorldModel

    return AutoregressiveWorldModel(config, backbone, layout, actions, coded)
