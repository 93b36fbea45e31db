"""Ranges of settings: declared beside the field of its dataclass, checked in one place.

    @dataclass
    class CollectionConfig:
        num_envs: int = integer(1, 1024)
        epsilon: float = probability()
        steps: int | None = integer(1, STEPS, default=None)

Booleans, enumerations and sections are bounded by their types. Every other field gives its range, or, for a text, says
why it has none.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any

from tokenworlds.errors import UserError, excerpt

MISSING: Any = "???"  # default of a field that needs a value; OmegaConf's mark, so that it can read the schemas

# Upper bounds of settings: far above any use, and low enough that a slip of a few digits is refused at once.
BATCH = 16_384
BLOCKS = 4_096
ENVIRONMENTS = 1_024
EPISODES = 100_000
EPOCHS = 1_000_000
HEADS = 256
LAYERS = 256
LONGEST_TEXT = 4_096  # characters: no file system takes longer paths
MEMORY = 1_000_000  # tokens or blocks
PIXELS = 1_024
STEPS = 10_000_000  # agent steps an epoch
UPDATES = 1_000_000  # an epoch
VOCABULARY = 65_536
WEIGHT = 1_000_000
WIDTH = 16_384


@dataclass(frozen=True)
class Range:
    """Numbers from ``lowest`` to ``highest``, without these where they are open; of a list, every element."""

    lowest: float
    highest: float
    is_open_below: bool = False
    is_open_above: bool = False
    longest: int | None = None  # of a list: at most so many elements

    def fault(self, key: str, value: Any) -> str | None:
        """What is wrong with ``value``, None when nothing is."""
        if value is None or value == MISSING:
            return None
        if isinstance(value, list):
            return self._fault_of_list(key, value)
        if isinstance(value, float) and not math.isfinite(value):
            return f"{key} must be a finite number, not {value}."
        if value < self.lowest or (self.is_open_below and value == self.lowest):
            bound = f"above {self.lowest:g}" if self.is_open_below else f"at least {_written(self.lowest)}"
        elif value > self.highest or (self.is_open_above and value == self.highest):
            bound = f"below {self.highest:g}" if self.is_open_above else f"at most {_written(self.highest)}"
        else:
            return None
        return f"{key} must be {bound}, not {excerpt(value)}."

    def _fault_of_list(self, key: str, values: list[Any]) -> str | None:
        longest = self.longest or 0
        if len(values) > longest:
            return f"{key} must have at most {longest} elements, not {len(values)}."
        faults = (self.fault(f"{key}[{index}]", value) for index, value in enumerate(values))
        return next(filter(None, faults), None)


@dataclass(frozen=True)
class Text:
    """A text of one line, of a certain form or (``because``) of any."""

    because: str
    pattern: str | None = None
    expected: str = ""

    def fault(self, key: str, value: Any) -> str | None:
        """What is wrong with ``value``, None when nothing is; true and false may stand for a text."""
        if value is None or value == MISSING or isinstance(value, bool):
            return None
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return f"{key} must be {self.expected}, not {excerpt(value)}."
        if not value or not value.isprintable() or len(value) > LONGEST_TEXT:
            return f"{key} must be one line of 1 to {LONGEST_TEXT} characters, not {excerpt(repr(value))}."
        if "${" in value:
            return f"{key} is {excerpt(value)}, but nothing is put in place of ${{...}}: write the value itself."
        return None


@dataclass(frozen=True)
class Texts(Text):
    """A list of at most ``longest`` texts."""

    longest: int = 0

    def fault(self, key: str, value: Any) -> str | None:
        if len(value) > self.longest:
            return f"{key} must have at most {self.longest} elements, not {len(value)}."
        faults = (super(Texts, self).fault(f"{key}[{index}]", one) for index, one in enumerate(value))
        return next(filter(None, faults), None)


def _written(bound: float) -> str:
    return f"{int(bound):,}" if float(bound).is_integer() else f"{bound:g}"


def require(condition: bool, sentence: str) -> None:
    """Raise a ``UserError`` unless a combination of settings can work."""
    if not condition:
        raise UserError(f"configuration: {sentence}")


def check_ranges(section: Any, prefix: str = "") -> None:
    """Check every field of a configuration and of its sections.

    Raises:
        UserError: a value out of its range, with its full key.
    """
    for entry in dataclasses.fields(section):
        key, value, constraint = f"{prefix}{entry.name}", getattr(section, entry.name), entry.metadata.get("range")
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{key}.")
        elif constraint is not None and (fault := constraint.fault(key, value)):
            raise UserError(f"configuration: {fault}")


def limits(constraint: Range | Text, default: Any) -> Any:
    """A field of a dataclass with a range."""
    settings: dict[str, Any] = {"metadata": {"range": constraint}}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), **settings)
    return field(default=default, **settings)


def integer(minimum: int, maximum: int, default: Any = MISSING) -> Any:
    return limits(Range(minimum, maximum), default)


def integers(minimum: int, maximum: int, longest: int, default: Any = MISSING) -> Any:
    """A list of at most ``longest`` whole numbers."""
    return limits(Range(minimum, maximum, longest=longest), default)


def texts(because: str, longest: int) -> Any:
    """A list of at most ``longest`` texts of any form, by default of none."""
    return limits(Texts(because, longest=longest), [])


def later(constraint: Range | Text | None = None) -> Any:
    """A field that was added later, None by default: then it is no part of a configuration's plain values
    (``to_dict``), so that the hashes of other configurations stay as they are."""
    return field(default=None, kw_only=True, metadata={"range": constraint, "later": True})


def number(minimum: float, maximum: float, default: Any = MISSING) -> Any:
    return limits(Range(minimum, maximum), default)


def positive(maximum: float, default: Any = MISSING, above: float = 0) -> Any:
    """A number above 0 (or above ``above``)."""
    return limits(Range(above, maximum, is_open_below=True), default)


def probability(default: Any = MISSING) -> Any:
    """From 0 to 1, both included."""
    return limits(Range(0, 1), default)


def dropout(default: Any = MISSING) -> Any:
    """A probability below 1: dropout of everything leaves nothing to learn from."""
    return limits(Range(0, 1, is_open_above=True), default)


def text(because: str, default: Any = MISSING) -> Any:
    """A text of any form, with the reason why it has no range."""
    return limits(Text(because), default)


def one_of(pattern: str, expected: str, default: Any = MISSING) -> Any:
    """A text of a form: a regular expression, and the same in words."""
    return limits(Text("", pattern, expected), default)
