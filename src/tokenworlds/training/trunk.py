"""Weights that the trunk of a new run's sequence model begins with: which they are, before the configuration's hash is
asked for, and their loading, after the agent is built and before its optimisers are."""

from __future__ import annotations

from typing import Any

from torch import nn

from tokenworlds.backbones import trunk
from tokenworlds.config import RunConfig
from tokenworlds.config.trunk import digest_of_weights, require_weights
from tokenworlds.training.run_folder import recall_digest


def settle(config: RunConfig) -> None:
    """Find out the digest of the weights. A run that has begun goes on without their file.

    Raises:
        UserError: there is none.
    """
    chosen = config.model.world_model.trunk
    if chosen is None or chosen.weights is None or chosen.digest is not None:
        return
    chosen.digest = digest_of_weights(chosen.weights)
    if chosen.digest is None and not recall_digest(config, "model.world_model.trunk", chosen, ()):
        require_weights(chosen)


def load(config: RunConfig, agent: nn.Module) -> dict[str, Any]:
    """Overwrite the trunk of a new agent, if its run begins with weights.

    Returns:
        The section ``trunk`` of ``scores.json``.

    Raises:
        UserError: they do not fit, or are others than those that the configuration names.
    """
    chosen = config.model.world_model.trunk
    if chosen is None or chosen.weights is None:
        return {}
    return {"trunk": trunk.load(agent.get_submodule("world_model.backbone"), chosen)}
