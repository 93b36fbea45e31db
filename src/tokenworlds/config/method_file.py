"""``pipeline/<method>/params.yaml``: the layers that a run takes from it, and what a person changed in them.

``published.yaml`` beside it records all of its values as they are shipped: what differs from its record was set by a
person, also by ``dvc exp run -S``. ``python -m tokenworlds.config.record <method>`` writes the record anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from tokenworlds.config.paths import project_root
from tokenworlds.config.run import SCHEMAS, RunConfig
from tokenworlds.config.values import Misfit, leaves
from tokenworlds.config.yaml_files import line_of, read_mapping
from tokenworlds.errors import UserError, excerpt, near_matches
from tokenworlds.tasks import is_any

FAMILY_DEFAULTS = "family_defaults"  # families whose settings any Gymnasium environment takes, by what it shows
VARIANT = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]*")
NAMED = ("families", FAMILY_DEFAULTS, "scales", "tasks", "variants")  # sections of overrides


@dataclass(frozen=True)
class Source:
    """A file of settings, with its name in messages."""

    path: Path
    shown: str

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """Its plain values; none where there is no file."""
        return read_mapping(self.path, self.shown) if self.path.exists() else {}

    def place(self, *keys: str) -> str:
        """File and line of a value."""
        line = line_of(self.path, keys)
        return self.shown if line is None else f"{self.shown} line {line}"

    def section(self, *names: str) -> Mapping[str, Any]:
        """The section of these names; empty where it is absent."""
        found: Any = self.content
        for depth, name in enumerate(names, start=1):
            found = found.get(name)
            if found is None:
                return {}
            if not isinstance(found, Mapping):
                place = self.place(*names[:depth])
                raise UserError(
                    f"{place}: {'.'.join(names[:depth])} must be a section (key: value), not {found!r:.40}."
                )
        return cast(Mapping[str, Any], found)

    def values(self, schema: type[RunConfig], names: tuple[str, ...], without: tuple[str, ...]) -> dict[str, Any]:
        """Typed values by dotted key of the section ``names``."""
        section = {key: value for key, value in self.section(*names).items() if key not in without}
        try:
            return {key: leaf.typed(key, value) for key, leaf, value in leaves(schema, section)}
        except Misfit as error:
            raise UserError(f"{self.place(*names, *error.key.split('.'))}: {error.fault}") from error


@dataclass(frozen=True)
class Layer:
    """Typed values by dotted key, and their record. ``sections`` are those of the file around them."""

    source: Source
    sections: tuple[str, ...]
    values: Mapping[str, Any]
    record: Mapping[str, Any]

    def edited(self) -> dict[str, Any]:
        """The values that differ from their record."""
        return {key: value for key, value in self.values.items() if key in self.record and value != self.record[key]}

    def added(self) -> dict[str, Any]:
        """The values without a record."""
        return {key: value for key, value in self.values.items() if key not in self.record}

    def name(self, key: str) -> str:
        return ".".join((*self.sections, key))

    def place(self, key: str) -> str:
        return self.source.place(*self.sections, *key.split("."))


@dataclass(frozen=True)
class Stack:
    """The layers of one run, from the bottom up: ``named`` are the method's own values and those of families, scale,
    scale of the families, and task; ``variant`` are the variant's and those that it has for the family and for the
    scale."""

    named: list[Layer]
    variant: list[Layer]

    @property
    def point(self) -> dict[str, Any]:
        """The variant's values, those that a person edited on top."""
        return united(self.variant) | {key: value for layer in self.variant for key, value in layer.edited().items()}

    def below_named(self) -> Iterator[tuple[Layer, str]]:
        """Every value of a named layer that another one overrides."""
        for index, layer in enumerate(self.named):
            above = united(self.named[index + 1 :])
            yield from ((layer, key) for key in layer.values if key in above)


def united(layers: list[Layer]) -> dict[str, Any]:
    """The values of all layers, later ones on top."""
    values: dict[str, Any] = {}
    for layer in layers:
        values |= layer.values
    return values


class MethodFile:
    """The settings of one method, and their record."""

    def __init__(self, method: str) -> None:
        folder = Path("pipeline") / method
        self.method = method
        self.source, self.record = (
            Source(project_root() / folder / name, f"{folder.as_posix()}/{name}")
            for name in ("params.yaml", "published.yaml")
        )
        self._layers: dict[tuple[str, ...], Layer] = {}

    @property
    def schema(self) -> type[RunConfig]:
        return SCHEMAS.get(self.method, RunConfig)

    def layer(self, *names: str, without: tuple[str, ...] = ()) -> Layer:
        """The values under these names.

        Raises:
            UserError: an unknown key or an impossible value, with file and line.
        """
        if names not in self._layers:
            values, record = (source.values(self.schema, names, without) for source in (self.source, self.record))
            self._layers[names] = Layer(self.source, names, values, record)
        return self._layers[names]

    def stack(self, task: str, scale: str, variant: str | None) -> Stack:
        """The layers of a run.

        Raises:
            UserError: an unknown variant, a mistake in one of the layers, or an environment without settings.
        """
        families = self.families(task)
        named = [
            self.layer(without=NAMED),
            *(self.layer("families", family, without=("scales",)) for family in families),
            self.layer("scales", scale),
            *(self.layer("families", family, "scales", scale) for family in families),
            self.layer("tasks", task),
        ]
        return Stack(named, [] if variant is None else self._variant(variant, families, scale))

    def families(self, task: str) -> list[str]:
        """The families whose settings a task takes, from the bottom up: its own; of any Gymnasium environment those
        that ``family_defaults`` names for what it shows.

        Raises:
            UserError: the method has none for that, or the environment cannot be made to find out.
        """
        if not is_any(task):
            return [task.partition("/")[0]]
        from tokenworlds.config import spaces  # here, so that other tasks do without Gymnasium

        shown, defaults = spaces.kind(task).name, self.source.section(FAMILY_DEFAULTS)
        if not isinstance(families := defaults.get(shown), list):
            raise UserError(
                f"{excerpt(task, 60)} shows {spaces.SHOWN[spaces.Kind[shown]]}, but {FAMILY_DEFAULTS} of {self.method} "
                f"names families for {', '.join(map(str, defaults)) or 'nothing'} alone: train it with method=m3."
            )
        known = self.source.section("families")
        if unknown := [family for family in families if family not in known]:
            place = self.source.place(FAMILY_DEFAULTS, shown)
            raise UserError(f"{place}: unknown family '{excerpt(unknown[0])}': {near_matches(str(unknown[0]), known)}")
        return families

    def _variant(self, name: str, of_task: list[str], scale: str) -> list[Layer]:
        variants = self.source.section("variants")
        for known in variants:
            if not VARIANT.fullmatch(str(known)) or not isinstance(known, str):
                raise UserError(
                    f"{self.source.place('variants', str(known))}: '{excerpt(known)}' cannot be the name of a variant, "
                    "which becomes a part of folders and commands: write letters (a to z), digits, ., _ and -."
                )
        if name not in variants:
            raise UserError(f"unknown variant '{name:.80}' of {self.method}: {near_matches(name, map(str, variants))}")
        for kind in ("families", "scales"):
            if unknown := self.source.section("variants", name, kind).keys() - self.source.section(kind).keys():
                names = ", ".join(map(str, unknown))
                raise UserError(f"variant '{name}' of {self.method} names {kind} without settings: {names}.")
        return [
            self.layer("variants", name, without=("families", "scales")),
            *(self.layer("variants", name, "families", family) for family in of_task),
            self.layer("variants", name, "scales", scale),
        ]

    def set_by_a_person(self, stack: Stack) -> dict[str, tuple[Any, str]]:
        """Values of the named layers that differ from their record or have none, each with its place; of several for
        one setting the topmost.

        Raises:
            UserError: one without a record below another, which may or may not be a person's.
        """
        for layer, key in stack.below_named():
            if key not in layer.record:
                raise UserError(
                    f"{layer.place(key)}: {layer.name(key)} has no effect here, another layer of the file sets {key} "
                    f"above it: set it there, in the root params.yaml or on the command line, or record it in "
                    f"{self.record.path.name}."
                )
        found: dict[str, tuple[Any, str]] = {}
        for layer in stack.named:
            # What was added may be of a new family or task, which a variant overrides as it does the shipped ones.
            added = {key: value for key, value in layer.added().items() if key not in stack.point}
            for key, value in (layer.edited() | (added if self.record.content else {})).items():
                found[key] = value, layer.place(key)
        return found

    def shipped(self, stack: Stack) -> dict[str, Any]:
        """The recorded values of all layers, without what a person set. A variant without any record is new, and is
        what its author wrote."""
        values: dict[str, Any] = {}
        for layers in (stack.named, stack.variant):
            has_record = any(self.record.section(*layer.sections) for layer in layers)
            for layer in layers:
                values |= layer.record if has_record else layer.values
        return values
