"""``pipeline/<method>/params.yaml``: the layers that a run takes from it, and what a person changed in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from tokenworlds.config.schema import SCHEMAS, RunConfig, project_root
from tokenworlds.config.values import Misfit, leaves
from tokenworlds.errors import UserError, near_matches
from tokenworlds.yaml_files import line_of, read_mapping

NAMED = ("families", "scales", "tasks", "variants")  # sections of overrides
PUBLISHED = "published"  # section: the record of all values of the file as they are shipped


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
    """Typed values by dotted key, and what is recorded of them. ``sections`` are those of the file around them."""

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
    """The layers of one run, from the bottom up: ``named`` are the method's own values and those of family, scale,
    scale of the family, and task; ``variant`` are the variant's and those that it has for the family."""

    named: list[Layer]
    variant: list[Layer]

    @property
    def point(self) -> dict[str, Any]:
        """What the variant is about: its values, those that a person edited on top."""
        return united(self.variant) | {key: value for layer in self.variant for key, value in layer.edited().items()}

    def below_named(self) -> Iterator[tuple[Layer, str]]:
        """Every value of a named layer that lies below that of another one."""
        for index, layer in enumerate(self.named):
            above = united(self.named[index + 1 :])
            yield from ((layer, key) for key in layer.values if key in above)


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
            values, record = self._values(names, without), self._values((PUBLISHED, *names), without)
            self._layers[names] = Layer(self.source, names, values, record)
        return self._layers[names]

    def _values(self, names: tuple[str, ...], without: tuple[str, ...]) -> dict[str, Any]:
        section = {key: value for key, value in self.section(*names).items() if key not in without}
        try:
            return {key: leaf.typed(key, value) for key, leaf, value in leaves(self.schema, section)}
        except Misfit as error:
            raise UserError(f"{self.source.place(*names, *error.key.split('.'))}: {error.fault}") from error

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

    def set_by_a_person(self, stack: Stack) -> dict[str, tuple[Any, str]]:
        """Values of the named layers that differ from their record or have none, with the places where they stand; of
        several for one setting the topmost.

        Raises:
            UserError: one without a record below another, which may or may not be a person's.
        """
        for layer, key in stack.below_named():
            if key not in layer.record:
                raise UserError(
                    f"{layer.place(key)}: {layer.name(key)} has no effect here, another layer of the file sets {key} "
                    f"above it: set it there, in the root params.yaml or on the command line, or record it under "
                    f"`{PUBLISHED}`."
                )
        found: dict[str, tuple[Any, str]] = {}
        for layer in stack.named:
            # What was added may be of a new family or task, over which a variant lies as over the shipped ones.
            added = {key: value for key, value in layer.added().items() if key not in stack.point}
            for key, value in (layer.edited() | (added if self.section(PUBLISHED) else {})).items():
                found[key] = value, layer.place(key)
        return found

    def shipped(self, stack: Stack) -> dict[str, Any]:
        """The values of all layers as the record has them: without what a person set. A variant without any record was
        added, and is what its author says."""
        values: dict[str, Any] = {}
        for layers in (stack.named, stack.variant):
            has_record = any(self.section(PUBLISHED, *layer.sections) for layer in layers)
            for layer in layers:
                values |= layer.record if has_record else layer.values
        return values

    def record(self) -> dict[str, Any]:
        """What the section ``published`` has to hold if no person has set anything: all of the file, as it stands."""
        return {name: part for name, part in self.content.items() if name != PUBLISHED}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Sections without sections in them on lines of their own."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = not any(isinstance(value, yaml.MappingNode) for _, value in node.value)
        return node

    def ignore_aliases(self, data: Any) -> bool:
        return True  # `dvc exp run -S` on one place would change the other


def written(record: Mapping[str, Any], width: int = 125) -> str:
    """The section ``published`` as it stands in the file: a line or more for each section of values."""
    text = yaml.dump({PUBLISHED: dict(record)}, Dumper=_Dumper, default_flow_style=None, sort_keys=False, width=width)
    return cast(str, text)


def main(methods: list[str]) -> None:
    """Print the section ``published`` of these methods."""
    for method in methods:
        print(written(MethodFile(method).record()), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
