"""Costs and losses of a run, from its folder.

Read from the journal (``metrics.jsonl``), line by line, and from the header of the weights (``agent.safetensors``), so
that hundreds of runs take seconds and no tensor is loaded. What a folder does not hold stays empty.
"""

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tokenworlds.errors import UserError
from tokenworlds.runs.columns import ACTIVITIES, COMPONENTS, IDENTITY, LOSSES, names
from tokenworlds.runs.manifest import read_weights_header
from tokenworlds.tracking.journal import read_journal

LOSS = re.compile(rf"({'|'.join(COMPONENTS)})/(train|eval)/loss_(\w+)")
ENV_STEPS = "budget/env_steps"
PEAK_MEMORY = "memory/peak_bytes"  # metric of the accelerator; a run on a CPU has none
LOSS_EPOCHS = 120  # a split of a run: more than a figure can show
DIGITS = 7  # significant digits of a loss, as in single precision

MODULES = {"tokenizer": "tokenizer", "world_model": "world_model", "policy": "actor_critic"}
"""First part of a tensor's name -> component. The target policy is a copy that nothing trains."""
STATISTICS = ("frequencies", "updates", "running_mean", "running_var", "num_batches_tracked")
"""Buffers of a quantiser and of batch normalisation that are no weights."""

Losses = dict[tuple[str, int], dict[tuple[str, str], float]]
"""(split, epoch) -> (component, loss) -> value."""
Progress = tuple[float, float, float]
"""Environment steps, updates and seconds of training until the end of an epoch; NaN where the journal does not tell."""


@dataclass
class Records:
    """Content of one run's journal; ``seconds`` holds one value for every epoch in which an activity was active."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    losses: Losses = field(default_factory=dict)
    progress: dict[tuple[str, int], Progress] = field(default_factory=dict)  # of a component at an epoch
    peak_memory: float | None = None

    def costs(self) -> dict[str, float | None]:
        """Mean seconds of every activity an epoch, and the highest peak of memory."""
        means = {f"seconds_{name}": statistics.fmean(found) for name, found in self.seconds.items()}
        return {**means, "peak_memory_bytes": self.peak_memory}

    def loss_rows(self) -> Iterator[dict[str, Any]]:
        """A row per epoch, component, split and loss."""
        for (split, epoch), values in sorted(self.losses.items()):
            for (component, loss), value in values.items():
                spent = (
                    f"{each:.{DIGITS}g}" if math.isfinite(each) else "" for each in self.progress[component, epoch]
                )
                found = epoch, component, split, loss, f"{value:.{DIGITS}g}", *spent
                yield dict(zip(names(LOSSES[len(IDENTITY) :]), found, strict=True))


def read_records(path: Path) -> Records:
    """Seconds, losses and memory of a journal; none where there is no journal. A torn last line is left out.

    Raises:
        UserError: another line of it is damaged.
    """
    records, steps, settings = Records(), -1.0, read_values(path, "params")
    spent = dict.fromkeys(COMPONENTS, (0.0, 0.0))  # updates, seconds
    for epoch, values in read_metrics(path):
        collected, steps = steps, _number(values.get(ENV_STEPS), steps)
        # after the last collection the journal holds the moment that it takes to do nothing
        active = ACTIVITIES if steps > collected or ENV_STEPS not in values else ACTIVITIES[1:]
        for name in active:
            seconds = _number(values.get(f"seconds/{name}"))
            if math.isfinite(seconds):
                records.seconds[name].append(seconds)
                if name in spent:
                    updates, before = spent[name]
                    spent[name] = updates + _updates(settings, name, epoch), before + seconds
        known = steps if ENV_STEPS in values else math.nan
        records.progress |= {(name, epoch): (known, *spent[name]) for name in COMPONENTS}
        for key, value in values.items():
            parts, number = _loss(key), _number(value)
            if parts is not None and math.isfinite(number):
                component, split, loss = parts
                records.losses.setdefault((split, epoch), {})[component, loss] = number
        peak = _number(values.get(PEAK_MEMORY))
        if math.isfinite(peak):
            records.peak_memory = max(peak, records.peak_memory or 0.0)
    records.losses = _thinned(records.losses)
    return records


def read_values(path: Path, kind: str) -> dict[str, Any]:
    """The configuration of the run by dotted key (``params``), or its ``tags``; empty where the journal has none."""
    found = read_journal(path) if path.is_file() else ()
    return next((dict(record["values"]) for record in found if record["kind"] == kind), {})


def _updates(settings: dict[str, Any], component: str, epoch: int) -> float:
    """Updates of a component in an epoch in which it is trained."""
    first = settings.get(f"training.{component}.updates_first_epoch")
    every = settings.get(f"training.{component}.updates_per_epoch")
    return _number(first if epoch == 1 and first is not None else every)


def read_metrics(path: Path, with_final: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Epoch and values of every record of an epoch's metrics, and where asked for of those of the final evaluation.

    Raises:
        UserError: the journal is damaged.
    """
    if not path.is_file():
        return
    for record in read_journal(path):
        if record["kind"] != "metrics" or (record.get("final") and not with_final):
            continue
        epoch, values = record.get("step"), record.get("values")
        if not isinstance(epoch, int) or not isinstance(values, dict):
            raise UserError(f"{path} holds metrics without epoch or values; train that run again or delete its folder.")
        yield epoch, values


@cache
def _loss(key: str) -> tuple[str, str, str] | None:
    """``world_model/train/loss_observations`` -> component, split and loss."""
    found = LOSS.fullmatch(key)
    return (found[1], found[2], found[3]) if found else None


def _thinned(losses: Losses) -> Losses:
    """At most ``LOSS_EPOCHS`` epochs a split, evenly spaced back from the last: equal runs keep equal epochs."""
    kept: Losses = {}
    for split in ("train", "eval"):
        places = sorted((place for place in losses if place[0] == split), reverse=True)
        step = -(-len(places) // LOSS_EPOCHS) or 1
        kept |= {place: losses[place] for place in places[::step]}
    return kept


def _number(value: object, default: float = math.nan) -> float:
    """A number of the journal; the default where there is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def parameter_counts(path: Path) -> dict[str, int]:
    """Weights of the components and in total, from the shapes in the header of a safetensors file.

    The perceptual network (not in the file) and the target policy are not counted, a codebook is: what the agent needs
    to act and to imagine. Without the file there are none.
    """
    if not path.is_file():
        return {}
    counts = dict.fromkeys(COMPONENTS, 0)
    for name, shape in read_weights_header(path).items():
        component = MODULES.get(name.split(".")[0])
        if component is not None and name.rsplit(".", 1)[-1] not in STATISTICS:
            counts[component] += math.prod(shape)
    return {"parameters": sum(counts.values()), **{f"parameters_{name}": count for name, count in counts.items()}}
