"""Hours of runs before they are trained.

From recorded runs on that hardware, scaled to the updates that are planned; else estimated for the card from counted
operations; else from recorded runs on other hardware; else as published. Every number says where it is from.

``estimates.csv`` holds hours at paper scale from ``python -m benchmarks.plan --task TASK --method METHOD``, for Pong,
Crafter's Reward and walker-run.
"""

from __future__ import annotations

import contextlib
import csv
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenworlds.config import RunConfig, load
from tokenworlds.errors import UserError, excerpt
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import scores_folder
from tokenworlds.tasks import family_of

TABLE = Path(__file__).with_name("estimates.csv")
PAPER_SCALE = "paper"


@dataclass(frozen=True)
class Estimate:
    """Hours of a run, and where they are from."""

    hours: float
    source: str


# Runs at paper scale, on the machines of their authors
PUBLISHED = {
    ("iris", "", "atari"): Estimate(100, "its authors, A100, learning in imagination alone"),
    ("rem", "", "atari"): Estimate(12, "its paper"),
    ("rem", "no-pop", "atari"): Estimate(22, "seconds an epoch in the paper"),
    ("rem", "no-latent-ac", "atari"): Estimate(14, "seconds an epoch in the paper"),
    ("delta_iris", "", "atari"): Estimate(26, "quoted from its paper"),
    ("delta_iris", "", "crafter"): Estimate(139, "20 frames a second in its paper, GPU not known"),
    ("m3", "", "atari"): Estimate(12, "its authors, RTX 4090"),
    ("m3", "", "dmc"): Estimate(40, "its authors, V100"),
    ("m3", "", "craftax"): Estimate(94, "its authors, V100"),
}


def hours(runs: Iterable[RunId], hardware: str | None = None) -> dict[RunId, Estimate]:
    """An estimate for each run; runs of which nothing is known are left out.

    Args:
        hardware: as it is recorded (``NVIDIA H100 80GB HBM3``); None where it is not known.
    """
    kinds: dict[tuple[str, str, str, str], list[RunId]] = {}  # they differ in task and seed only
    for run in runs:
        kinds.setdefault((run.method, run.variant, family_of(run.task), run.scale), []).append(run)
    return {run: estimate for alike in kinds.values() if (estimate := _of_kind(alike[0], hardware)) for run in alike}


def by_method(estimates: Mapping[RunId, Estimate]) -> dict[str, float]:
    """Hours of all runs of a method together."""
    sums: dict[str, float] = {}
    for run, estimate in estimates.items():
        sums[run.method] = sums.get(run.method, 0.0) + estimate.hours
    return sums


def _of_kind(run: RunId, hardware: str | None) -> Estimate | None:
    here = _recorded(run, hardware) if hardware else None
    return here or (_of_card(run, hardware) if hardware else None) or _recorded(run) or _published(run)


def _recorded(run: RunId, hardware: str | None = None) -> Estimate | None:
    """Mean hours of the recorded runs of this kind, on any task, scaled to the plan; on this hardware, or on any."""
    config = _configuration(run)
    found = [(each, name) for each, name in _records(run, config) if hardware in (None, name)] if config else []
    if not found:
        return None
    names = excerpt(", ".join(sorted({name for _, name in found})), 60)
    return Estimate(statistics.fmean(each for each, _ in found), f"{len(found)} recorded here, {names}")


def _records(run: RunId, config: RunConfig) -> Iterator[tuple[float, str]]:
    """Hours, scaled, and hardware of each recorded run of the kind."""
    folder = scores_folder() / run.name.partition("/")[0] / family_of(run.task)
    for path in sorted(folder.rglob("*.json")):
        try:
            scores = json.loads(path.read_bytes())
            if scores["run"]["scale"] == run.scale:
                yield float(scores["hours"]) * _ratio(config, scores["budget"]), str(scores["hardware"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
            continue  # collect reports damaged scores


def _ratio(config: RunConfig, budget: Mapping[str, Any]) -> float:
    """How much more is planned than was done: updates, or epochs where no updates are recorded."""
    if done := sum(budget.get("agent_updates", {}).values()):
        return planned_updates(config) / done
    return config.training.epochs / float(budget["epochs"])


def planned_updates(config: RunConfig) -> int:
    """Optimiser steps of all components in a run."""
    training, total = config.training, 0
    for part in (training.tokenizer, training.world_model, training.actor_critic):
        last = training.epochs if part.stop_after_epochs is None else min(part.stop_after_epochs, training.epochs)
        epochs = range(part.start_after_epochs + 1, last + 1)
        total += part.updates_per_epoch * len(epochs)
        if part.updates_first_epoch is not None and 1 in epochs:
            total += part.updates_first_epoch - part.updates_per_epoch
    return total


def _configuration(run: RunId) -> RunConfig | None:
    """The run's configuration, if need be without perceptual weights, which are not always there."""
    for more in ([], ["model.tokenizer.perceptual=none"]):
        with contextlib.suppress(UserError):
            return load([*run.overrides(), *more])
    return None


def _of_card(run: RunId, hardware: str) -> Estimate | None:
    """What was estimated for the card; of the method where there is nothing of the variant."""
    for (method, family, card), value in _table().items():
        if run.scale == PAPER_SCALE and (method, family) == (run.method, family_of(run.task)) and card in hardware:
            return Estimate(value, f"estimate{_instead(run, '')}: benchmarks.plan for {card}")
    return None


@cache
def _table() -> dict[tuple[str, str, str], float]:
    """Method, family and card -> hours."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {(row["method"], row["family"], row["card"]): float(row["hours"]) for row in csv.DictReader(file)}


def _published(run: RunId) -> Estimate | None:
    for variant in (run.variant, "") if run.scale == PAPER_SCALE else ():
        if known := PUBLISHED.get((run.method, variant, family_of(run.task))):
            return Estimate(known.hours, f"published{_instead(run, variant)}: {known.source}")
    return None


def _instead(run: RunId, variant: str) -> str:
    """`` of rem`` where the method stands for its variant."""
    return "" if variant == run.variant else f" of {run.method}"
