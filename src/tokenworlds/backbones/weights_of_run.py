"""The trunk of an agent of this program that was trained on another task: without embeddings, positions and heads, so
that it may have other actions."""

from typing import Any

from torch import Tensor

from tokenworlds.backbones import pretrained
from tokenworlds.backbones.adaptation import adapt as adapt
from tokenworlds.backbones.transformer import TransformerBackbone
from tokenworlds.config.trunk import TrunkConfig, weights_file

PREFIX = "world_model.backbone."


def load(backbone: TransformerBackbone, config: TrunkConfig) -> dict[str, Any]:
    """Overwrite the trunk with that of the run that is configured."""
    return pretrained.load(backbone, config, trunk_tensors(pretrained.read(weights_file(str(config.weights)))))


def trunk_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trunk in the weights of an agent."""
    inside = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return pretrained.trunk_of(inside)
