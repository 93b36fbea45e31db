"""Layers of a run's configuration.

From the bottom up:

1. ``pipeline/<method>/params.yaml``: the published values (which are nowhere else), for all tasks and, under
   ``families.<family>``, for those of one family of environments (any Gymnasium environment takes those of the
   families that ``family_defaults`` names for what it shows);
2. named overrides of the same file: ``scales.<scale>``, ``families.<family>.scales.<scale>``, ``tasks.<task>``;
3. what a person changed in these, which differs from the record in ``published.yaml`` beside the file (of several
   changes of one setting, the topmost);
4. ``variants.<variant>``, ``variants.<variant>.families.<family>``, ``variants.<variant>.scales.<scale>`` of the same
   file;
5. the root ``params.yaml``: settings for all runs (such as ``model.backbone``);
6. command-line overrides.

Every value is checked against the dataclasses of ``run.SCHEMAS``: an unknown key, a wrong type, an unknown choice or a
value out of range fails at once with its full name and place. 3, 5 and 6 must not contradict 4: a run under the name of
a variant has what makes the variant.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

from tokenworlds.config import command_line
from tokenworlds.config.initialization import PARTS, digest_of
from tokenworlds.config.method_file import MethodFile, Source, united
from tokenworlds.config.paths import project_root
from tokenworlds.config.provenance import remember_chosen
from tokenworlds.config.run import ALTERNATIVES, ALWAYS_KEPT, SCHEMAS, RunConfig, Scale, validate
from tokenworlds.config.trunk import OWN_KEYS
from tokenworlds.config.values import (
    Leaf,
    Misfit,
    assemble,
    current,
    fields_of,
    flat,
    leaves,
    missing_keys,
    nested,
)
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError, excerpt, near_matches

FOR_ALL_RUNS = (  # of the root params.yaml
    "environment", "collection", "model", "training", "quirks", "evaluation", "initialization"
)  # fmt: skip
STATE = (
    *("method", "task", "seed", "scale", "variant", "environment", "model", "quirks", "initialization"),
    *("collection.train.num_envs", "collection.train.final_observation"),
    *("training.sampling", "training.sequence_length", "training.actor_critic.return_window"),
    *(f"training.{part}.decay" for part in PARTS),
)
"""Settings that the state of a training depends on, which ``extend`` leaves as they are."""

Placed = dict[str, tuple[Any, str]]
"""Dotted key -> value, and where it was given."""


def known_methods() -> list[str]:
    return sorted(path.parent.name for path in (project_root() / "pipeline").glob("*/params.yaml"))


def load(overrides: list[str]) -> RunConfig:
    """The resolved configuration of the run described by ``overrides`` such as ``["method=iris", "task=atari/Pong"]``.

    Raises:
        UserError: unknown method, variant, key or choice; wrong type; value out of range; missing value; impossible
            combination; a setting against the chosen variant, or against the run that ``extend`` names.
    """
    given = command_line.settings(overrides)
    if (extended := dict(given).get("extend")) is not None:
        return _longer(str(extended), given)
    method, task = _required(given, "method"), _required(given, "task")
    if method not in known_methods():
        raise UserError(f"unknown method '{excerpt(method)}': {near_matches(method, known_methods())}")
    file = MethodFile(method)
    typed = _typed(file.schema, given)
    scale, variant = typed.get("scale", (Scale.paper, ""))[0], typed.get("variant", (None, ""))[0]
    stack = file.stack(task, scale.name, variant)
    by_person = file.set_by_a_person(stack)
    values = united(stack.named) | _values(by_person) | stack.point
    for_all = _root(file.schema, values)
    for settings in (by_person, for_all, typed):
        _refuse_against_variant(f"variant '{variant}' of {method}", stack.point, settings)
    config = assemble(file.schema, values | _values(for_all) | _values(typed))
    _drop_unchosen(config)
    _require_complete(config, file)
    remember_chosen(config, (*by_person, *for_all, *typed))
    return validate(config)


def load_written(path: Path) -> RunConfig:
    """The configuration that a run wrote, also one of an earlier version, with former names of settings.

    Raises:
        UserError: not readable, an unknown key, an impossible value, or a value that is missing.
    """
    schema, typed = _written(path)
    config = assemble(schema, typed)
    for key in missing_keys(config):
        raise Misfit(key, f"{key} has no value.")
    return config


def _written(path: Path) -> tuple[type[RunConfig], dict[str, Any]]:
    """The schema and the typed values by dotted key of the configuration that a run wrote."""
    written = dict(current(key, value) for key, value in flat(read_mapping(path)).items())
    schema = SCHEMAS.get(str(written.get("method")), RunConfig)
    return schema, {
        key: leaf.typed(key, value)
        for name, content in written.items()
        for key, leaf, value in leaves(schema, _of_schema(schema, list(SCHEMAS.values()), nested(name, content)))
    }


def _longer(place: str, given: list[tuple[str, Any]]) -> RunConfig:
    """The configuration of the finished run in the folder ``place``, with more epochs and other settings on top."""
    run = Path(place)
    try:
        record = json.loads((run / "scores.json").read_text())
        found = {"epochs": record["budget"]["epochs"], "config_hash": record["config_hash"], "weights": digest_of(run)}
        epochs, chosen, _ = int(found["epochs"]), list(record.get("overrides") or ()), len(found["weights"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"extend={excerpt(place, 80)} is no finished run: it has no scores.json that says what it trained; give a "
            "folder below results/runs."
        ) from error
    schema, values = _written(run / "config.yaml")
    own = ("out.", "replace.", "runtime.suite.", "runtime.resume.", "extended_from.")  # of that run alone
    values = {key: value for key, value in values.items() if not f"{key}.".startswith(own)}
    typed = _typed(schema, given)
    for key, (value, _) in typed.items():
        if any(f"{key}.".startswith(f"{name}.") for name in STATE) and value != values.get(key):
            raise UserError(
                f"extend={excerpt(place, 60)} goes on with {key}={_shown(values.get(key))}, not with {_shown(value)}: "
                "leave that out, or start another run from its weights (initialization.path)."
            )
    _refuse_against_variant(f"variant '{values['variant']}'", _point(values), typed)
    config = assemble(schema, values | _values(typed) | {f"extended_from.{key}": value for key, value in found.items()})
    if config.training.epochs <= epochs:
        raise UserError(
            f"extend={excerpt(place, 60)} has {epochs} epochs already: give more, such as training.epochs={2 * epochs}."
        )
    if config.out_dir.resolve() == run.resolve():
        raise UserError(f"extend={excerpt(place, 60)} stays as it is: give the longer run a folder with out=...")
    remember_chosen(config, (*chosen, *typed))
    return validate(config)


def _point(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the variant of a run sets."""
    return MethodFile(values["method"]).stack(values["task"], values["scale"].name, values["variant"]).point


def _required(given: list[tuple[str, Any]], name: str) -> str:
    value = dict(given).get(name)
    if value is None:
        raise UserError(f"configuration: {name} is not given; say for example method=iris task=atari/Pong seed=0.")
    return str(value)


def _values(settings: Placed) -> dict[str, Any]:
    return {key: value for key, (value, _) in settings.items()}


def _typed(schema: type[RunConfig], given: list[tuple[str, Any]]) -> Placed:
    """The command line's values."""
    return {
        key: (leaf.typed(key, value), "the command line")
        for name, content in given
        for key, leaf, value in leaves(schema, nested(name, content))
    }


def _root(schema: type[RunConfig], below: Mapping[str, Any]) -> Placed:
    """The values of the root ``params.yaml``, where null means: the method's own value.

    Raises:
        UserError: a section that is none for all runs, or a mistake in one, with file and line.
    """
    source = Source(project_root() / "params.yaml", "params.yaml")
    for name in source.content:
        if name not in FOR_ALL_RUNS:
            raise UserError(
                f"{source.place(str(name))}: '{excerpt(name)}' is no section for all runs "
                f"({', '.join(FOR_ALL_RUNS)}); give it on the command line or in pipeline/<method>/params.yaml."
            )
    settings: Placed = {}
    try:
        given = {name: part for name, part in source.content.items() if part is not None}
        for key, leaf, value in leaves(schema, _of_schema(schema, list(SCHEMAS.values()), given)):
            if value is not None:
                settings[key] = leaf.typed(key, value), source.place(*key.split("."))
            elif leaf.is_optional and below.get(key) is not None:
                raise Misfit(
                    key,
                    f"{key}: null means the method's own value, {_shown(below[key])}; give null on the command line or "
                    "in pipeline/<method>/params.yaml.",
                )
    except Misfit as error:
        raise UserError(f"{source.place(*error.key.split('.'))}: {error.fault}") from error
    return settings


def _of_schema(schema: type[Any], others: list[type[Any]], values: Mapping[Any, Any]) -> dict[Any, Any]:
    """``values`` without what only other methods know, such as perceptual weights where a tokenizer has none."""
    known = fields_of(schema)
    chosen: dict[Any, Any] = {}
    for name, value in values.items():
        place, elsewhere = known.get(name), [found for other in others if (found := fields_of(other).get(name))]
        sections = [found for found in elsewhere if not isinstance(found, Leaf)]
        if place is None and elsewhere:
            continue
        if place is None or isinstance(place, Leaf) or not isinstance(value, Mapping):
            chosen[name] = value
        else:
            chosen[name] = _of_schema(place, sections, value)
    return chosen


def _refuse_against_variant(variant: str, point: Mapping[str, Any], settings: Placed) -> None:
    """Refuse other values of what a variant sets, but another place of the same weights."""
    for key, (value, place) in settings.items():
        if key in point and value != point[key] and key not in OWN_KEYS:
            raise UserError(
                f"{variant} sets {key} to {_shown(point[key])}, {place} to {_shown(value)}: leave the variant away, or "
                "that setting."
            )


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Enum) else "null" if value is None else excerpt(value)


def _drop_unchosen(config: RunConfig) -> None:
    """Leave out settings of alternatives that are not chosen: incomplete ones, and those that no hash covers."""
    for choice, place in ALTERNATIVES.items():
        section: Any = functools.reduce(getattr, place.split("."), cast(Any, config))
        chosen = getattr(section if choice.startswith(f"{place}.") else config.model, choice.rpartition(".")[2], None)
        if isinstance(chosen, Enum):  # the method has this choice, and a value for it
            for name in type(chosen).__members__.keys() - {chosen.name}:
                if name not in ALWAYS_KEPT or any(missing_keys(getattr(section, name))):
                    setattr(section, name, None)


def _require_complete(config: RunConfig, file: MethodFile) -> None:
    """Refuse a configuration in which something has no value."""
    missing, family = sorted(missing_keys(config)), config.task.partition("/")[0]
    families = [str(name) for name in file.source.section("families")]
    known = [file.layer("families", name, without=("scales",)).values for name in families]
    if family not in families and any(key in values for values in known for key in missing):
        raise UserError(
            f"configuration: task {excerpt(config.task)}: {config.method} has no settings for {excerpt(family)}; it "
            f"has some for {', '.join(families)}."
        )
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"configuration: {', '.join(missing[:3])}{more} has no value; "
            "give one in the method's params.yaml or on the command line."
        )
