"""List what runs have left behind, and remove it: ``python -m pipeline.clean [--remove] [--unfinished]``.

Left behind are scratch folders of published runs or without a checkpoint, and what killed publications left beside run
folders. Scratch folders of unfinished runs, which the same training command resumes, and those that
``runtime.keep_scratch`` keeps are listed apart. Nothing is removed without ``--remove``; files that this program did
not make never are.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tokenworlds.cli import exit_status
from tokenworlds.config import identity_of
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.epoch_files import epoch_of, heads
from tokenworlds.errors import UserError
from tokenworlds.files import remove_own
from tokenworlds.locks import is_held
from tokenworlds.runs.layout import CONFIG, RUN_SCORES, runs_folder
from tokenworlds.training.run_folder import (
    RUN_FILES,
    SCRATCH_FILES,
    is_kept,
    is_scratch_of,
    remove_scratch,
    scratch_root,
)

SCRATCH_NAME = re.compile(r"\d+-([0-9a-f]{12})(-[0-9a-f]{8})?")
"""``<seed>-<hash of the configuration>``, in a copy of the project followed by that of the code."""
BESIDE_NAME = re.compile(r"\.(.+)\.(publishing|replaced)-([0-9a-f]{12})")
IN_USE = "in use by a trainer"


@dataclass(frozen=True)
class Leftover:
    """A folder, why it is there, whether a training could resume from it, and patterns of the files that are ours."""

    path: Path
    reason: str
    is_unfinished: bool
    own: Sequence[str]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(_size, self.path.rglob("*")))


def _size(path: Path) -> int:
    """Bytes of a file; 0 for one that a trainer renames at this moment."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0


def leftovers(scratch: Path, runs: Path) -> Iterator[Leftover]:
    """Folders in the scratch folder of all runs and beside the run folders."""
    for place, folders, _ in os.walk(scratch):
        for name in sorted(folders):
            if SCRATCH_NAME.fullmatch(name):
                folders.remove(name)
                yield _of_scratch(Path(place, name), runs)
    for place, folders, _ in os.walk(runs):
        for name in sorted(folders):
            match = BESIDE_NAME.fullmatch(name)
            if match and any(is_held(folder / "lock") for folder in scratch.rglob(f"*-{match[3]}*")):
                yield Leftover(Path(place, name), IN_USE, True, ())
            elif match:
                yield Leftover(Path(place, name), "a publication that was killed", False, RUN_FILES)
        folders[:] = [name for name in folders if not (Path(place, name) / RUN_SCORES).exists()]


def _of_scratch(folder: Path, runs: Path) -> Leftover:
    if is_held(folder / "lock"):
        return Leftover(folder, IN_USE, True, ())
    checkpoints = heads(folder)
    if not checkpoints:
        return Leftover(folder, "no checkpoint", False, SCRATCH_FILES)
    published = run_folder_of(folder, runs)
    if is_scratch_of(folder, published):
        reason = "kept on purpose (runtime.keep_scratch)" if is_kept(folder) else f"published in {published}"
        return Leftover(folder, reason, is_kept(folder), SCRATCH_FILES)
    days = (time.time() - checkpoints[-1].stat().st_mtime) / 86400
    return Leftover(folder, f"unfinished, epoch {epoch_of(checkpoints[-1])}, {days:.0f} days old", True, SCRATCH_FILES)


def run_folder_of(scratch: Path, runs: Path) -> Path:
    """Folder in which the run is published whose scratch folder this is."""
    try:
        config = read_mapping(scratch / CONFIG)
    except UserError:
        config = {}
    name = identity_of(*(config.get(key, "") for key in ("method", "variant", "task", "seed")))
    return Path(config.get("out") or runs / name)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _remove(leftover: Leftover) -> None:
    """Remove it, under the lock that a trainer would hold."""
    lock = leftover.path / "lock"
    try:
        if lock.exists():
            with FileLock(lock, timeout=0):
                left = remove_scratch(leftover.path)
        else:
            left = remove_own(leftover.path, leftover.own)
    except Timeout:
        print(f"kept: {leftover.path} (a trainer has begun)")
        return
    print(f"left in {leftover.path}: {', '.join(left[:3])}, not ours" if left else f"removed: {leftover.path}")


def clean(scratch: Path, runs: Path, remove: bool, unfinished: bool) -> None:
    """List the leftovers, and remove them (with ``unfinished``: those of unfinished runs, too)."""
    if unfinished and not remove:
        raise UserError("--unfinished goes with --remove: without it both kinds are listed.")
    found = list(leftovers(scratch, runs))
    for leftover in found:
        print(f"{_gigabytes(leftover.size):>9}  {leftover.path}  {leftover.reason}")
    chosen = [each for each in found if each.own and (unfinished or not each.is_unfinished)]
    behind = sum(not each.is_unfinished for each in found)
    print(f"{behind} left behind, {len(found) - behind} unfinished, kept or in use below {scratch}.")
    for leftover in chosen if remove else []:
        _remove(leftover)
    if any(each.own for each in found) and not unfinished:
        print("--remove removes what was left behind, --remove --unfinished the unfinished runs, too.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.clean",
        description="List scratch folders that no training needs any more, and remove them.",
    )
    parser.add_argument("--remove", action="store_true", help="remove what is listed as left behind")
    parser.add_argument("--unfinished", action="store_true", help="with --remove: unfinished and kept ones, too")
    parser.add_argument(
        "--scratch", type=Path, help="folder of all scratch folders (default: $TOKENWORLDS_SCRATCH or scratch/)"
    )
    parser.add_argument("--runs", type=Path, help="folder of all run folders (default: results/runs)")
    options = parser.parse_args(arguments)
    scratch, runs = options.scratch or scratch_root(), options.runs or runs_folder()
    return exit_status(lambda: clean(scratch, runs, options.remove, options.unfinished))


if __name__ == "__main__":
    sys.exit(main())
