"""World models: over the tokens of observations, and over frames and delta tokens."""

from collections.abc import Mapping
from typing import Any

from tokenworlds.backbones import Backbone
from tokenworlds.config import Decoding, TokenQuirks, TokenWorldModelConfig
from tokenworlds.envs import ActionSpec
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.autoregressive import AutoregressiveWorldModel
from tokenworlds.world_models.delta import DeltaState, DeltaWorldModel
from tokenworlds.world_models.embeddings import Coded
from tokenworlds.world_models.parallel import ParallelWorldModel
from tokenworlds.world_models.token import StepNoise, TokenWorldModel, WorldModelLosses, WorldModelState

__all__ = [
    "AutoregressiveWorldModel",
    "DeltaState",
    "DeltaWorldModel",
    "ParallelWorldModel",
    "StepNoise",
    "TokenWorldModel",
    "WorldModelLosses",
    "WorldModelState",
    "build",
]


def build(
    decoding: Decoding,
    config: TokenWorldModelConfig,
    backbone: Backbone[Any],
    layout: TokenLayout,
    actions: ActionSpec,
    coded: Mapping[str, Coded] | None = None,
    quirks: TokenQuirks | None = None,
) -> TokenWorldModel:
    """The world model that predicts observations as ``decoding`` says; see ``TokenWorldModel`` for the rest."""
    kinds = {Decoding.autoregressive: AutoregressiveWorldModel, Decoding.pop: ParallelWorldModel}
    return kinds[decoding](config, backbone, layout, actions, coded, quirks)
