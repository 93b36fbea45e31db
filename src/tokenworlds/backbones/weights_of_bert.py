"""The trunk of a BERT (Devlin et al. 2018): norms after the layers.

It was trained to attend to both sides: under the causal mask of a world model it is a stand-in for a causal model.
"""

from typing import Any

from torch import Tensor, nn

from tokenworlds.backbones import adaptation, pretrained
from tokenworlds.backbones.transformer import TransformerBackbone
from tokenworlds.config.trunk import TrunkConfig, weights_file

PARTS = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.projection",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "mlp.0",
    "output.dense": "mlp.2",
    "output.LayerNorm": "norm2",
}
IGNORED = r"(bert\.)?(embeddings|pooler)\..*|cls\..*"
EPSILON = 1e-12  # of its norms


def adapt(backbone: TransformerBackbone, config: TrunkConfig) -> None:
    """As ``adaptation.adapt``, with the epsilon of its norms."""
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPSILON
    adaptation.adapt(backbone, config)


def load(backbone: TransformerBackbone, config: TrunkConfig) -> dict[str, Any]:
    """Overwrite the trunk with the file that is configured."""
    return pretrained.load(backbone, config, trunk_tensors(pretrained.read(weights_file(str(config.weights)))))


def trunk_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file, with or without the prefix ``bert.``."""
    prefix = r"(bert\.)?encoder\.layer\.(?P<layer>\d+)\."
    return pretrained.joined(pretrained.renamed(tensors, prefix, PARTS, IGNORED))
