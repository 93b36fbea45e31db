"""What front ends use of a session: its controls, messages to it, and steps of their clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenworlds.errors import UserError, excerpt, near_matches
from tokenworlds.viewer.frame import Frame, Input

LONGEST_QUEUE = 1000  # messages between two ticks


@dataclass(frozen=True)
class Setting(ABC):
    """A value that messages change; the current one is in the status under the same name."""

    name: str
    label: str

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Kind and range in plain values."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What it can take, in words after "must be"."""

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Whether it can take this value."""


@dataclass(frozen=True)
class Choice(Setting):
    """One of several texts."""

    choices: tuple[str, ...]

    def card(self) -> dict[str, Any]:
        return {"kind": "choice", "choices": list(self.choices)}

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(self.choices)}"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.choices


@dataclass(frozen=True)
class Several(Choice):
    """Any number of several texts, as a list."""

    def card(self) -> dict[str, Any]:
        return {**super().card(), "kind": "several"}

    @property
    def allowed(self) -> str:
        return f"some of {', '.join(self.choices)}"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list) and len(value) <= len(self.choices) and all(map(super().accepts, value))


@dataclass(frozen=True)
class Number(Setting):
    """A number in a range; a whole one where the step is whole."""

    least: float
    most: float
    step: float

    def card(self) -> dict[str, Any]:
        return {"kind": "number", "min": self.least, "max": self.most, "step": self.step}

    @property
    def allowed(self) -> str:
        kind = "a whole number" if isinstance(self.step, int) else "a number"
        return f"{kind} from {self.least:g} to {self.most:g}"

    def accepts(self, value: Any) -> bool:
        kinds = int if isinstance(self.step, int) else int | float
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Flag(Setting):
    """True or false."""

    def card(self) -> dict[str, Any]:
        return {"kind": "flag"}

    @property
    def allowed(self) -> str:
        return "true or false"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Command:
    """Something to do once."""

    name: str
    label: str
    key: str | None = None
    """As in the web's ``KeyboardEvent.key``."""


class BaseSession(ABC):
    """A session has no clock and no thread: a front end calls ``tick`` ``status["fps"]`` times a second. ``command``
    may be called from another thread."""

    def __init__(self, settings: tuple[Setting, ...], commands: tuple[Command, ...]) -> None:
        self._settings = {setting.name: setting for setting in settings}
        self._commands = {command.name: command for command in commands}
        self._messages: deque[dict[str, Any]] = deque()

    def controls(self) -> dict[str, Any]:
        """Plain JSON values that a front end is generated from, the same during the whole session::

        title, task, method: texts
        worlds, players: texts to choose from (the settings "world" and "player")
        panels:   [{"name", "available": bool, "why": text where it is not}] (names of the setting "panels")
        actions:  {"kind": "discrete", "meanings": [...]} | {"kind": "continuous", "names": [...]} (of sliders in
                  [-1, 1]) | {"kind": "none"} (nothing to play)
        keys:     [{"key": as KeyboardEvent.key, "label": what it does, "message": for `command`, or null where it
                  is a key of the game that belongs into Input.keys}]
        settings: [{"name", "label", "kind": "choice", "choices": [...]} | {..., "kind": "number", "min", "max",
                  "step"} | {..., "kind": "flag"} | {..., "kind": "several", "choices": [...]}]: current values are
                  in the status under the same names; changed by {"set": name, "value": ...}
        commands: [{"do": name, "label": what it does, "key": text or null}]: given by {"do": name}
        """
        keys = [
            {"key": command.key, "label": command.label, "message": {"do": command.name}}
            for command in self._commands.values()
            if command.key is not None
        ]
        commands = [{"do": one.name, "label": one.label, "key": one.key} for one in self._commands.values()]
        settings = [{"name": one.name, "label": one.label, **one.card()} for one in self._settings.values()]
        return {"keys": keys, "settings": settings, "commands": commands}

    def command(self, message: Any) -> None:
        """Queue a message such as ``{"do": "reset"}`` or ``{"set": "player", "value": "human"}`` for the next tick.

        Raises:
            UserError: the message is none of those in ``controls``; nothing has changed.
        """
        match message:
            case {"do": str(name), **rest} if not rest:
                if name not in self._commands:
                    raise UserError(f"unknown command '{excerpt(name)}': {near_matches(name[:40], self._commands)}")
            case {"set": str(name), "value": value, **rest} if not rest:
                self._check(name, value)
            case _:
                raise UserError(
                    f'{excerpt(message)} is no message; expected {{"do": NAME}} or {{"set": NAME, "value": VALUE}}.'
                )
        if len(self._messages) >= LONGEST_QUEUE:
            raise UserError(f"more than {LONGEST_QUEUE} messages wait for the next step; send fewer.")
        self._messages.append(message)

    def _check(self, name: str, value: Any) -> None:
        """Refuse a setting that does not exist, or a value that it cannot take."""
        if name not in self._settings:
            raise UserError(f"unknown setting '{excerpt(name)}': {near_matches(name[:40], self._settings)}")
        setting = self._settings[name]
        if not setting.accepts(value):
            raise UserError(f"{name} cannot be {excerpt(value)}; it must be {setting.allowed}.")

    def _take_messages(self) -> bool:
        """Apply what is queued; whether there was anything."""
        count = len(self._messages)
        for _ in range(count):
            message = self._messages.popleft()
            if "do" in message:
                self._do(message["do"])
            else:
                self._set(message["set"], message["value"])
        return count > 0

    @abstractmethod
    def _do(self, name: str) -> None:
        """Carry out a command."""

    @abstractmethod
    def _set(self, name: str, value: Any) -> None:
        """Change a setting."""

    @abstractmethod
    def tick(self, input: Input) -> Frame | None:
        """One step of the clock; None where nothing has changed."""

    def files(self) -> dict[str, Path]:
        """Finished files that a front end may hand out, by the names that it shows."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Finish what is being recorded, and release what is open."""
