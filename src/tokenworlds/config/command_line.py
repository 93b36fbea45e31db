"""Settings on a command line: ``key=value`` in Hydra's grammar, parsed once and handed on as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenworlds.errors import UserError, excerpt

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def parse(overrides: list[str]) -> list[Override]:
    """Hydra's own reading of ``overrides``.

    Raises:
        UserError: no ``key=value``, or a value that its grammar does not know.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # here, so that workers do without it
    from hydra.errors import HydraException

    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise UserError(
                f"'{excerpt(override, 80)}' is not an override: write key=value, for example task=atari/Pong."
            )
    try:
        return list(OverridesParser.create().parse_overrides(overrides))
    except HydraException as error:
        problem = excerpt(str(error).strip().splitlines()[0].rstrip("."), 180)
        raise UserError(f"{problem}; values with spaces, commas or brackets need quotes.") from error
    except ValueError as error:  # Python reads no whole number of thousands of digits
        raise UserError(f"the command line holds no value of a setting: {excerpt(str(error), 80)}.") from error


def settings(overrides: list[str]) -> list[tuple[str, Any]]:
    """Dotted key and value of every override, in order. Numbers, and words that mean true or false, stay as they were
    written: the schema knows whether the field is a text."""
    return [(override.key_or_group, _value(override)) for override in parse(overrides)]


def _value(override: Override) -> Any:
    name = override.key_or_group
    if override.is_delete():
        raise UserError(f"{excerpt(override.input_line)} would delete {name}: give it another value instead.")
    if override.is_sweep_override():
        line = excerpt(override.input_line, 80)
        raise UserError(f"{line} gives several values: add -m to train one run after the other.")
    value = override.value()
    if isinstance(value, bool | int | float) and override.input_line is not None:
        return override.input_line.partition("=")[2].strip()
    return value
