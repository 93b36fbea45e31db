"""Where a run begins: with fresh weights, with parts of another agent, or where a finished run ended."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenworlds.config.ranges import EPOCHS, Text, integer, later, one_of, require, text
from tokenworlds.epoch_files import heads
from tokenworlds.errors import UserError
from tokenworlds.files import sha256

PARTS = ("tokenizer", "world_model", "actor_critic")
TASK, SEED = PLACEHOLDERS = ("{task}", "{seed}")
"""In the place of another run: task and seed of the run that begins with it."""
DIGEST = "[0-9a-f]{12}"
_KEY = "initialization"


@dataclass
class InitializationConfig:
    """Trained parts that a run begins with; all others are fresh. A part is true (from ``path``), false, or the run or
    imported agent that it is taken from."""

    path: str | None = text("a run, read when training begins", default=None)  # of the parts that are true
    tokenizer: str | bool = text("a run, read when training begins", default=False)
    world_model: str | bool = text("a run, read when training begins", default=False)
    actor_critic: str | bool = text("a run, read when training begins", default=False)
    optimizers: bool = False  # whether the parts bring the state of their optimisers
    # Of the files with the weights; found out where it is not given, and compared where it is
    digest: str | None = one_of(DIGEST, "12 hexadecimal digits", default=None)
    root: str | None = later(Text("a folder, read when training begins"))  # that relative places lead from

    @property
    def sources(self) -> dict[str, str]:
        """The run of every part that is loaded, as it was given."""
        return sources_of(vars(self))

    @property
    def has_placeholders(self) -> bool:
        """Whether every task or seed begins with parts of another run."""
        return any(name in place for place in self.sources.values() for name in PLACEHOLDERS)

    def check(self) -> None:
        """Refuse what loads nothing, or parts from nowhere."""
        of_path = [part for part in PARTS if getattr(self, part) is True]
        require(bool(self.sources), f"{_KEY}.path needs a part to load, for example {_KEY}.tokenizer=true.")
        if of_path and self.path is None:
            raise UserError(f"configuration: {_KEY}.{of_path[0]}=true needs {_KEY}.path=RUN, or the run in its place.")
        given = "".join(f"; {_KEY}.{part} is '{place}', the place of a run" for part, place in self.sources.items())
        require(bool(of_path) or self.path is None, f"{_KEY}.path is not used: no part is true{given}.")


@dataclass
class ExtendedConfig:
    """The finished run that ``extend`` names, as it was found."""

    epochs: int = integer(1, EPOCHS)
    config_hash: str = one_of(DIGEST, "12 hexadecimal digits")
    weights: str = one_of(DIGEST, "12 hexadecimal digits")  # digest of the file


def sources_of(section: Mapping[str, Any]) -> dict[str, str]:
    """The run of every part that a section ``initialization`` loads."""
    chosen = {part: section.get(part) for part in PARTS}
    return {part: str(section.get("path") if run is True else run) for part, run in chosen.items() if run}


def places_of(section: Mapping[str, Any], task: str, seed: int) -> dict[str, str]:
    """Where the parts of a run of this task and seed are loaded from."""

    def place(run: str) -> str:
        place = run.replace(TASK, task).replace(SEED, str(seed))
        return place if ":" in place else os.path.join(section.get("root") or "", place)

    return {part: place(run) for part, run in sources_of(section).items()}


def content_of(section: Mapping[str, Any], task: str, seed: int) -> str:
    """Twelve hexadecimal digits of what a section ``initialization`` loads for a task and a seed, wherever it is
    stored."""
    if recorded := section.get("digest"):
        return str(recorded)
    found = {part: digest_of(Path(run)) or run for part, run in places_of(section, task, seed).items()}
    return hashlib.sha256(json.dumps([found, section.get("optimizers", False)]).encode()).hexdigest()[:12]


def digest_of(run: Path) -> str | None:
    """Twelve hexadecimal digits of the file with the weights of a run, or with the newest checkpoint of a run in
    training; None where there is none."""
    weights = run / "agent.safetensors"
    checkpoints = [] if weights.is_file() else heads(run)
    file = checkpoints[-1].with_suffix(".safetensors") if checkpoints else weights
    try:
        status = file.stat()
        return hash_of_file(file, status.st_size, status.st_mtime_ns)[:12]
    except OSError:
        return None


@functools.lru_cache(maxsize=64)
def hash_of_file(file: Path, size: int, modified: int) -> str:
    """Size and time of modification distinguish a file that was replaced meanwhile."""
    return sha256(file)
