"""Runs of several configurations under one name: found, refused, or told apart by a label.

A run's ``scores.json`` says with which settings it was made: ``overrides`` (those that differ from the shipped
configuration) and ``settings_hash`` (equal for all runs of one method, variant, scale and family of tasks that share a
configuration; seed, overrides of single tasks and run-time settings aside). Files of older versions say neither.

Whatever shows or averages runs asks ``shown_variants``: it refuses a mixture, and gives runs that deviate from the
shipped configuration a variant that names how, such as ``64-tokens+model.backbone=retnet``, so that they never pass for
the method as shipped.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenworlds.errors import UserError

REFUSE, LABEL = "refuse", "label"
MIXED = (REFUSE, LABEL)
"""What to do with several configurations under one name."""
SHIPPED = "the shipped settings"
MOST_NAMED = 2  # overrides in a label
NOT_IN_A_LABEL = re.compile(r"[^\w.=-]+")  # a label becomes part of file names
LONGEST = {"name": 40, "settings": 40, "example": 36}  # letters in a message

Run = Mapping[str, Any]
"""Of a run: method, variant, task, seed, scale, and where known config_hash, settings_hash and overrides."""


@dataclass(frozen=True)
class Settings:
    """What is known of a run's settings; both empty where its file says nothing (``is_known``)."""

    digest: str
    overrides: tuple[tuple[str, str], ...]
    is_known: bool

    @property
    def is_shipped(self) -> bool:
        """Whether nothing is known to deviate from the shipped configuration."""
        return not self.overrides

    def label(self, with_digest: bool = False) -> str:
        """``model.backbone=retnet``; with many overrides the first ones and the digest; empty if shipped."""
        parts = [f"{key}={value}" for key, value in self.overrides[:MOST_NAMED]]
        if (more := len(self.overrides) - MOST_NAMED) > 0:
            parts.append(f"and-{more}-more")
        if (more > 0 or with_digest) and self.is_known:
            parts.append(f"settings={self.digest[:6]}")
        return ",".join(_cut(NOT_IN_A_LABEL.sub("_", part), "settings") for part in parts)


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

    Runs are compared within method, variant, scale and family of tasks. Those whose files say nothing of their
    settings count as shipped ones.

    Args:
        place: where the runs are, for the message.
        accept: how to accept a mixture, for the message.
        mixed: ``refuse`` a mixture, or ``label`` its runs.

    Raises:
        UserError: several configurations under one name, or one run twice with different configurations.
    """
    _refuse_two_configurations_of_a_run(runs, place)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, run in enumerate(runs):
        family = str(run.get("task")).partition("/")[0]
        groups[str(run.get("method")), run.get("variant") or "", str(run.get("scale")), family].append(position)
    shown = [str(run.get("variant") or "") for run in runs]
    for positions in groups.values():
        kinds = _kinds([(position, read_settings(runs[position])) for position in positions])
        if len(kinds) > 1 and mixed == REFUSE:
            raise _mixture(kinds, runs, place, accept)
        for settings, members in kinds.items():
            ambiguous = sum(other.overrides == settings.overrides for other in kinds) > 1
            for position in members:
                shown[position] = _labelled(shown[position], settings.label(ambiguous))
    return shown


def trained_variant(variant: str) -> str:
    """The variant that was trained, of one with or without a label."""
    parts = variant.split("+")
    return "+".join(parts[: next((place for place, part in enumerate(parts) if "=" in part), len(parts))])


def _labelled(variant: str, label: str) -> str:
    """A variant that has a label already, from an earlier step of the pipeline, keeps it."""
    return variant if not label or trained_variant(variant) != variant else "+".join(filter(None, (variant, label)))


def _kinds(found: Sequence[tuple[int, Settings]]) -> dict[Settings, list[int]]:
    """Positions by settings, the most frequent first; unknown settings go with the shipped ones."""
    kinds: dict[Settings, list[int]] = defaultdict(list)
    shipped = next((settings for _, settings in found if settings.is_known and settings.is_shipped), None)
    for position, settings in found:
        kinds[settings if settings.is_known or shipped is None else shipped].append(position)
    return dict(sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[1])))


def _mixture(kinds: Mapping[Settings, list[int]], runs: Sequence[Run], place: str, accept: str) -> UserError:
    first, second = list(kinds)[:2]
    run = runs[kinds[first][0]]
    name = f"{_name(run, task=False)}, {run.get('scale')} scale"
    parts = [
        f"{len(kinds[one])} run{'s' if len(kinds[one]) > 1 else ''} with {_cut(_against(one, other), 'settings')}"
        for one, other in ((first, second), (second, first))
    ]
    more = f", {len(kinds) - 2} more kinds" if len(kinds) > 2 else ""
    example = _cut(f"{runs[kinds[second][0]].get('task')}/{runs[kinds[second][0]].get('seed')}", "example")
    return UserError(
        f"{place} mixes settings under {_cut(name, 'name')}: {' and '.join(parts)} "
        f"(such as {example}){more}; train or restore the others, or {accept}."
    )


def _against(one: Settings, other: Settings) -> str:
    """What tells one kind of settings from another."""
    if one.overrides == other.overrides:
        return f"{SHIPPED if one.is_shipped else 'settings'} {one.digest or 'of an older version'}"
    own = [f"{key}={value}" for key, value in one.overrides if (key, value) not in other.overrides]
    lacking = [key for key, _ in other.overrides if key not in dict(one.overrides)]
    return ", ".join(own) or (SHIPPED if one.is_shipped else f"no {', '.join(lacking)}")


def _refuse_two_configurations_of_a_run(runs: Sequence[Run], place: str) -> None:
    """Files that say nothing of their settings still have a configuration's hash."""
    seen: dict[tuple[str, ...], str] = {}
    for run in runs:
        digest = str(run.get("config_hash") or "")
        identity = (*(str(run.get(key) or "") for key in ("method", "variant", "scale", "task")), str(run.get("seed")))
        if digest and not read_settings(run).is_known and seen.setdefault(identity, digest) != digest:
            raise UserError(
                f"{place} holds {_cut(_name(run), 'example')} of two configurations ({seen[identity][:12]} and "
                f"{digest[:12]}); keep one of the two."
            )


def _name(run: Run, task: bool = True) -> str:
    """``iris+64-tokens/atari/Pong/0``, or without task and seed ``iris+64-tokens (atari)``."""
    variant = run.get("variant") or ""
    name = f"{run.get('method')}{'+' if variant else ''}{variant}"
    return f"{name}/{run.get('task')}/{run.get('seed')}" if task else f"{name} on {str(run.get('task')).split('/')[0]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, kind: str) -> str:
    longest = LONGEST[kind]
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
