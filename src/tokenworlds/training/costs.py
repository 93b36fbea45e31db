"""What a run has cost, from its journal and its networks: nothing is timed a second time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from tokenworlds.agents.base import Agent
from tokenworlds.backbones.memory import bytes_per_environment
from tokenworlds.config import DeltaRunConfig, RunConfig
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.runs.columns import OF_COST
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.system import ENERGY
from tokenworlds.training.world_model_quality import Row, row

PERCEPTUAL = "lpips"  # frozen network of a loss, no part of the agent
PEAK, STEPS = "memory/peak_bytes", "budget/env_steps"

Epochs = Sequence[tuple[int, Mapping[str, Any]]]  # with their metrics


def measures(
    config: RunConfig,
    agent: Agent,
    components: Sequence[ComponentTrainer],
    journal: Journal,
    seconds: float,
    steps_before: int = 0,
) -> list[Row]:
    """Rows of ``columns.MEASURED``, without what the run does not tell.

    Args:
        seconds: that it has taken.
        steps_before: of the environment, which the journal counts but the run has not taken.
    """
    epochs = [
        (record["step"], record["values"])
        for record in journal.read()
        if record["kind"] == "metrics" and not record.get("final")
    ]
    has_world_model = any(component.name == "world_model" for component in components)
    speeds = _speeds(config, components, epochs, steps_before)
    found = [("wall_clock_seconds", "", seconds), *_sizes(agent, has_world_model), *speeds]
    if energies := _values(epochs, ENERGY):
        found.append(("energy_joules", "", sum(energies)))
    if peaks := _values(epochs, PEAK):
        found.append(("peak_memory_bytes", "", max(peaks)))
    return [row(OF_COST, measure, value, part=part) for measure, part, value in found]


def _sizes(agent: Agent, has_world_model: bool = True) -> Iterator[tuple[str, str, float]]:
    """Parameters, of which nothing trains the frozen ones, and what imagination remembers of an environment."""
    modules: dict[str, nn.Module] = {"tokenizer": agent.tokenizer, "actor_critic": agent.policy}
    if has_world_model:
        modules["world_model"] = agent.world_model
    totals = {"parameters": 0, "trainable_parameters": 0}
    for part, module in modules.items():
        own = [value for name, value in module.named_parameters() if PERCEPTUAL not in name.split(".")]
        counts = [sum(value.numel() for value in own), sum(value.numel() for value in own if value.requires_grad)]
        for measure, count in zip(totals, counts):
            totals[measure] += count
            yield measure, part, count
    for measure, total in totals.items():
        yield measure, "", total
    if (backbone := getattr(modules.get("world_model"), "backbone", None)) is not None:
        yield "state_bytes", "", bytes_per_environment(backbone)


def _speeds(
    config: RunConfig, components: Sequence[ComponentTrainer], epochs: Epochs, steps_before: int
) -> Iterator[tuple[str, str, float]]:
    for component in components:
        name = f"seconds/{component.name}"
        seconds = sum(_values(epochs, name))
        updates = sum(component.updates_in(epoch) for epoch, values in epochs if name in values)
        if updates:
            yield "seconds_per_update", component.name, seconds / updates
            if component.name == "actor_critic":
                yield "seconds_per_imagined_frame", "", seconds / updates / _imagined_frames(config)
    counts = [after - before for before, after in pairwise([steps_before, *_values(epochs, STEPS)])]
    taken = [(count, values["seconds/collection"]) for count, (_, values) in zip(counts, epochs) if count > 0]
    if taken:
        steps, seconds = map(sum, zip(*taken))
        yield "environment_steps_per_second", "", steps / seconds


def _imagined_frames(config: RunConfig) -> int:
    """Of an update of the policy, with full batches: the last of the policy's steps only bootstraps."""
    training = config.training.actor_critic
    steps = training.horizon - (not isinstance(config, DeltaRunConfig))
    return training.gradient_accumulation * training.batch_size * steps


def _values(epochs: Epochs, name: str) -> list[float]:
    return [float(values[name]) for _, values in epochs if name in values]
