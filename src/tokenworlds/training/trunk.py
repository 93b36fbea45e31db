"""Weights that the trunk of a new run's sequence model begins with: which they are, before the configuration's hash is
asked for, and their loading, after the agent is built and before its optimisers are."""

from __future__ import annotations

from typing import Any

from torch import nn

from tokenworlds.backbones import trunk
from tokenworlds.config import RunConfig, to_dict
from tokenworlds.config.trunk import digest_of_weights, require_weights
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.runs.layout import CONFIG
from tokenworlds.training.run_folder import recorded_hash, scratch_folder


def settle(config: RunConfig) -> None:
    """Find out the digest of the weights. A run that has begun goes on without their file.

    Raises:
        UserError: there is none.
    """
    chosen = config.model.world_model.trunk
    if chosen is None or chosen.weights is None or chosen.digest is not None:
        return
    chosen.digest = digest_of_weights(chosen.weights)
    if chosen.digest is None and not _has_begun(config):
        require_weights(chosen)


def _has_begun(config: RunConfig) -> bool:
    """Whether this run has a checkpoint or is finished; its configuration then has the digest of these weights."""
    chosen = config.model.world_model.trunk
    assert chosen is not None
    own, folder = to_dict(chosen), scratch_folder(config).parent
    for path in (*sorted(folder.glob(f"{config.seed}-*/{CONFIG}")), config.out_dir / CONFIG):
        model = (read_mapping(path) if path.is_file() else {}).get("model", {})
        found = model.get("world_model", {}).get("trunk", {})
        if found | {"digest": None} == own:
            chosen.digest = found["digest"]
            if any(scratch_folder(config).glob("epoch_*.json")) or recorded_hash(config.out_dir) == config.hash():
                return True
            chosen.digest = None
    return False


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
