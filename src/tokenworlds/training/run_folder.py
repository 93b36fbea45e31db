"""The folder of a finished run, checked before training and published as a whole, and the scratch folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenworlds.config import RunConfig, identity_of, is_temporary, project_root, to_dict, workspace_root
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.epoch_files import heads
from tokenworlds.errors import UserError, excerpt
from tokenworlds.files import refuse_foreign, remove_own, require_place, shortened
from tokenworlds.runs.layout import CONFIG, EPISODES, KINDS, REPLAY
from tokenworlds.tracking.revision import code_hash, is_code_of

RECONSTRUCTION, IMAGINATION, EPISODE = "reconstruction.png", "imagination.png", "episode.mp4"
EPISODE_FILES = tuple(
    f"{Path(EPISODES).name}/{kind}/{name}" for kind in KINDS for name in ("episode_*.npz", "episode_*.mp4", ".*.tmp")
)
MEDIA_FILES = (RECONSTRUCTION, IMAGINATION, EPISODE, *EPISODE_FILES)
"""All that is written into a folder of pictures and films."""
RUN_FILES = (
    "agent.json",
    "agent.safetensors",
    "config.yaml",
    "environment.json",
    "evaluations.csv",
    "manifest.json",
    "measures.csv",
    *(f"media/{name}" for name in MEDIA_FILES),
    "metrics.jsonl",
    f"{REPLAY}/episode_*.npz",
    "scores.json",
    "world_model.csv",
    ".*.tmp",  # of a write that was killed
    "media/.*.tmp",
    f"{REPLAY}/.*.tmp",
)
"""What this program puts into a run folder. A folder that holds anything else is not replaced."""
RESUMED_FILES = (
    "config.yaml", "environment.json", "epoch_*.json", "epoch_*.safetensors", "metrics.jsonl", "replay_*.safetensors",
    "scores.json", "media/*", ".*.tmp", "metrics.jsonl.tmp",
)  # fmt: skip
"""Files of a training in its scratch folder, from which it is resumed."""
SCRATCH_FILES = (*RESUMED_FILES, "lock")
ANOTHER = "name another folder with out=..."


def scratch_root(choice: str | None = None) -> Path:
    """Folder of all scratch folders: ``choice``, ``$TOKENWORLDS_SCRATCH``, or ``scratch``, relative to the project."""
    return workspace_root() / (choice or os.environ.get("TOKENWORLDS_SCRATCH") or "scratch")


def scratch_folder(config: RunConfig) -> Path:
    """Where a running training keeps its checkpoints: the name holds the configuration's hash, so no other
    configuration can find them; in a copy of the project for one experiment also that of its code."""
    code = f"-{code_hash()}" if is_temporary(project_root()) else ""
    return scratch_root(config.runtime.scratch) / f"{config.identity}-{config.hash()}{code}"


def is_scratch_of(scratch: Path, folder: Path) -> bool:
    """Whether a scratch folder is what the publication of a run folder has left: both hold the same scores."""
    try:
        return (scratch / "scores.json").read_bytes() == (folder / "scores.json").read_bytes()
    except OSError:
        return False


def kept_scratch(run: Path) -> Path | None:
    """The scratch folder that a finished run has kept (``runtime.keep_scratch``)."""
    try:
        choice = read_mapping(run / "config.yaml")["runtime"].get("scratch")
        about = json.loads((run / "scores.json").read_text())["run"]
        name = identity_of(about["method"], about["variant"], about["task"], about["seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None
    roots = (scratch_root(choice), scratch_root())
    folders = (folder for root in roots for folder in (root / name).parent.glob(f"{about['seed']}-*"))
    return next((folder for folder in folders if is_scratch_of(folder, run)), None)


def is_kept(scratch: Path) -> bool:
    """Whether the configuration of a run keeps its scratch folder (``runtime.keep_scratch``)."""
    try:
        return bool(read_mapping(scratch / "config.yaml")["runtime"]["keep_scratch"])
    except (UserError, KeyError, TypeError):
        return False


def remove_scratch(scratch: Path) -> list[str]:
    """Remove the files of a training from its scratch folder, last the scores (``is_scratch_of``) and the lock.

    Returns:
        What was left, which this program did not make.
    """
    remove_own(scratch, [name for name in RESUMED_FILES if name != "scores.json"])
    remove_own(scratch, RESUMED_FILES)
    return remove_own(scratch, SCRATCH_FILES)


def report_other_scratch(config: RunConfig, scratch: Path) -> None:
    """Say that this run has checkpoints of other configurations, which a change of the program makes of the same
    command, too."""
    others = {path.parent.name for path in scratch.parent.glob(f"{config.seed}-*/epoch_*.json")} - {scratch.name}
    if others:
        print(
            f"note: {scratch.parent} also holds checkpoints of other configurations or revisions of this run "
            f"({', '.join(sorted(others)[:3])}); python -m pipeline.clean lists them.",
            flush=True,
        )


def discard_other_code(scratch: Path) -> None:
    """Start again where other code wrote the last checkpoint; what this code wrote is resumed, also when the command
    that started again is given a second time."""
    checkpoints = heads(scratch)
    try:
        code = json.loads(checkpoints[-1].read_text())["state"]["sessions"][-1]["code"] if checkpoints else {}
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        code = {}
    if checkpoints and not is_code_of(code):
        remove_own(scratch, RESUMED_FILES)


def clear_scratch(scratch: Path) -> None:
    """Remove a scratch folder, and name what is left of it."""
    if left := remove_scratch(scratch):
        print(f"left in {scratch}: {', '.join(left[:3])}, not made by this program.", file=sys.stderr, flush=True)


class Weights(Protocol):
    """A section of the configuration that names weights; ``digest`` says which they are."""

    digest: str | None


def recall_digest(config: RunConfig, section: str, chosen: Weights, elsewhere: Sequence[str]) -> bool:
    """Look up which weights a run began with that are no longer there: those that its own checkpoint, or its finished
    folder, was made with.

    Args:
        config: of the run, with ``chosen`` as its ``section``; its digest is set where one is found.
        section: name of the section, by dotted key.
        elsewhere: its settings that may differ: where weights are, not which.

    Returns:
        Whether the run has begun.
    """
    ignored = dict.fromkeys(("digest", *elsewhere))
    own, folder = to_dict(chosen) | ignored, scratch_folder(config).parent
    for path in (*sorted(folder.glob(f"{config.seed}-*/{CONFIG}")), config.out_dir / CONFIG):
        found: Any = read_mapping(path) if path.is_file() else {}
        for name in section.split("."):
            found = found.get(name) or {}
        if found | ignored == own:
            chosen.digest = found.get("digest")
            if any(scratch_folder(config).glob("epoch_*.json")) or recorded_hash(config.out_dir) == config.hash():
                return True
            chosen.digest = None
    return False


class RunFolder:
    """Where a run is published.

    Args:
        config: of the run.
        scratch: folder of its checkpoints, which must be a place of its own.
    """

    def __init__(self, config: RunConfig, scratch: Path) -> None:
        self.config, self.path, self.scratch, self._hash = config, config.out_dir, scratch, config.hash()

    def is_published(self) -> bool:
        """Whether the run of this very configuration is there."""
        return recorded_hash(self.path) == self._hash

    def check(self) -> None:
        """Refuse before training what could not, or must not, be written after it.

        Raises:
            UserError: the folder is a file, a link, or the scratch folder, cannot be written, has an impossible name,
                or holds files of somebody else or (without ``replace=true``) another run.
        """
        if self.path == self.scratch or self.path in self.scratch.parents or self.scratch in self.path.parents:
            places = f"{shortened(self.path, 60)}, {shortened(self.scratch, 60)}"
            raise UserError(f"out and the scratch folder lie in each other ({places}); {ANOTHER}.")
        if os.path.ismount(self.path):
            raise UserError(
                f"{shortened(self.path)} is a mount point, which cannot be renamed; name a folder below it."
            )
        require_place(self._staging, ANOTHER)  # its name is the longest here
        refuse_foreign(self.path, RUN_FILES, ANOTHER)
        for folder in (self._staging, self._replaced):
            refuse_foreign(folder, RUN_FILES, "move it away")
        self._refuse_another()

    def _refuse_another(self) -> None:
        is_filled = self.path.is_dir() and any(self.path.iterdir())
        if is_filled and not self.config.replace and not self.is_published():
            raise UserError(f"{shortened(self.path)} holds {_description(self.path)}; {ANOTHER}, or say replace=true.")

    def publish(self, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a folder next to the final one, then rename it; the replaced one is removed last.

        Only for who holds the lock of the run.

        Raises:
            UserError: somebody has put files, or another run, into the place since training began.
        """
        refuse_foreign(self.path, RUN_FILES, "move them away, then give the same command again: it publishes the run")
        self._refuse_another()
        remove_own(self._staging, RUN_FILES)  # of a publication that was killed
        write(self._staging)
        if self.path.is_dir():
            remove_own(self._replaced, RUN_FILES)
            os.replace(self.path, self._replaced)
        os.replace(self._staging, self.path)
        remove_own(self._replaced, RUN_FILES)

    @property
    def _staging(self) -> Path:
        return self.path.with_name(f".{self.path.name}.publishing-{self._hash}")

    @property
    def _replaced(self) -> Path:
        return self.path.with_name(f".{self.path.name}.replaced-{self._hash}")


def recorded_hash(folder: Path) -> str | None:
    """The configuration's hash in the scores of a run folder; None where there are none."""
    try:
        return str(json.loads((folder / "scores.json").read_text())["config_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _description(folder: Path) -> str:
    """What a run folder holds, in words that tell it from the run at hand."""
    try:
        config = read_mapping(folder / "config.yaml")
        facts = f"scale {config['scale']}, {config['training']['epochs']} epochs, seed {config['seed']}"
    except (UserError, KeyError, TypeError):
        return "files of a run without a readable config.yaml"
    return f"a run of another configuration: {excerpt(facts, 80)}"
