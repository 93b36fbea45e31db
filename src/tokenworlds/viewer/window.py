"""A window for a session, where there is a screen, with the package pygame-ce."""

from __future__ import annotations

import os
from typing import Any

from tokenworlds.errors import UserError, brief
from tokenworlds.viewer import drawing
from tokenworlds.viewer.base import BaseSession
from tokenworlds.viewer.frame import Input

UNSEEN = ("dummy", "offscreen")  # drivers that SDL falls back to without a screen

NAMES = {  # pygame's names of keys that differ from those of the web
    "return": "Enter", "space": " ", "tab": "Tab", "page up": "PageUp", "page down": "PageDown",
    "up": "ArrowUp", "down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight",
}  # fmt: skip


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise UserError("a window needs the package pygame-ce: make setup installs it.") from error
    return pygame


def _no_screen(reason: str) -> UserError:
    return UserError(f"there is no screen for a window ({reason}); leave out --window to play in a browser.")


def show(session: BaseSession, *, ticks: int | None = None) -> None:
    """Show a session in a window until it is closed, or for so many steps of the clock; then close the session.

    Raises:
        UserError: pygame-ce is missing, or there is no screen.
    """
    try:
        pygame = _pygame()
        try:
            pygame.display.init()
            pygame.display.set_mode((drawing.HEIGHT, drawing.HEIGHT))
        except pygame.error as error:
            raise _no_screen(brief(error, 60)) from error
        if (driver := pygame.display.get_driver()) in UNSEEN and "SDL_VIDEODRIVER" not in os.environ:
            raise _no_screen(f"SDL would draw {driver}")
        _loop(pygame, session, ticks)
    finally:
        session.close()


def _loop(pygame: Any, session: BaseSession, ticks: int | None) -> None:
    controls = session.controls()
    messages = {entry["key"]: entry["message"] for entry in controls["keys"] if entry["message"] is not None}
    pygame.display.set_caption(controls["title"])
    clock, held, fps = pygame.time.Clock(), set[str](), 15
    try:
        while ticks is None or ticks > 0:
            pressed = set(held)
            for event in pygame.event.get():
                if event.type == pygame.QUIT:
                    return
                if event.type == pygame.KEYDOWN:
                    key = event.unicode if event.unicode in messages else _name(pygame, event.key)
                    if key in messages:
                        session.command(messages[key])
                    held.add(key)
                    pressed.add(key)
                elif event.type == pygame.KEYUP:
                    held.discard(_name(pygame, event.key))
            frame = session.tick(Input(frozenset(pressed)))
            if frame is not None:
                fps = frame.status["fps"]
                _draw(pygame, drawing.compose(frame, frame.status["header"]))
                notice = frame.status["asks"] or frame.status["message"]
                pygame.display.set_caption(f"{controls['title']}: {notice}" if notice else controls["title"])
            clock.tick(fps)
            ticks = None if ticks is None else ticks - 1
    finally:
        pygame.display.quit()


def _name(pygame: Any, key: int) -> str:
    """The web's name of a key."""
    name = pygame.key.name(key)
    return NAMES.get(name, name)


def _draw(pygame: Any, picture: drawing.Picture) -> None:
    size = picture.shape[1], picture.shape[0]
    screen = pygame.display.get_surface()
    if screen.get_size() != size:
        screen = pygame.display.set_mode(size)
    pygame.surfarray.blit_array(screen, picture.swapaxes(0, 1))
    pygame.display.flip()
