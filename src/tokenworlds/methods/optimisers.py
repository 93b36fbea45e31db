"""Optimisers as published: Adam, or AdamW with weight decay on the weights of linear layers, on these and the norms of
heads, or on everything."""

from typing import Any

import torch
from torch import nn

from tokenworlds.backbones import Backbone
from tokenworlds.config import ComponentTrainingConfig, Decay
from tokenworlds.ops.own_optimiser import OwnOptimiser

OWN = "is_own"  # mark of a group in an optimiser
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm2d)


def parameter_groups(module: nn.Module, decay: Decay = Decay.linear) -> tuple[list[str], list[str]]:
    """Names of the trained parameters with and without weight decay, each sorted; where all have it, the groups are
    those of ``linear``. Parameters with an optimiser of their own are in neither."""
    chosen = _heads(module) if decay is Decay.heads else _linear(module)
    own = {id(parameter) for part in _own(module) for parameter in part.parameters()}
    named = ((name, id(parameter)) for name, parameter in module.named_parameters() if parameter.requires_grad)
    trained = sorted((name, key) for name, key in named if key not in own)
    return [name for name, key in trained if key in chosen], [name for name, key in trained if key not in chosen]


def _linear(module: nn.Module) -> set[int]:
    """Weights of linear layers and recurrent backbones; not biases, norms, embeddings, a policy's recurrent cell."""
    linear = {id(part.weight) for part in module.modules() if isinstance(part, nn.Linear)}
    recurrent = (part for part in module.modules() if isinstance(part, nn.RNNBase))
    return linear | {
        id(value) for part in recurrent for name, value in part.named_parameters() if name.startswith("weight")
    }


def _heads(module: nn.Module) -> set[int]:
    """All but biases, embeddings and the norms of the backbone. M3's published rule matches names, which excludes the
    norms of the backbone and not those of the heads."""
    inside = {part for backbone in module.modules() if isinstance(backbone, Backbone) for part in backbone.modules()}
    spared = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, nn.Embedding) or (part in inside and isinstance(part, NORMS))
        for parameter in part.parameters(recurse=False)
    }
    named = ((name.rpartition(".")[2], id(parameter)) for name, parameter in module.named_parameters())
    return {key for name, key in named if "bias" not in name and key not in spared}


def build(module: nn.Module, config: ComponentTrainingConfig) -> torch.optim.Optimizer:
    """betas (0.9, 0.999), eps 1e-8; the fused implementation, which is one kernel for all parameters. Parts with an
    optimiser of their own are groups with settings of their own, which is the same for Adam."""
    parameters = dict(module.named_parameters())
    decay, no_decay = ([parameters[name] for name in names] for names in parameter_groups(module, config.decay))
    own = [
        {"params": [*part.parameters()], "lr": part.learning_rate, "betas": part.betas, "weight_decay": 0.0, OWN: True}
        for part in _own(module)
    ]
    if config.weight_decay == 0:
        return torch.optim.Adam([{"params": [*decay, *no_decay]}, *own], lr=config.learning_rate, fused=True)
    others = config.weight_decay if config.decay is Decay.all else 0.0
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": no_decay, "weight_decay": others}]
    return torch.optim.AdamW([*groups, *own], lr=config.learning_rate, fused=True)


def clipped(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters whose gradients are clipped: all but those with an optimiser of their own."""
    return [parameter for group in optimizer.param_groups if OWN not in group for parameter in group["params"]]


def _own(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, OwnOptimiser)]
