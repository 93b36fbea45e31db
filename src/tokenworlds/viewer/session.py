"""A game that front ends step and show: agent or human, in the environment, in the world model, or in both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tokenworlds.loading import TrainedAgent
from tokenworlds.viewer.frame import Frame, Input

WORLDS = ("environment", "world model", "both")
PLAYERS = ("agent", "human")


@dataclass(frozen=True)
class Options:
    """Settings that a session begins with."""

    recordings: Path
    """Folder that recordings are written to."""
    world: str = "environment"
    player: str = "agent"
    fps: int = 15
    reconstruction: bool = False
    """Whether original, input and reconstruction are shown."""
    header: bool = True
    save_mode: bool = False
    """Whether to ask after each episode if it is to be saved."""
    temperature: float = 1.0
    """Of the world model; 0 for the most likely tokens."""
    memory: int | None = None
    """Frames that the world model remembers; None: as its method's paper says."""
    seed: int = 0


class Session(Protocol):
    """What front ends use. There is no clock and no thread in it: a front end calls ``tick`` ``status["fps"]`` times a
    second."""

    def controls(self) -> dict[str, Any]:
        """Plain JSON values that a front end is generated from, the same during the whole session::

            title, task, method: texts
            panels:   [{"name", "label", "available": bool, "why": text where it is not}]
            actions:  {"kind": "discrete", "meanings": [...]} | {"kind": "continuous", "names": [...]} (of sliders in
                      [-1, 1]) | {"kind": "none"} (nothing to play)
            keys:     [{"key": as KeyboardEvent.key, "label": what it does, "message": for `command`, or null where it
                      is a key of the game that belongs into Input.keys}]
            settings: [{"name", "label", "kind": "choice", "choices": [...]} | {..., "kind": "number", "min", "max",
                      "step"} | {..., "kind": "flag"} | {..., "kind": "several", "choices": [...]}]: current values are
                      in the status under the same names; changed by {"set": name, "value": ...}
            commands: [{"do": name, "label": what it does, "key": or null}]: given by {"do": name}
        """

    def command(self, message: Any) -> None:
        """Queue a message such as ``{"do": "reset"}`` or ``{"set": "player", "value": "human"}`` for the next tick.

        Raises:
            UserError: the message is none of those in ``controls``; nothing has changed.
        """

    def tick(self, input: Input) -> Frame | None:
        """One step of the clock; None where nothing has changed."""

    def close(self) -> None:
        """Finish what is being recorded, and release the environment."""
