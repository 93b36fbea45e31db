"""A session without an agent, and its page's server in a thread."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tokenworlds.viewer.base import BaseSession, Choice, Command, Flag, Number, Several
from tokenworlds.viewer.frame import Frame, Input, Panel
from tokenworlds.viewer.server import Server

PANELS = ("original", "large")
MOVES = {"a": (0, -1), "d": (0, 1), "w": (-1, 0), "s": (1, 0)}
SECONDS = 20.0  # for anything to happen


class Dot(BaseSession):
    """A white pixel in a dark square, moved by keys; the second panel is large enough to be a JPEG."""

    def __init__(self, folder: Path, continuous: bool = False) -> None:
        super().__init__(
            settings=(
                Choice("world", "World", ("environment", "world model", "both")),
                Choice("player", "Player", ("agent", "human")),
                Number("fps", "Frames a second", 1, 60, 1),
                Number("temperature", "Temperature", 0.0, 2.0, 0.05),
                Flag("header", "Header in films"),
                Several("panels", "Panels", PANELS),
            ),
            commands=(
                Command("reset", "New game", "Enter"),
                Command("pause", "Pause", "."),
                Command("record", "Record", ","),
                Command("ask", "Ask"),
                Command("save", "Save"),
                Command("discard", "Discard"),
            ),
        )
        self.folder, self.continuous = folder, continuous
        self.settings: dict[str, Any] = {
            "world": "environment", "player": "human", "fps": 40, "temperature": 1.0, "header": True,
            "panels": list(PANELS),
        }  # fmt: skip
        self.paused, self.asks, self.recording, self.closed = False, None, None, False
        self.finished: dict[str, Path] = {}
        self.inputs: list[Input] = []
        self.threads: set[str] = set()
        self.failure: Exception | None = None
        self._do("reset")

    def controls(self) -> dict[str, Any]:
        keys = [
            {"key": key, "label": label, "message": None} for key, label in zip("adws", ("left", "right", "up", "down"))
        ]
        keys += [{"key": " ", "label": "fire", "message": None}, {"key": "u", "label": "upfire", "message": None}]
        actions = {"kind": "continuous", "names": ["push", "turn"]} if self.continuous else {"kind": "discrete"}
        shared = super().controls()
        return {
            "title": "Dot", "task": "dot", "method": "none", "actions": actions, "keys": keys + shared["keys"],
            "panels": [{"name": "original", "available": True}, {"name": "large", "available": True}],
            "settings": shared["settings"], "commands": shared["commands"],
        }  # fmt: skip

    def files(self) -> dict[str, Path]:
        return dict(self.finished)

    def _do(self, name: str) -> None:
        match name:
            case "reset":
                self.place, self.step = np.array([8, 8]), 0
            case "pause":
                self.paused = not self.paused
            case "ask":
                self.asks = "Save this episode?"
            case "save" | "discard":
                self.asks = None
            case "record" if self.recording is None:
                self.recording = "dot.npz"
            case "record":
                self.close()

    def close(self) -> None:
        self.closed = True
        if self.recording is not None:
            np.savez(self.folder / self.recording, steps=self.step)
            self.finished = {self.recording: self.folder / self.recording}
            self.recording = None

    def _set(self, name: str, value: Any) -> None:
        self.settings[name] = value

    def tick(self, input: Input) -> Frame | None:
        if self.failure is not None:
            raise self.failure
        self.threads.add(threading.current_thread().name)
        self.inputs.append(input)
        news = self._take_messages()
        if self.paused and not news:
            return None
        if not self.paused:
            self.step += 1
            for key in sorted(input.keys & MOVES.keys()) if self.settings["player"] == "human" else ():
                self.place = (self.place + MOVES[key]) % 16
        picture = np.zeros((16, 16, 3), np.uint8)
        picture[tuple(self.place)] = 255
        pictures = {"original": picture, "large": picture.repeat(10, 0).repeat(10, 1)}
        status = {
            **self.settings, "step": self.step, "return": float("nan"), "reward": 0.0, "value": 0.5, "entropy": 1.0,
            "action_label": "NOOP", "drift": {"image PSNR": 12.3, "direction distance": 0.25, "map equal": 0.5},
            "place": self.place.tolist(), "recording": self.recording and {"file": self.recording, "frames": self.step},
            "paused": self.paused, "asks": self.asks, "memory_used": self.step % 20, "memory": 20,
        }  # fmt: skip
        return Frame(tuple(Panel(name, pictures[name], 4) for name in self.settings["panels"]), status)


@contextlib.contextmanager
def serving(session: BaseSession, host: str = "127.0.0.1", port: int = 0, token: str | None = None) -> Iterator[Server]:
    """A server in a thread; an error of the session is raised at the end."""
    server, failures = Server(session, host, port, token), []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()
    for error in failures:
        raise error
