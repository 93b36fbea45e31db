"""Trained agents from disk: run folders, scratch folders of runs in training, imported checkpoints."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokenworlds.config import Perceptual, RunConfig, TokenRunConfig, hash_of, load_written, validate
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened
from tokenworlds.runs.layout import CONFIG, ENVIRONMENT, WEIGHTS
from tokenworlds.runs.manifest import verify
from tokenworlds.tracking.revision import git_revision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tokenworlds.agents.base import Agent
    from tokenworlds.envs.spec import EnvironmentSpec

AGENT_PREFIX = "agent."  # of the networks' tensors in a checkpoint of a running training
TRY_AGAIN = "it is damaged or was being replaced; try again after the next epoch, or load a finished run"


@dataclass(frozen=True)
class TrainedAgent:
    """Networks on their device, with the configuration and the environment that they were trained in."""

    folder: Path
    config: RunConfig  # without the perceptual network, which only training needs
    spec: EnvironmentSpec
    agent: Agent
    device: torch.device
    epoch: int | None  # of the checkpoint of a run in training; None for a finished run


def load(path: str | os.PathLike[str], device: str = "auto") -> TrainedAgent:
    """The agent of a finished run, of the newest checkpoint of a run in training, or of an imported checkpoint.

    Args:
        path: run folder (``results/runs/rem/atari/Pong/0``), or scratch folder of a training.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: there are no weights; they are damaged, of another revision, or hold NaN or infinite values; the
            environment's package is missing; this machine has no such device.
    """
    folder = Path(path)
    config = read_config(folder)
    config = replace(config, runtime=replace(config.runtime, device=device))
    from tokenworlds.ops import precision

    chosen = precision.configure(config.training.precision, config.runtime)
    agent, spec, epoch = load_agent(folder, config)
    return TrainedAgent(folder, config, spec, agent.to(chosen), chosen, epoch)


def is_training(folder: Path) -> bool:
    """Whether a folder holds checkpoints of a run that has not been published."""
    has_weights = os.path.isfile(folder / WEIGHTS)
    return not has_weights and os.path.isdir(folder) and any(folder.glob("epoch_*.json"))


def read_config(run: Path) -> RunConfig:
    """The configuration in a run folder, without the perceptual network, which only training needs.

    Raises:
        UserError: the folder holds no run, or its configuration is damaged or of another revision.
    """
    needed = (CONFIG,) if is_training(run) else (CONFIG, WEIGHTS)
    missing = [name for name in needed if not os.path.isfile(run / name)]
    if missing:
        raise UserError(
            f"{shortened(run, 80)} is no finished run: it has no {' and no '.join(missing)}; give a folder below "
            "results/runs, or import a published checkpoint with `python -m tokenworlds.checkpoints import`."
        )
    config = _written_config(run)
    if isinstance(config, TokenRunConfig):
        tokenizer = replace(config.model.tokenizer, perceptual=Perceptual.none, perceptual_weights=None)
        config = replace(config, model=replace(config.model, tokenizer=tokenizer))
    return validate(config)


def _written_config(run: Path) -> RunConfig:
    try:
        return load_written(run / CONFIG)
    except UserError as error:
        raise UserError(
            f"{shortened(run / CONFIG)} is damaged or of another revision ({_written_by(run)}; this one is "
            f"{git_revision()}): {brief(error, 80)}."
        ) from error


def _written_by(run: Path) -> str:
    """The revision of the program that wrote a run folder."""
    for name in (ENVIRONMENT, "agent.json"):
        try:
            return brief(json.loads((run / name).read_text())["git_revision"], 40)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "unknown"


def load_agent(run: Path, config: RunConfig) -> tuple[Agent, EnvironmentSpec, int | None]:
    """The trained networks of a run, every tensor of them and no other; the specification of its environment; the
    epoch, where the run is in training.

    Raises:
        UserError: the weights are damaged, of another revision, or hold NaN or infinite values.
    """
    from tokenworlds import envs, methods
    from tokenworlds import tensor_files as tensors

    envs.check_task(config.task)
    file, found, epoch = read_weights(run)
    with envs.make(config.task, config.environment.test) as environment:
        spec = environment.environment_spec
    agent = methods.get(config.method).build_agent(config, spec)
    misfits = list(tensors.misfits(found, agent.state_dict()))
    if misfits:
        named = brief(", ".join(misfits[:3]), 110) + (f" and {len(misfits) - 3} more" if len(misfits) > 3 else "")
        raise UserError(
            f"{shortened(file, 60)} was written by revision {_written_by(run)} and does not fit this one, "
            f"{git_revision()}: {named} differ; check that revision out, or train again."
        )
    tensors.refuse_not_finite(file, tensors.not_finite(found), "the run diverged, train it again")
    agent.load_state_dict(found)
    return agent, spec, epoch


def read_weights(run: Path) -> tuple[Path, dict[str, Tensor], int | None]:
    """The file with a run's weights, the networks' tensors in it, and the epoch of a run in training."""
    from tokenworlds import tensor_files as tensors

    if not is_training(run):
        verify(run, [WEIGHTS], {CONFIG, WEIGHTS}.__contains__)
        return run / WEIGHTS, tensors.read(run / WEIGHTS), None
    from tokenworlds import epoch_files

    # the hash of the file as it is: this revision may have settings that the run's had not
    loaded = epoch_files.read_last(run, hash_of(read_mapping(run / CONFIG)), TRY_AGAIN)
    assert loaded is not None
    stored, head = loaded
    file = run / f"epoch_{head['epoch']:05d}.safetensors"
    return file, epoch_files.part(stored, AGENT_PREFIX), head["epoch"]
