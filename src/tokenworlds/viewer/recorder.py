"""Recordings: a film of what is shown, and every episode of it as arrays. Films are written while playing."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenworlds import episodes
from tokenworlds.envs import Observation
from tokenworlds.episodes.episode import SUFFIX, Episode
from tokenworlds.errors import UserError, brief
from tokenworlds.files import require_place, shortened
from tokenworlds.viewer.drawing import DARK, Picture

LIMIT = 10_000  # frames: 120 MB of pictures of 64 x 64 pixels, twice that of two worlds
FILMS = (".mp4", ".gif")
NAME = "recording"
_REMEDY = "name another file"

Facts = dict[str, str | int | float]


@dataclass
class Track:
    """What one world does in an episode, from some step on."""

    facts: Facts
    observations: list[Observation]
    """One more than there are steps."""
    tokens: list[NDArray[Any]]
    actions: list[NDArray[Any]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminations: list[bool] = field(default_factory=list)

    def step(
        self,
        action: NDArray[Any],
        reward: float,
        is_terminated: bool,
        observation: Observation,
        tokens: NDArray[Any] | None,
    ) -> None:
        self.actions.append(action)
        self.rewards.append(reward)
        self.terminations.append(is_terminated)
        self.observations.append(observation)
        if tokens is not None:
            self.tokens.append(tokens)

    def episode(self) -> Episode:
        names = self.observations[0]
        return Episode(
            {name: np.stack([observation[name] for observation in self.observations]) for name in names},
            np.stack(self.actions),
            np.array(self.rewards, np.float32),
            np.array(self.terminations, np.bool_),
            np.stack(self.tokens) if self.tokens else None,
            self.facts,
        )


def check_film(film: Path) -> None:
    """Refuse a film whose files exist or cannot be written."""
    if film.suffix not in FILMS:
        raise UserError(f"{shortened(film)} is no film; its name must end with {' or '.join(FILMS)}.")
    for path in (film, film.with_suffix(SUFFIX)):
        require_place(path, _REMEDY)
        if os.path.lexists(path):
            raise UserError(f"{shortened(path)} exists and stays as it is; {_REMEDY}.")


class Film:
    """A film written frame by frame; every frame as large as the first one."""

    def __init__(self, path: Path, fps: int) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._fps = fps
        self._writer: Any = None
        self._size = 0, 0

    def add(self, picture: Picture) -> None:
        """Append a picture (Y, X, 3) with even sides.

        Raises:
            UserError: the film cannot be written.
        """
        try:
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                gif = {"duration": 1000 / self._fps, "loop": 0}
                options = gif if self._path.suffix == ".gif" else {"fps": self._fps, "macro_block_size": 1}
                self._writer = imageio.get_writer(self._temporary, **options)
                self._size = picture.shape[0], picture.shape[1]
            self._writer.append_data(_fitted(picture, self._size))
        except OSError as error:
            raise _failed(self._path, error) from error

    def close(self, *, keep: bool = True) -> None:
        """Give the film its name, or remove it. A signal meanwhile leaves it under its temporary name."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.close()
            if keep:
                os.replace(self._temporary, self._path)
            else:
                self._temporary.unlink(missing_ok=True)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            raise _failed(self._path, error) from error


def _failed(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {shortened(path)}: {brief(error)}; {_REMEDY}.")


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture in the middle of a dark one of this size (Y, X), reduced if it is larger."""
    if picture.shape[:2] == size:
        return picture
    height, width = size
    image = Image.fromarray(picture)
    image.thumbnail((width, height), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (width, height), DARK)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return np.asarray(canvas)


class Recorder:
    """One recording: ``<stem>.mp4``, and ``<stem>.npz``, ``<stem>-2.npz``, ... of its episodes; those of a world model
    that runs beside the environment are called ``<stem>-imagined.npz``. No file is overwritten.

    Args:
        film: file of the film, ``.mp4`` or ``.gif``.

    Raises:
        UserError: a file is there already, or none can be written there.
    """

    def __init__(self, film: Path, fps: int) -> None:
        check_film(film)
        self.path, self.frames = film, 0
        self.tracks: dict[str, Track] = {}
        """What is followed, by name: ``imagined``, or none."""
        self._film, self._written = Film(film, fps), list[Path]()
        self._folder: Path | None = None  # made for this recording alone

    @classmethod
    def beneath(cls, folder: Path, fps: int) -> Recorder:
        """The next recording of a folder, in a folder of its own: ``0001``, ``0002``, ..."""
        require_place(folder / "0001", "choose another folder for recordings")
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            with contextlib.suppress(FileExistsError):
                own = folder / f"{number:04d}"
                own.mkdir()
                recorder = cls(own / f"{NAME}.mp4", fps)
                recorder._folder = own
                return recorder
        raise AssertionError

    @property
    def is_full(self) -> bool:
        """Whether it has as many frames as a recording may have."""
        return self.frames >= LIMIT

    @property
    def files(self) -> list[Path]:
        """The film and the episodes, once they are written."""
        return [path for path in (self.path, *self._written) if path.is_file()]

    def show(self, picture: Picture) -> None:
        """Append what is shown."""
        self._film.add(picture)
        self.frames += 1

    def end(self) -> None:
        """Write the episodes that are followed, those that have a step, and follow them no longer."""
        for name, track in self.tracks.items():
            if track.actions:
                path = self._free(name)
                episodes.save(track.episode(), path)
                self._written.append(path)
        self.tracks.clear()

    def _free(self, name: str) -> Path:
        """A file that does not exist."""
        named = f"{self.path.stem}-{name}" if name else self.path.stem
        stems = (named if number == 1 else f"{named}-{number}" for number in count(1))
        paths = (self.path.with_name(f"{stem}{SUFFIX}") for stem in stems)
        return next(path for path in paths if not os.path.lexists(path))

    def close(self, *, keep: bool = True) -> None:
        """Finish all files, or remove what this recording has written.

        Raises:
            UserError: an episode cannot be written; the film is kept.
        """
        try:
            if keep:
                self.end()
        finally:
            self._film.close(keep=keep)
        if not keep:
            for path in self._written:
                path.unlink(missing_ok=True)
            if self._folder is not None:
                with contextlib.suppress(OSError):  # somebody has put a file there
                    self._folder.rmdir()
