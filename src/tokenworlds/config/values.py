"""From plain values, as files and the command line hold them, to the typed sections of the schema."""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, cast

from tokenworlds.config.ranges import MISSING, Range, Text
from tokenworlds.errors import UserError, excerpt, near_matches
from tokenworlds.redaction import redact

Section = TypeVar("Section")

RENAMED_KEYS = {
    "collection.train.truncation_is_end": "quirks.truncation_is_end",
    "collection.test.truncation_is_end": "quirks.truncation_is_end",
    "model.policy.burn_in_actions": "quirks.burn_in_actions",
    "model.tokenizer.perceptual_dropout": "quirks.perceptual_dropout",
    "model.tokenizer.plain": "model.tokenizer.conv",
    "model.tokenizer.residual": "model.tokenizer.resnet",
    "model.world_model.ends_alignment": "quirks.ends_alignment",
    "model.world_model.frozen_action_embeddings": "quirks.frozen_action_embeddings",
    "model.world_model.retnet.identical_layers": "quirks.identical_layers",
    "model.world_model.shared_prediction_token": "quirks.shared_prediction_token",
    "training.actor_critic.entropy_of_last": "quirks.entropy_of_last",
    "training.actor_critic.imagination_start": "quirks.imagination_start",
    "training.priority_lag": "quirks.priority_lag",
}
"""Former key of a setting or section -> its present one."""
RENAMED_CHOICES = {"model.tokenizer.network": {"plain": "conv", "residual": "resnet"}}
"""Key -> former name of a choice -> its present one."""

WHOLE_NUMBER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
WRITTEN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


class Misfit(UserError):
    """A value that the schema does not take. ``key`` says which, ``fault`` what is wrong with it."""

    def __init__(self, key: str, fault: str) -> None:
        super().__init__(f"configuration: {fault}")
        self.key, self.fault = key, fault


@dataclass(frozen=True)
class Leaf:
    """What a field of the schema takes."""

    kind: type[Any]  # int, float, str, bool, an enumeration, or list (of whole numbers or texts)
    is_optional: bool
    constraint: Range | Text | None
    or_truth: bool = False  # whether true and false are taken, too
    item: type[Any] = int  # of a list
    is_later: bool = False  # left out of plain values where it is None

    def typed(self, key: str, value: Any) -> Any:
        """``value`` in the field's type; texts are read as numbers where it asks for one.

        Raises:
            Misfit: a value of another type, or out of range.
        """
        if value is None:
            if not self.is_optional:
                raise Misfit(key, f"{key}: null is no value here: give {self._wanted()}.")
            return None
        found = (
            [self._item(item) for item in value]
            if self.kind is list and isinstance(value, list)
            else self._convert(value)
        )
        if found is None or (isinstance(found, list) and None in found):
            raise Misfit(key, f"{key}: {self._refusal(key, value)}")
        if self.constraint is not None and (fault := self.constraint.fault(key, found)):
            raise Misfit(key, fault)
        return found

    def _item(self, value: Any) -> Any:
        return _whole(value) if self.item is int else value if isinstance(value, str) else None

    def _convert(self, value: Any) -> Any:
        """None where the value has another type."""
        if self.kind is bool or (self.or_truth and _truth(value) is not None):
            return _truth(value)
        if self.kind is int:
            return _whole(value)
        if self.kind is float:
            return _real(value)
        if self.kind is str:
            return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        if issubclass(self.kind, Enum) and isinstance(value, str):
            return self.kind.__members__.get(value)
        return None

    def _wanted(self) -> str:
        if issubclass(self.kind, Enum):
            return f"one of [{', '.join(self.kind.__members__)}]"
        return WRITTEN.get(self.kind, f"a list of {'whole numbers' if self.item is int else 'texts'}")

    def _refusal(self, key: str, value: Any) -> str:
        now = f"; it is {new} now" if (new := RENAMED_CHOICES.get(key, {}).get(str(value))) else ""
        if issubclass(self.kind, Enum):
            return f"Invalid value '{excerpt(value)}', expected {self._wanted()}{now}."
        return f"Value '{excerpt(value)}' is not {self._wanted()}."


def _whole(value: Any) -> int | None:
    """``010`` is ten."""
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value) and len(value) < 4000:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")
    except ValueError:
        return None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def fields_of(schema: Any) -> dict[str, Leaf | type[Any]]:
    """Name -> what a field of a dataclass takes: a value, or the type of a section."""
    return _fields_of(schema)


@functools.cache
def _fields_of(schema: Any) -> dict[str, Leaf | type[Any]]:
    hints = typing.get_type_hints(schema)
    found: dict[str, Leaf | type[Any]] = {}
    for entry in dataclasses.fields(schema):
        kinds = typing.get_args(hints[entry.name]) if isinstance(hints[entry.name], types.UnionType) else ()
        kind = next((kind for kind in kinds if kind is not types.NoneType), hints[entry.name])
        if dataclasses.is_dataclass(kind):
            found[entry.name] = cast(type[Any], kind)
        else:
            (item,) = typing.get_args(kind) or (int,)
            kind = typing.get_origin(kind) or kind
            or_truth, is_later = bool in kinds and kind is not bool, "later" in entry.metadata
            given = entry.metadata.get("range")
            found[entry.name] = Leaf(kind, types.NoneType in kinds, given, or_truth, item, is_later)
    return found


def leaves(schema: type[Any], values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Leaf, Any]]:
    """Every value of nested sections: its dotted key, what the schema takes there, and the value as given.

    Raises:
        Misfit: an unknown key, or a value in the place of a section.
    """
    known = fields_of(schema)
    for name, value in values.items():
        key, place = f"{prefix}{name}", known.get(name)
        if place is None:
            hint = f"it is {RENAMED_KEYS[key]} now." if key in RENAMED_KEYS else near_matches(str(name), known)
            raise Misfit(key, f"{excerpt(key, 70)}: Key '{excerpt(name)}' not in '{schema.__name__}'; {hint}")
        if isinstance(place, Leaf):
            yield key, place, value
        elif isinstance(value, Mapping):
            yield from leaves(place, value, f"{key}.")
        else:
            raise Misfit(key, f"{key}: '{excerpt(value)}' stands where a section with keys of its own is expected.")


def nested(key: str, value: Any) -> dict[str, Any]:
    """``a.b`` as the section a with the key b."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return cast(dict[str, Any], value)


def assemble(schema: type[Section], values: Mapping[str, Any], prefix: str = "") -> Section:
    """The section of typed values by dotted key. What is not given has the schema's value, perhaps ``MISSING``; an
    optional section of which nothing is given is None."""
    chosen: dict[str, Any] = {}
    for entry in dataclasses.fields(cast(Any, schema)):
        key, place = f"{prefix}{entry.name}", fields_of(schema)[entry.name]
        if isinstance(place, Leaf):
            if key in values:
                chosen[entry.name] = values[key]
        elif entry.default is not None or any(name.startswith(f"{key}.") for name in values):
            chosen[entry.name] = assemble(place, values, f"{key}.")
    return schema(**chosen)


def missing_keys(section: Any, prefix: str = "") -> Iterator[str]:
    """Keys without a value yet, of a section or (none) of None."""
    for entry in () if section is None else dataclasses.fields(section):
        value = getattr(section, entry.name)
        if dataclasses.is_dataclass(value):
            yield from missing_keys(value, f"{prefix}{entry.name}.")
        elif isinstance(value, str) and value == MISSING:
            yield f"{prefix}{entry.name}"


def to_dict(section: Any) -> dict[str, Any]:
    """Plain values (enums by name), ready for YAML or JSON; passwords in addresses are masked, and sections and later
    settings (``ranges.later``) that are None are left out: these leave the hashes of other configurations alone."""
    found: dict[str, Any] = {}
    for name, place in fields_of(type(section)).items():
        value = getattr(section, name)
        if isinstance(place, Leaf):
            if value is not None or not place.is_later:
                found[name] = _plain(value)
        elif value is not None:
            found[name] = to_dict(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else redact(value) if isinstance(value, str) else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def current(key: str, value: Any) -> tuple[str, Any]:
    """A setting of a run of an earlier version under its present name."""
    old = next((old for old in RENAMED_KEYS if f"{key}.".startswith(f"{old}.")), None)
    value = RENAMED_CHOICES.get(key, {}).get(value, value) if isinstance(value, str) else value
    return key if old is None else RENAMED_KEYS[old] + key.removeprefix(old), value
