"""One episode, real or imagined, and its file: a compressed ``.npz`` without pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened, write_atomic

SUFFIX = ".npz"
OBSERVATION = "observations."  # prefix of a modality's name in the file


@dataclass(frozen=True)
class Episode:
    """T steps, each an observation, the action that it was answered with, and what that led to.

    Raises:
        ValueError: the parts disagree about T, or rewards, terminations or facts are of another type.
    """

    observations: dict[str, NDArray[Any]]
    """Modality -> (T + 1, ...), or (T, ...) where the last one is unknown; as stored: pictures uint8 (C, Y, X)."""
    actions: NDArray[Any]
    """(T, *shape)."""
    rewards: NDArray[np.float32]
    """(T,)."""
    terminations: NDArray[np.bool_]
    """(T,)."""
    tokens: NDArray[Any] | None
    """(T + 1, S) of the observations, or (T, S) of the changes between them (Delta-IRIS); None where there are none."""
    facts: dict[str, str | int | float]
    """``kind`` (train, test, imagined, recording), task, identity of the run, seed, epoch, index and others."""

    def __post_init__(self) -> None:
        steps = len(self)
        counts = {len(values) for values in self.observations.values()}
        if len(counts) != 1 or not counts <= {steps, steps + 1}:
            raise ValueError(f"{steps} actions, but {sorted(counts)} observations")
        if self.rewards.shape != (steps,) or self.rewards.dtype != np.float32:
            raise ValueError(f"rewards are {self.rewards.dtype} {self.rewards.shape}, not float32 ({steps},)")
        if self.terminations.shape != (steps,) or self.terminations.dtype != np.bool_:
            raise ValueError(f"terminations are {self.terminations.dtype} {self.terminations.shape}, not bool")
        if self.tokens is not None and (self.tokens.ndim != 2 or len(self.tokens) not in (steps, steps + 1)):
            raise ValueError(f"tokens have the shape {self.tokens.shape}, not ({steps}, S)")
        if not all(isinstance(value, str | int | float) for value in self.facts.values()):
            raise ValueError("facts are no mapping of names to texts and numbers")

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.actions)


def save(episode: Episode, path: str | os.PathLike[str]) -> None:
    """Write an episode to a file whose bytes depend on nothing else; complete or absent, whatever happens.

    Raises:
        UserError: the file cannot be written.
    """
    arrays: dict[str, Any] = {f"{OBSERVATION}{name}": values for name, values in episode.observations.items()}
    arrays |= {"actions": episode.actions, "rewards": episode.rewards, "terminations": episode.terminations}
    if episode.tokens is not None:
        arrays["tokens"] = episode.tokens
    content = io.BytesIO()
    np.savez_compressed(content, **arrays, facts=np.array(json.dumps(episode.facts)))
    write_atomic(Path(path), content.getvalue())


def load(path: str | os.PathLike[str]) -> Episode:
    """The episode in a file of ``save``.

    Raises:
        UserError: there is no such file, it is damaged, no episode, or could only be read by running code of it.
    """
    path = Path(path)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
        names = [name for name in arrays if name.startswith(OBSERVATION)]
        observations = {name.removeprefix(OBSERVATION): arrays.pop(name) for name in names}
        return Episode(observations, **{"tokens": None} | arrays, facts=facts)
    except FileNotFoundError as error:
        raise UserError(f"there is no episode {shortened(path)}.") from error
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, RuntimeError, SyntaxError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise UserError(
            f"{shortened(path)} is damaged or no episode of this program ({brief(error, 80)}); fetch it again."
        ) from error


def list_episodes(folder: Path) -> list[Path]:
    """Files of episodes in a folder and those below it, by name; not those that a write is about to finish."""
    return sorted(path for path in folder.rglob(f"*{SUFFIX}") if not path.name.startswith("."))
