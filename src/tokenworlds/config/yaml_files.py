"""YAML files that people edit: read strictly, every mistake named with file and line.

As in YAML 1.2, 010 is ten, and only true and false are booleans. A key stands once in its section; the file is UTF-8.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tokenworlds.errors import UserError, excerpt

# The parser in C is ten times as fast; PyYAML is also built without it.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


class _Loader(_Base):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own name and place), filled in below

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that stands twice; PyYAML would take the last one."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
                continue
            if key.value in lines:
                problem = f"'{excerpt(key.value)}' stands in line {lines[key.value]} already"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        return int(node.value)


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), list(_first))
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_integer)


def read_mapping(path: Path, shown: str | None = None) -> dict[str, Any]:
    """The plain values of a file that holds a mapping; of an empty file none. They are shared between calls: leave them
    as they are.

    Args:
        shown: the file's name in messages, by default ``path``.

    Raises:
        UserError: unreadable, not UTF-8, not YAML, a key that stands twice, or no mapping; with file and line.
    """
    try:
        status = path.stat()
        return _read(path, shown or str(path), (status.st_mtime_ns, status.st_size, status.st_ino))
    except OSError as error:
        raise UserError(f"cannot read {shown or path}: {error.strerror or error}; restore the file.") from error


@functools.lru_cache(maxsize=16)
def _read(path: Path, shown: str, _: tuple[int, ...]) -> dict[str, Any]:
    """The third argument is the state of the file: one that was edited is read again."""
    text = _text(path, shown)
    try:
        loaded = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{shown}{_place(error)} is no valid YAML: {_problem(error)}.") from error
    except ValueError as error:  # digits without end
        raise UserError(f"{shown} is no valid YAML: {excerpt(str(error), 80)}.") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        kind = "a list" if isinstance(loaded, list) else f"the value {excerpt(loaded)}"
        raise UserError(f"{shown} line {_first_line(text)}: the file must be a mapping (key: value), not {kind}.")
    return loaded


def _text(path: Path, shown: str) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{shown} line {line} is not UTF-8 text: save the file as UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{shown} line {line} is not UTF-8 text (perhaps UTF-16): save the file as UTF-8.")
    return text


def line_of(path: Path, keys: Sequence[str]) -> int | None:
    """The line in which a value of a readable file stands, or of its nearest section that is there."""
    node, line = yaml.compose(_text(path, str(path)), _Loader), None
    for name in keys:
        found = None
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == name:
                found, line = value, key.start_mark.line + 1
        if found is None:
            break
        node = found
    return line


def _first_line(text: str) -> int:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return next((number for number, line in enumerate(lines, start=1) if line and line != "---"), 1)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f" line {mark.line + 1}" if mark is not None else ""


def _problem(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error)
    if "'\\t'" in problem or "start any token" in problem:
        problem = f"{problem}; indent with blanks, not tabs, and quote values that begin with a special character"
    return excerpt(str(problem), 160)
