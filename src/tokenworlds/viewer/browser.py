"""Episodes that were kept or recorded, frame by frame, with the interface of a game."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenworlds import episodes
from tokenworlds.envs import ActionSpec, DiscreteActions, MultiDiscreteActions
from tokenworlds.envs.spec import ModalitySpec
from tokenworlds.episodes import Episode
from tokenworlds.errors import UserError
from tokenworlds.files import shortened
from tokenworlds.loading import TrainedAgent
from tokenworlds.runs.layout import IMAGINED, TEST, TRAIN
from tokenworlds.training.media import bytes_of, render
from tokenworlds.viewer import drawing
from tokenworlds.viewer.base import BaseSession, Choice, Command, Flag, Number, Several
from tokenworlds.viewer.frame import Frame, Input, Panel
from tokenworlds.viewer.keys import keyboard

OBSERVATION, TOKENS = PANELS = ("observation", "tokens")
STEPS = {  # frames; they wrap around
    "previous frame": (-1, "ArrowLeft"),
    "next frame": (1, "ArrowRight"),
    "10 frames back": (-10, "PageDown"),
    "10 frames on": (10, "PageUp"),
}
EPISODES = {"previous episode": (-1, "ArrowDown"), "next episode": (1, "ArrowUp")}
RECORDING = "recording"
KINDS = {TRAIN: "t", TEST: "y", IMAGINED: "i", RECORDING: "r"}
"""Kinds of episodes and their keys."""


class EpisodeBrowser(BaseSession):
    """Kept and recorded episodes of one run.

    Args:
        folders: where the episodes of each of ``KINDS`` are; folders may be absent.
        height: pixels that a picture is enlarged to, about.

    Raises:
        UserError: there is no episode at all.
    """

    def __init__(
        self,
        trained: TrainedAgent,
        folders: Mapping[str, Path],
        fps: int = 15,
        *,
        header: bool = True,
        height: int = drawing.HEIGHT,
    ) -> None:
        commands = [*STEPS.items(), ("first frame", (0, " ")), *EPISODES.items()]
        super().__init__(
            (
                Choice("kind", "kind of episodes", tuple(KINDS)),
                Number("fps", "frames a second", 1, 60, 1),
                Several("panels", "pictures", PANELS),
                Flag("header", "header"),
            ),
            (
                *(Command(name, name, key) for name, (_, key) in commands),
                Command("pause", "play or pause", "."),
                *(Command(kind, f"{kind} episodes", key) for kind, key in KINDS.items()),
            ),
        )
        self._trained, self._folders, self._height = trained, folders, height
        self._keyboard = keyboard(trained.config.task, trained.spec.actions)
        found = [kind for kind in KINDS if self._list(kind)]
        if not found:
            places = ", ".join(shortened(folder) for folder in folders.values())
            raise UserError(f"there are no episodes in {places}; train with runtime.kept_episodes, or record some.")
        self._values: dict[str, Any] = {"kind": found[0], "fps": fps, "panels": [OBSERVATION], "header": header}
        for name, value in self._values.items():
            self._check(name, value)
        self._is_paused, self._is_new, self._message = True, True, ""
        self._open(0)

    def controls(self) -> dict[str, Any]:
        config = self._trained.config
        return super().controls() | {
            "title": config.identity,
            "task": config.task,
            "method": config.method,
            "worlds": [],
            "players": [],
            "panels": [{"name": name, "available": True, "why": None} for name in PANELS],
            "actions": {"kind": "none"},
        }

    def _list(self, kind: str) -> list[Path]:
        folder = self._folders.get(kind)
        return [] if folder is None or not folder.is_dir() else episodes.list_episodes(folder)

    def _open(self, number: int) -> None:
        """Show the first frame of an episode of the chosen kind."""
        files = self._list(self._values["kind"])
        self._number, self._count, self._frame_number = number % max(1, len(files)), len(files), 0
        self._file: Path | None = None
        self._episode: Episode | None = None
        if not files:
            self._message = f"there are no {self._values['kind']} episodes"
            return
        self._file = files[self._number]
        try:
            episode = episodes.load(self._file)
            _check_episode(self._trained, episode, self._file)
            self._episode = episode
        except UserError as error:
            self._message = str(error)

    def _length(self) -> int:
        """Frames of the episode."""
        return 1 if self._episode is None else len(next(iter(self._episode.observations.values())))

    def _do(self, name: str) -> None:
        if name in STEPS:
            self._frame_number = (self._frame_number + STEPS[name][0]) % self._length()
        elif name == "first frame":
            self._frame_number = 0
        elif name in EPISODES:
            self._open(self._number + EPISODES[name][0])
        elif name in KINDS:
            self._set("kind", name)
        else:
            self._is_paused = not self._is_paused

    def _set(self, name: str, value: Any) -> None:
        self._values[name] = value
        if name == "kind":
            self._open(0)

    def tick(self, input: Input) -> Frame | None:
        has_changed = self._take_messages() or self._is_new
        if not self._is_paused:
            self._frame_number = (self._frame_number + 1) % self._length()
        elif not has_changed:
            return None
        frame = Frame(tuple(self._panels()), self._status())
        self._is_new, self._message = False, ""
        return frame

    def _panels(self) -> Iterator[Panel]:
        episode, at, chosen = self._episode, self._frame_number, self._values["panels"]
        if episode is None:
            return
        if OBSERVATION in chosen:
            shown = {name: values[at : at + 1] for name, values in episode.observations.items()}
            yield drawing.panel(OBSERVATION, bytes_of(render(self._trained.agent, shown))[0], self._height)
        if TOKENS in chosen and episode.tokens is not None:
            place = at - (self._length() - len(episode.tokens))  # delta tokens begin with the second frame
            if place >= 0:
                tokens, before = episode.tokens[place], episode.tokens[place - 1] if place else None
                grid = drawing.agents_grid(self._trained, tokens, before)
                yield drawing.panel(TOKENS, grid, self._height)

    def _status(self) -> dict[str, Any]:
        episode, at = self._episode, self._frame_number
        past = slice(max(0, at - 1), at)  # the step that has led to the frame
        actions: Any = () if episode is None else episode.actions[past]
        return self._values | {
            "file": None if self._file is None else self._file.name,
            "episode": self._number,
            "episodes": self._count,
            "frame": at,
            "frames": self._length(),
            "facts": {} if episode is None else episode.facts,
            "step": at,
            "return": 0.0 if episode is None else float(episode.rewards[:at].sum()),
            "action": next((np.asarray(action).tolist() for action in actions), None),
            "action_label": next((self._keyboard.describe(action) for action in actions), None),
            "reward": 0.0 if episode is None else float(episode.rewards[past].sum()),
            "end": episode is not None and bool(episode.terminations[past].any()),
            "paused": self._is_paused,
            "recording": None,
            "asks": None,
            "message": self._message or None,
        }

    def files(self) -> dict[str, Path]:
        return {} if self._file is None else {self._file.name: self._file}

    def close(self) -> None:
        """Nothing is open."""


def _check_episode(trained: TrainedAgent, episode: Episode, file: Path) -> None:
    """Refuse an episode without frames, and one with observations, actions or tokens that the agent does not have."""
    observations, tokens, spec = episode.observations, episode.tokens, trained.spec
    if not all(map(len, observations.values())):
        raise UserError(f"{shortened(file)} has no frames; nothing of it is shown.")
    if not (
        observations.keys() == spec.observation.keys()
        and all(_fits(values, spec.observation[name]) for name, values in observations.items())
        and _fits(episode.actions, spec.actions)
        and (tokens is None or (tokens.dtype.kind in "iu" and tokens.shape[1] == trained.agent.num_tokens))
    ):
        raise UserError(f"{shortened(file)} is of another task or agent than this run; nothing of it is shown.")


def _fits(values: NDArray[Any], spec: ModalitySpec | ActionSpec) -> bool:
    """Whether an array (T, ...) has the shape and type of observations or actions, and actions are possible."""
    kinds = "f" if spec.dtype.kind == "f" else "iu"  # categories that a world model imagined are wider integers
    if values.shape[1:] != spec.shape or values.dtype.kind not in kinds:
        return False
    match spec:
        case DiscreteActions(count=limits) | MultiDiscreteActions(counts=limits):
            return bool(((values >= 0) & (values < np.asarray(limits))).all())
        case _:
            return True
