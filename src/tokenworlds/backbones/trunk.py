"""Trunks that begin with weights of another model, or of which a part is frozen (docs/experiments.md, A).

The order is: build and initialise the agent, load the trunk, build optimisers. A resumed run has all in its checkpoint.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from torch import nn

from tokenworlds.config.trunk import TrunkConfig, TrunkInit

READERS = {  # modules of this package; only that of the chosen weights is imported
    TrunkInit.scratch: "adaptation",
    TrunkInit.gpt2: "weights_of_gpt2",
    TrunkInit.bert: "weights_of_bert",
    TrunkInit.llama: "weights_of_llama",
    TrunkInit.run: "weights_of_run",
}


def adapt(backbone: nn.Module, config: TrunkConfig) -> None:
    """Add to a fresh sequence model what is configured, and freeze what is not to be trained."""
    _module(config).adapt(backbone, config)


def load(backbone: nn.Module, config: TrunkConfig) -> dict[str, Any]:
    """Overwrite the trunk with the weights of its file.

    Returns:
        What ``scores.json`` tells of them: no paths.

    Raises:
        UserError: there are none, or they do not fit.
    """
    loaded: dict[str, Any] = _module(config).load(backbone, config)
    return loaded


def scale_embeddings(parts: Iterable[nn.Module], config: TrunkConfig) -> None:
    """Multiply freshly drawn embeddings so that they have the configured standard deviation."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Embedding):
                module.weight.data *= config.embed_init_std / 0.02


def _module(config: TrunkConfig) -> Any:
    return import_module(f"tokenworlds.backbones.{READERS[config.init]}")
