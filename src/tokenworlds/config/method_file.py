"""``pipeline/<method>/params.yaml``: the layers that a run takes from it, and what a person changed in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, cast

import yaml

from tokenworlds.config.schema import SCHEMAS, RunConfig, Scale, project_root
from tokenworlds.config.values import Misfit, leaf_of, leaves
from tokenworlds.errors import UserError, near_matches
from tokenworlds.yaml_files import line_of, read_mapping

NAMED = ("families", "scales", "tasks", "variants")  # sections of overrides
PUBLISHED = "published"  # section: the record of the values that lie below others


@dataclass(frozen=True)
class Source:
    """A file of settings, with its name in messages."""

    path: Path
    shown: str

    def place(self, *keys: str) -> str:
        """File and line of a value."""
        line = line_of(self.path, keys)
        return self.shown if line is None else f"{self.shown} line {line}"


@dataclass(frozen=True)
class Layer:
    """Typed values by dotted key. ``sections`` are those of the file around them."""

    source: Source
    sections: tuple[str, ...]
    values: Mapping[str, Any]

    def name(self, key: str) -> str:
        return ".".join((*self.sections, key))

    def place(self, key: str) -> str:
        return self.source.place(*self.sections, *key.split("."))


@dataclass(frozen=True)
class Stack:
    """The layers of one run, from the bottom up: ``named`` are the method's own values and those of family, scale,
    scale of the family, and task; ``variant`` are the variant's and those that it has for the family."""

    named: list[Layer]
    variant: list[Layer]

    def below_others(self) -> Iterator[tuple[Layer, str, bool]]:
        """Every value of a named layer that lies below another value: the layer, the key, and whether the one above
        is in a named layer too."""
        point = united(self.variant)
        for index, layer in enumerate(self.named):
            above = united(self.named[index + 1 :])
            for key in layer.values:
                if key in above or key in point:
                    yield layer, key, key in above


def united(layers: list[Layer]) -> dict[str, Any]:
    """The values of all layers, later ones on top."""
    values: dict[str, Any] = {}
    for layer in layers:
        values |= layer.values
    return values


@dataclass
class MethodFile:
    """The file of one method."""

    method: str
    source: Source = field(init=False)
    content: Mapping[str, Any] = field(init=False)
    _layers: dict[tuple[str, ...], Layer] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.source = Source(
            project_root() / "pipeline" / self.method / "params.yaml", f"pipeline/{self.method}/params.yaml"
        )
        self.content = read_mapping(self.source.path, self.source.shown)

    @property
    def schema(self) -> type[RunConfig]:
        return SCHEMAS.get(self.method, RunConfig)

    def section(self, *names: str) -> Mapping[str, Any]:
        """What stands under these names; nothing where they are absent or empty."""
        found: Any = self.content
        for depth, name in enumerate(names, start=1):
            found = found.get(name)
            if found is None:
                return {}
            if not isinstance(found, Mapping):
                place = self.source.place(*names[:depth])
                raise UserError(
                    f"{place}: {'.'.join(names[:depth])} must be a section (key: value), not {found!r:.40}."
                )
        return cast(Mapping[str, Any], found)

    def layer(self, *names: str, without: tuple[str, ...] = ()) -> Layer:
        """The values under these names.

        Raises:
            UserError: an unknown key or an impossible value, with file and line.
        """
        if names not in self._layers:
            section = {key: value for key, value in self.section(*names).items() if key not in without}
            try:
                values = {key: leaf.typed(key, value) for key, leaf, value in leaves(self.schema, section)}
            except Misfit as error:
                place = self.source.place(*names, *error.key.split("."))
                raise UserError(f"{place}: {error.fault}") from error
            self._layers[names] = Layer(self.source, names, values)
        return self._layers[names]

    def stack(self, task: str, scale: str, variant: str | None) -> Stack:
        """The layers of a run.

        Raises:
            UserError: an unknown variant, or a mistake in one of the layers.
        """
        family = task.partition("/")[0]
        named = [
            self.layer(without=(*NAMED, PUBLISHED)),
            self.layer("families", family, without=("scales",)),
            self.layer("scales", scale),
            self.layer("families", family, "scales", scale),
            self.layer("tasks", task),
        ]
        return Stack(named, [] if variant is None else self._variant(variant, family))

    def _variant(self, name: str, family: str) -> list[Layer]:
        variants = self.section("variants")
        if name not in variants:
            raise UserError(f"unknown variant '{name:.80}' of {self.method}: {near_matches(name, map(str, variants))}")
        if unknown := self.section("variants", name, "families").keys() - self.section("families").keys():
            raise UserError(
                f"variant '{name}' of {self.method} names families without settings: {', '.join(map(str, unknown))}."
            )
        return [
            self.layer("variants", name, without=("families",)),
            self.layer("variants", name, "families", family),
        ]

    def published(self, layer: Layer, key: str) -> Any:
        """The shipped value of one that lies below others.

        Raises:
            KeyError: the section ``published`` has no record of it.
            UserError: its record is no value of this key.
        """
        name = layer.name(key)
        value = self.section(PUBLISHED)[name]
        try:
            return leaf_of(self.schema, key).typed(key, value)
        except Misfit as error:
            raise UserError(f"{self.source.place(PUBLISHED, name)}: {error.fault}") from error

    def set_by_a_person(self, stack: Stack) -> dict[str, tuple[Any, str]]:
        """Values below others that differ from their record, with the places where they stand.

        Raises:
            UserError: one without a record, which may or may not be a person's.
        """
        found: dict[str, tuple[Any, str]] = {}
        for layer, key, is_below_named in stack.below_others():
            value = layer.values[key]
            if layer.name(key) in self.section(PUBLISHED):
                if self.published(layer, key) != value:
                    found[key] = value, layer.place(key)
            elif is_below_named:
                raise UserError(
                    f"{layer.place(key)}: {layer.name(key)} has no effect here, another layer of the file sets {key} "
                    f"above it: set it there, in the root params.yaml or on the command line, or record it under "
                    f"`{PUBLISHED}`."
                )
        return found

    def shipped(self, stack: Stack) -> dict[str, Any]:
        """The values of all layers as the record has them: without what a person set."""
        values: dict[str, Any] = {}
        recorded = self.section(PUBLISHED)
        for layer in stack.named:
            for key, value in layer.values.items():
                values[key] = self.published(layer, key) if layer.name(key) in recorded else value
        return values | united(stack.variant)

    def record(self) -> dict[str, Any]:
        """What the section ``published`` has to hold if no person has set anything: every value, as it stands, that a
        later layer of some run lies above."""
        tasks = ["/", *(f"{family}/" for family in self.section("families")), *self.section("tasks")]
        found: dict[str, Any] = {}
        for task, scale, variant in product(tasks, Scale, [None, *self.section("variants")]):
            for layer, key, _ in self.stack(task, scale.name, variant).below_others():
                found[layer.name(key)] = self.section(*layer.sections, *key.split(".")[:-1])[key.rpartition(".")[2]]
        order = [layer.name(key) for layer in self._layers.values() for key in layer.values]
        return {name: found[name] for name in sorted(found, key=order.index)}


def written(record: Mapping[str, Any], width: int = 140) -> str:
    """The section ``published`` as it stands in the file: a line or more for each section of values."""
    lines = [f"{PUBLISHED}: {{"]
    section = None
    for name, value in record.items():
        entry = f"{name}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}, "
        if section != (section := name.rpartition(".")[0]) or len(lines[-1]) + len(entry) > width:
            lines.append("  ")
        lines[-1] += entry
    return "\n".join(line.rstrip() for line in [*lines, "  }"]) + "\n"


def main(methods: list[str]) -> None:
    """Print the section ``published`` of these methods."""
    for method in methods:
        print(written(MethodFile(method).record()), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
