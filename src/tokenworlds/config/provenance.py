"""What a person changed in the configuration of a run, and which runs were made with the same settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenworlds.config.method_file import MethodFile
from tokenworlds.config.schema import RunConfig, content, digest, to_dict
from tokenworlds.config.values import assemble, flat

IDENTITY = ("method", "task", "seed", "scale", "variant")
EXECUTION = ("out", "replace", "runtime")
WEIGHTS = "model.tokenizer.perceptual_weights"  # everybody's own path; its content counts


@dataclass(frozen=True)
class Provenance:
    """Where the values of a run come from.

    Attributes:
        overrides: plain value by dotted key, of every setting that is not the shipped one for this method, task, scale
            and variant: from the root ``params.yaml``, an edit of the method's, or the command line.
        settings_hash: twelve hexadecimal digits that all tasks of a family and all seeds share if they were made with
            the same settings.
    """

    overrides: dict[str, Any]
    settings_hash: str


def provenance(config: RunConfig) -> Provenance:
    """Compare a configuration with what the files of the project hold."""
    file = MethodFile(config.method)
    found, shipped = _settings(config), _settings(_shipped(file, config, config.task))
    overrides = {key: value for key, value in found.items() if value != shipped[key] and key != WEIGHTS}
    family = config.task.partition("/")[0]
    settings = flat(content(_shipped(file, config, f"{family}/"))) | {
        key: value for key, value in flat(content(config)).items() if key in (*overrides, WEIGHTS)
    }
    for key in ("task", "seed"):
        del settings[key]
    return Provenance(overrides, digest(settings | {"family": family}))


def _shipped(file: MethodFile, config: RunConfig, task: str) -> RunConfig:
    """The configuration of the same run if no person had set anything; of ``<family>/`` without a task's own values."""
    values = file.shipped(file.stack(task, config.scale.name, config.variant))
    identity = {name: getattr(config, name) for name in IDENTITY}
    return assemble(file.schema, values | identity | {"task": task})


def _settings(config: RunConfig) -> dict[str, Any]:
    values = to_dict(config)
    return flat({name: value for name, value in values.items() if name not in (*IDENTITY, *EXECUTION)})
