"""Runs of several configurations under one name: detected, refused, or distinguished by a label.

A run's ``scores.json`` records its settings: ``overrides`` (differences from the shipped configuration) and
``settings_hash`` (equal for all runs of one method, variant, scale and benchmark that share a configuration; seed,
overrides of single tasks and run-time settings do not count). Files of older versions have neither.

Tables and figures show runs under ``shown_variants``: a mixture is refused, and runs that deviate from the shipped
configuration get a variant that names the difference, such as ``64-tokens+model.backbone=retnet``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tokenworlds.errors import UserError, excerpt
from tokenworlds.files import shortened
from tokenworlds.tasks import family_of

REFUSE, LABEL = "refuse", "label"
MIXED = (REFUSE, LABEL)
"""Choices for several configurations under one name."""
SHIPPED = "the shipped settings"
MOST_NAMED = 2  # overrides in a label
NOT_IN_A_LABEL = re.compile(r"[^\w.=-]+")  # a label becomes part of file names
LONGEST_SETTING, LONGEST_VALUE = 48, 32  # letters of ``key=value`` in a label, and of the value
LONGEST_MESSAGE = 300
LIMITS = (  # letters of place, name, setting and example in a message: the first that fit
    (40, 40, 48, 36), (24, 40, 48, 36), (24, 40, 48, 0), (24, 30, 40, 0), (20, 24, 30, 0),
)  # fmt: skip

Run = Mapping[str, Any]
"""Method, variant, task, seed and scale of a run, and where known config_hash, settings_hash and overrides."""


@dataclass(frozen=True)
class Settings:
    """Recorded settings of a run; both fields are empty where its file has none (``is_known``)."""

    digest: str
    overrides: tuple[tuple[str, str], ...]
    is_known: bool

    @property
    def is_shipped(self) -> bool:
        """Whether no deviation from the shipped configuration is recorded."""
        return not self.overrides

    def label(self, with_digest: bool = False) -> str:
        """``model.backbone=retnet``; with the digest where that does not say all; empty if shipped."""
        named = self.overrides[:MOST_NAMED]
        parts = [_setting(NOT_IN_A_LABEL.sub("_", key), NOT_IN_A_LABEL.sub("_", value)) for key, value in named]
        is_whole = parts == [f"{key}={value}" for key, value in self.overrides]
        if (more := len(self.overrides) - MOST_NAMED) > 0:
            parts.append(f"and-{more}-more")
        if (not is_whole or with_digest) and self.is_known:
            parts.append(f"settings={(self.digest or _digest(self.overrides))[:6]}")
        return ",".join(parts)


def read_settings(run: Run) -> Settings:
    """The settings of a run; ``overrides`` may be a mapping (``scores.json``) or its JSON text (a CSV).

    Raises:
        UserError: they are neither.
    """
    overrides, digest = run.get("overrides"), run.get("settings_hash")
    if isinstance(overrides, str) and overrides.strip():
        try:
            overrides = json.loads(overrides)
        except (ValueError, RecursionError):
            overrides = None
        if overrides is None:
            raise UserError(f"the overrides of {_name(run)} are no JSON; collect the runs again.")
    if overrides is not None and overrides != "" and not isinstance(overrides, Mapping):
        raise UserError(f"the overrides of {_name(run)} are no mapping of settings; collect the runs again.")
    pairs = sorted((str(key), _text(value)) for key, value in (overrides or {}).items())
    known = isinstance(overrides, Mapping) or bool(digest)
    return Settings(str(digest or ""), tuple(pairs), known)


def shown_variants(runs: Sequence[Run], place: str, accept: str, mixed: str = REFUSE) -> list[str]:
    """The variant under which each run is shown.

    Runs are compared within method, variant, scale and benchmark (or Gymnasium environment). Those without recorded
    settings count as shipped.

    Args:
        place: where the runs are stored, for the message.
        accept: how to accept a mixture, for the message.
        mixed: ``refuse`` a mixture, or ``label`` its runs by their settings; runs without recorded settings by their
            configuration's hash if one run occurs with several.

    Raises:
        UserError: several configurations under one name, or one run twice with different configurations.
    """
    several = _several_configurations_of_a_run(runs)
    if several and mixed == REFUSE:
        raise _two_configurations([runs[position] for position in several[:2]], place)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, run in enumerate(runs):
        family = family_of(str(run.get("task")))
        groups[str(run.get("method")), run.get("variant") or "", str(run.get("scale")), family].append(position)
    shown = [str(run.get("variant") or "") for run in runs]
    for positions in groups.values():
        kinds = _kinds([(position, read_settings(runs[position])) for position in positions])
        if len(kinds) > 1 and mixed == REFUSE:
            raise _mixture(kinds, runs, place, accept)
        for settings, members in kinds.items():
            ambiguous = sum(other.overrides == settings.overrides for other in kinds) > 1
            for position in members:
                shown[position] = _joined(shown[position], settings.label(ambiguous))
    for position in several:
        shown[position] = _joined(shown[position], f"config={str(runs[position]['config_hash'])[:6]}")
    return shown


def label_variants(rows: Sequence[dict[str, Any]], place: str, accept: str, mixed: str = REFUSE) -> None:
    """Replace the variant of each row by the one under which the run is shown; ``trained_variant`` keeps the other.

    Rows that have a ``trained_variant`` were labelled by an earlier step of the pipeline. Arguments and errors are
    those of ``shown_variants``.
    """
    for row, shown in zip(rows, shown_variants(rows, place, accept, mixed)):
        if row.get("trained_variant") is None:
            row["trained_variant"], row["variant"] = row["variant"], shown


def _kinds(found: Sequence[tuple[int, Settings]]) -> dict[Settings, list[int]]:
    """Positions by settings, the most frequent first; unknown settings go with the shipped ones."""
    kinds: dict[Settings, list[int]] = defaultdict(list)
    shipped = next((settings for _, settings in found if settings.is_known and settings.is_shipped), None)
    for position, settings in found:
        kinds[settings if settings.is_known or shipped is None else shipped].append(position)
    return dict(sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[1])))


def _mixture(kinds: Mapping[Settings, list[int]], runs: Sequence[Run], place: str, accept: str) -> UserError:
    """The refusal, shortened to what a message may hold."""
    first, second = list(kinds)[:2]
    example = runs[kinds[second][0]]
    name = f"{_name(example, task=False)}, {example.get('scale')} scale"
    more = f", {len(kinds) - 2} more kinds" if len(kinds) > 2 else ""
    message = ""
    for of_place, of_name, of_setting, of_example in LIMITS:
        parts = [
            f"{len(kinds[one])} run{'s' if len(kinds[one]) > 1 else ''} with {_against(one, other, of_setting)}"
            for one, other in ((first, second), (second, first))
        ]
        run = excerpt(f"{example.get('task')}/{example.get('seed')}", of_example)
        message = (
            f"{shortened(Path(place), of_place)} mixes settings under {excerpt(name, of_name)}: {' and '.join(parts)}"
            f"{f' (such as {run})' if of_example else ''}{more}; train or restore the others, or {accept}."
        )
        if len(message) <= LONGEST_MESSAGE:
            break
    return UserError(message)


def _against(one: Settings, other: Settings, longest: int) -> str:
    """Difference of one kind of settings from another."""
    if one.overrides == other.overrides:
        return f"{SHIPPED if one.is_shipped else 'settings'} {one.digest or 'of an older version'}"
    own = [(key, value) for key, value in one.overrides if (key, value) not in other.overrides]
    if own:
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        return f"{_setting(*own[0], longest - len(more))}{more}"
    lacking = [key for key, _ in other.overrides if key not in dict(one.overrides)]
    return SHIPPED if one.is_shipped else excerpt(f"no {', '.join(lacking)}", longest)


def _setting(key: str, value: str, longest: int = LONGEST_SETTING) -> str:
    """``key=value``; a long key loses its beginning, because the values distinguish kinds of settings."""
    value = excerpt(value, min(LONGEST_VALUE, longest - 8))
    room = longest - len(value) - 1
    if len(key) <= room:
        return f"{key}={value}"
    end = key[-(room - 3) :]
    return f"...{end.partition('.')[2] or end}={value}"


def _digest(overrides: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(json.dumps(overrides).encode()).hexdigest()


def _several_configurations_of_a_run(runs: Sequence[Run]) -> list[int]:
    """Positions of runs that occur with several configurations; files without settings still have a configuration's
    hash. The first two positions differ and belong to one run."""
    by_run: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, run in enumerate(runs):
        digest = str(run.get("config_hash") or "")
        identity = (*(str(run.get(key) or "") for key in ("method", "variant", "scale", "task")), str(run.get("seed")))
        if digest and not read_settings(run).is_known:
            by_run[identity][digest].append(position)
    several = [list(found.values()) for found in by_run.values() if len(found) > 1]
    return [position for found in several for turn in zip_longest(*found) for position in turn if position is not None]


def _two_configurations(runs: Sequence[Run], place: str) -> UserError:
    first, second = (str(run["config_hash"])[:12] for run in runs)
    return UserError(
        f"{shortened(Path(place))} holds {excerpt(_name(runs[0]))} of two configurations ({first} and {second}); "
        "keep one of the two."
    )


def _name(run: Run, task: bool = True) -> str:
    """``iris+64-tokens/atari/Pong/0``, or without task and seed ``iris+64-tokens on atari``."""
    name = _joined(str(run.get("method")), run.get("variant"))
    return f"{name}/{run.get('task')}/{run.get('seed')}" if task else f"{name} on {family_of(str(run.get('task')))}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(*parts: str | None) -> str:
    return "+".join(filter(None, parts))
