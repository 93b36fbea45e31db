"""The folder of a finished run: what may be written there is settled before training; it appears as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tokenworlds.config import RunConfig
from tokenworlds.errors import UserError
from tokenworlds.files import refuse_foreign, remove_own, require_place, shortened

RECONSTRUCTION, IMAGINATION, EPISODE = "reconstruction.png", "imagination.png", "episode.mp4"
MEDIA_FILES = (RECONSTRUCTION, IMAGINATION, EPISODE)
"""All that is written into a folder of pictures and films."""
RUN_FILES = (
    "agent.json",
    "agent.safetensors",
    "config.yaml",
    "environment.json",
    "evaluations.csv",
    "manifest.json",
    *(f"media/{name}" for name in MEDIA_FILES),
    "metrics.jsonl",
    "scores.json",
    ".*.tmp",  # of a write that was killed
    "media/.*.tmp",
)
"""What this program puts into a run folder. A folder that holds anything else is not replaced."""
RESUMED_FILES = (
    "config.yaml", "environment.json", "epoch_*.json", "epoch_*.safetensors", "metrics.jsonl", "replay_*.safetensors",
    "scores.json", "media/*", ".*.tmp", "metrics.jsonl.tmp",
)  # fmt: skip
"""What a training keeps in its scratch folder, and what it goes on from."""
SCRATCH_FILES = (*RESUMED_FILES, "lock")
ANOTHER = "name another folder with out=..."


class RunFolder:
    """Where a run is published.

    Args:
        config: of the run.
        scratch: folder of its checkpoints, which must be a place of its own.
    """

    def __init__(self, config: RunConfig, scratch: Path) -> None:
        self.config, self.path, self.scratch = config, config.out_dir, scratch

    def is_published(self) -> bool:
        """Whether the run of this very configuration is there."""
        return recorded_hash(self.path) == self.config.hash()

    def check(self) -> None:
        """Refuse before training what could not, or must not, be written after it.

        Raises:
            UserError: the folder is a file, a link, or the scratch folder, cannot be written, has an impossible name,
                or holds files of somebody else or (without ``replace=true``) another run.
        """
        if self.path == self.scratch or self.path in self.scratch.parents or self.scratch in self.path.parents:
            places = f"{shortened(self.path, 60)}, {shortened(self.scratch, 60)}"
            raise UserError(f"out and the scratch folder lie in each other ({places}); {ANOTHER}.")
        require_place(self._staging, ANOTHER)  # its name is the longest here
        refuse_foreign(self.path, RUN_FILES, ANOTHER)
        for folder in (self._staging, self._replaced):
            refuse_foreign(folder, RUN_FILES, "move it away")
        remove_own(self._staging, RUN_FILES)  # of a publication that was killed
        if self.path.is_dir() and any(self.path.iterdir()) and not self.config.replace:
            raise UserError(f"{shortened(self.path)} holds {_description(self.path)}; {ANOTHER}, or say replace=true.")

    def publish(self, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a folder beside the place, then rename it; what is replaced goes last.

        Raises:
            UserError: somebody has put files into the place since training began.
        """
        refuse_foreign(self.path, RUN_FILES, "move them away, then give the same command again: it publishes the run")
        remove_own(self._staging, RUN_FILES)
        write(self._staging)
        if self.path.is_dir():
            remove_own(self._replaced, RUN_FILES)
            os.replace(self.path, self._replaced)
        os.replace(self._staging, self.path)
        remove_own(self._replaced, RUN_FILES)

    @property
    def _staging(self) -> Path:
        return self.path.with_name(f".{self.path.name}.publishing-{self.config.hash()}")

    @property
    def _replaced(self) -> Path:
        return self.path.with_name(f".{self.path.name}.replaced-{self.config.hash()}")


def recorded_hash(folder: Path) -> str | None:
    """The configuration's hash in the scores of a run folder; None where there are none."""
    try:
        return str(json.loads((folder / "scores.json").read_text())["config_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _description(folder: Path) -> str:
    """What a run folder holds, in words that tell it from the run at hand."""
    try:
        config: Any = OmegaConf.load(folder / "config.yaml")
        facts = [OmegaConf.select(config, key) for key in ("scale", "training.epochs", "seed")]
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError):
        return "files of a run without a readable config.yaml"
    scale, epochs, seed = facts
    return f"a run of another configuration: scale {scale}, {epochs} epochs, seed {seed}"
