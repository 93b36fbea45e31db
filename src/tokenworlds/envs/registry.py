"""Tasks by name: ``<family>/<name>``, such as ``atari/Breakout``.

A family is a module with ``names()`` and ``make(name, split, config)``, imported when one of its tasks is asked for. It
may say with ``left_out()`` which names it cannot offer and why, and with ``notice()`` what a person should know before
one of its tasks is made.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Protocol, cast

from tokenworlds.envs.recorded import Recorded
from tokenworlds.envs.spec import Environment, EnvironmentConfig, Split
from tokenworlds.errors import UserError, brief, near_matches

_FAMILIES = {
    name: f"tokenworlds.envs.{name}"
    for name in ("atari", "crafter", "craftax", "dmc", "minigrid", "minigrid_symbolic", "minigrid_mixed")
}


class Family(Protocol):
    """What a family's module offers."""

    def names(self) -> list[str]: ...

    def make(self, name: str, split: Split, config: EnvironmentConfig) -> Environment: ...


def _family(name: str) -> Family:
    return cast(Family, importlib.import_module(_FAMILIES[name]))


def known_tasks() -> list[str]:
    """Every task, also of families whose package is an extra that is not installed."""
    return [f"{family}/{name}" for family in _FAMILIES for name in _family(family).names()]


def check_task(task: str) -> None:
    """Raise a ``UserError`` that lists near matches unless the task is known."""
    family, _, name = task.partition("/")
    if family not in _FAMILIES:
        nearby = near_matches(task, known_tasks())
        raise UserError(f"unknown task '{brief(task, 50)}' (expected <family>/<name>): {nearby}")
    names = _family(family).names()
    if name in names:
        return
    if reason := _left_out(family).get(name):
        raise UserError(f"{task} cannot be played: {reason}; choose another task.")
    raise UserError(f"unknown task '{brief(task, 50)}': {near_matches(task, (f'{family}/{known}' for known in names))}")


def _left_out(family: str) -> dict[str, str]:
    """What a family knows but cannot play, and why."""
    return cast(dict[str, str], getattr(_family(family), "left_out", dict)())


def make(task: str, split: Split, config: EnvironmentConfig) -> Recorded:
    """A ready environment: dictionary observations, rewards and ends as the papers define them, resumable."""
    check_task(task)
    announce(task)
    return _make(task, split, config)


@functools.cache
def announce(task: str) -> None:
    """Print once in a process what a person should know while environments of a task are being made."""
    family = _family(task.partition("/")[0])
    if (notice := getattr(family, "notice", None)) is not None and (line := notice()):
        print(line, flush=True)


def _make(task: str, split: Split, config: EnvironmentConfig) -> Recorded:
    check_task(task)
    if split not in ("train", "test"):
        raise UserError(f"unknown split '{split}': known: train, test.")
    family, _, name = task.partition("/")
    return Recorded(_family(family).make(name, split, config))


@dataclass(frozen=True)
class EnvironmentFactory:
    """``make`` with its arguments: can be called repeatedly and sent to another process, where it announces nothing."""

    task: str
    split: Split
    config: EnvironmentConfig

    def __call__(self) -> Recorded:
        return _make(self.task, self.split, self.config)

    def announce(self) -> None:
        announce(self.task)
