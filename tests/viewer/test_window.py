"""The window, on a screen that SDL invents."""

import sys
from pathlib import Path
from typing import Any

import pygame
import pytest

from tests.viewer.support import session
from tokenworlds.errors import UserError
from tokenworlds.viewer import window


def test_keys_move_the_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    played = session("iris", tmp_path, player="human", fps=60)
    seen: list[Any] = []
    monkeypatch.setattr(window, "_draw", lambda pygame, picture: seen.append(picture.shape))
    events = [[], [pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RIGHT, unicode="")], []]
    events += [[pygame.event.Event(pygame.KEYUP, key=pygame.K_RIGHT)], [], [pygame.event.Event(pygame.QUIT)]]
    monkeypatch.setattr(pygame.event, "get", lambda: events.pop(0))
    window.show(played)
    assert played._world.steps == 3, "held for two steps, and in the step of its release"
    assert len(seen) == 4 and not events


def test_a_real_window_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window.show(session("iris", tmp_path, fps=60), ticks=3)


def test_no_screen_and_no_package_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "nothing")
    with pytest.raises(UserError, match="there is no screen"):
        window.show(session("iris", tmp_path))
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="there is no screen"):
        window.show(session("iris", tmp_path), ticks=3)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match="needs the package pygame-ce: make setup"):
        window.show(session("iris", tmp_path))
