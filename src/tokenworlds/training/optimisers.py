"""Optimisers as published: Adam, or AdamW with weight decay on the weights of linear layers, or on everything."""

import torch
from torch import nn

from tokenworlds.config import ComponentTrainingConfig, Decay


def parameter_groups(module: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the trained parameters with and without weight decay: weights of linear and recurrent layers; biases,
    norms and all embeddings; each sorted."""
    linear = {id(part.weight) for part in module.modules() if isinstance(part, nn.Linear)}
    recurrent = (part for part in module.modules() if isinstance(part, nn.RNNBase))
    linear |= {id(value) for part in recurrent for name, value in part.named_parameters() if name.startswith("weight")}
    trained = sorted((name, id(parameter)) for name, parameter in module.named_parameters() if parameter.requires_grad)
    return [name for name, key in trained if key in linear], [name for name, key in trained if key not in linear]


def build(module: nn.Module, config: ComponentTrainingConfig) -> torch.optim.Optimizer:
    """betas (0.9, 0.999), eps 1e-8; the fused implementation, which is one kernel for all parameters."""
    parameters = dict(module.named_parameters())
    decay, no_decay = ([parameters[name] for name in names] for names in parameter_groups(module))
    if config.weight_decay == 0:
        return torch.optim.Adam([*decay, *no_decay], lr=config.learning_rate, fused=True)
    others = config.weight_decay if config.decay is Decay.all else 0.0
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": no_decay, "weight_decay": others}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
