"""What a person changed in the configuration of a run, and which runs were made with the same settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenworlds.config.method_file import MethodFile
from tokenworlds.config.run import RunConfig, content, digest
from tokenworlds.config.trunk import OWN_KEYS
from tokenworlds.config.values import assemble, flat, to_dict
from tokenworlds.tasks import family_of

IDENTITY = ("method", "task", "seed", "scale", "variant")
EXECUTION = ("out", "replace", "runtime")
BEGINNING = ("extend", "extended_from", "initialization")  # training.initialization adds what they did
CHOSEN = "_chosen"  # the attribute with the keys that a person set
WEIGHTS = ("model.tokenizer.perceptual_weights", *OWN_KEYS)  # everybody's own paths; their content counts


@dataclass(frozen=True)
class Provenance:
    """Where the values of a run come from.

    Attributes:
        overrides: plain value by dotted key, of every setting from the root ``params.yaml``, an edit of the method's,
            or the command line that is not the shipped one for this method, family of tasks, scale and variant. What
            is set for all tasks counts for all of them, also for one whose own shipped value it equals.
        settings_hash: twelve hexadecimal digits that all tasks of a family and all seeds share if they were made with
            the same settings.
        begins_as_shipped: whether the parts of other agents that the run begins with, if any, are those of its variant.
    """

    overrides: dict[str, Any]
    settings_hash: str
    begins_as_shipped: bool = False


def provenance(config: RunConfig) -> Provenance:
    """Compare a configuration with what the files of the project hold."""
    file, family = MethodFile(config.method), family_of(config.task)
    shared = config.task if family == config.task else f"{family}/"
    of_family, of_task = (_shipped(file, config, task) for task in (shared, config.task))
    shipped, own, chosen = _settings(of_family), _settings(of_task), _chosen(config)
    overrides = {
        key: value
        for key, value in _settings(config).items()
        if key not in WEIGHTS and value != shipped.get(key) and (key in chosen or value != own.get(key))
    }
    plain = to_dict(of_family)
    begins_with = {
        name: plain[name] for name in BEGINNING if plain.get(name) is not None
    }  # not which weights these are
    settings = flat(content(plain) | begins_with) | {
        key: value for key, value in flat(content(to_dict(config))).items() if key in (*overrides, *WEIGHTS)
    }
    for key in ("task", "seed"):
        del settings[key]
    begins = [
        some.initialization and (some.initialization.sources, some.initialization.optimizers)
        for some in (config, of_task)
    ]
    return Provenance(overrides, digest(settings | {"family": family}), begins[0] == begins[1])


def remember_chosen(config: RunConfig, keys: Iterable[str]) -> None:
    """Note beside a configuration's values which of them a person set; it is no value itself, and enters no hash."""
    vars(config)[CHOSEN] = frozenset(keys)


def _chosen(config: RunConfig) -> frozenset[str]:
    """The keys that ``remember_chosen`` noted; of a configuration that was put together without files none."""
    return frozenset(vars(config).get(CHOSEN, ()))


def _shipped(file: MethodFile, config: RunConfig, task: str) -> RunConfig:
    """The configuration of the same run if no person had set anything; of ``<family>/`` without a task's own values."""
    values = file.shipped(file.stack(task, config.scale.name, config.variant))
    identity = {name: getattr(config, name) for name in IDENTITY}
    return assemble(file.schema, values | identity | {"task": task})


def _settings(config: RunConfig) -> dict[str, Any]:
    values = to_dict(config)
    return flat({name: value for name, value in values.items() if name not in (*IDENTITY, *EXECUTION, *BEGINNING)})
