"""List what runs have left behind, and remove it: ``python -m pipeline.clean [--remove] [--unfinished]``.

Left behind is the scratch folder of a run that is published, or that holds no checkpoint; and what a publication that
was killed has left beside a run folder. Scratch folders of unfinished runs, which the same training command resumes,
are listed apart, as are those that ``runtime.keep_scratch`` keeps. Nothing is removed without ``--remove``; files that
this program did not make never are.
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
from typing import Any

from filelock import FileLock, Timeout

from tokenworlds.cli import exit_status
from tokenworlds.config import identity_of, project_root
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError
from tokenworlds.files import remove_own
from tokenworlds.training.run_folder import (
    RUN_FILES,
    SCRATCH_FILES,
    is_kept,
    is_scratch_of,
    remove_scratch,
    scratch_root,
)

SCRATCH_NAME = re.compile(r"\d+-([0-9a-f]{12})(-[0-9a-f]{8})?")
"""``<seed>-<hash of the configuration>``, in a copy of the project also that of the code."""
BESIDE_NAME = re.compile(r"\.(.+)\.(publishing|replaced)-([0-9a-f]{12})")


@dataclass(frozen=True)
class Leftover:
    """A folder, why it is there, and whether a training would go on from it."""

    path: Path
    reason: str
    is_unfinished: bool
    own: Sequence[str]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(_size, self.path.rglob("*")))


def _size(path: Path) -> int:
    """Of a file that a trainer may be renaming at this moment."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0


def leftovers(scratch: Path, runs: Path) -> Iterator[Leftover]:
    """What lies in the scratch folder of all runs, and beside the run folders."""
    for place, folders, _ in os.walk(scratch):
        for name in sorted(folders):
            if SCRATCH_NAME.fullmatch(name):
                folders.remove(name)
                yield _of_scratch(Path(place, name), runs)
    for place, folders, _ in os.walk(runs):
        for name in sorted(folders):
            match = BESIDE_NAME.fullmatch(name)
            if match and any(map(_is_locked, scratch.rglob(f"*-{match[3]}*"))):
                yield Leftover(Path(place, name), "in use by a trainer", True, ())
            elif match:
                yield Leftover(Path(place, name), "a publication that was killed", False, RUN_FILES)
        folders[:] = [name for name in folders if not (Path(place, name) / "scores.json").exists()]


def _of_scratch(folder: Path, runs: Path) -> Leftover:
    if _is_locked(folder):
        return Leftover(folder, "in use by a trainer", True, ())
    checkpoints = sorted(folder.glob("epoch_*.json"))
    if not checkpoints:
        return Leftover(folder, "no checkpoint", False, SCRATCH_FILES)
    config = _config(folder)
    if is_scratch_of(folder, _run_folder(config, runs)):
        if is_kept(folder):
            return Leftover(folder, "kept on purpose (runtime.keep_scratch)", True, SCRATCH_FILES)
        return Leftover(folder, f"published in {_run_folder(config, runs)}", False, SCRATCH_FILES)
    epoch = int(checkpoints[-1].stem.removeprefix("epoch_"))
    days = (time.time() - checkpoints[-1].stat().st_mtime) / 86400
    return Leftover(folder, f"unfinished, epoch {epoch}, {days:.0f} days old", True, SCRATCH_FILES)


def _is_locked(folder: Path) -> bool:
    if not (folder / "lock").exists():
        return False
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True


def _config(folder: Path) -> dict[str, Any]:
    """The configuration of the run whose scratch folder this is; nothing where it cannot be read."""
    try:
        return read_mapping(folder / "config.yaml")
    except UserError:
        return {}


def _run_folder(config: dict[str, Any], runs: Path) -> Path:
    """Where a run of this configuration is published."""
    name = identity_of(*(config.get(key, "") for key in ("method", "variant", "task", "seed")))
    return Path(config.get("out") or runs / name)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _remove(leftover: Leftover) -> None:
    """Under the lock that a trainer would hold, where there is one."""
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

    def command() -> None:
        if options.unfinished and not options.remove:
            raise UserError("--unfinished goes with --remove: without it both kinds are listed.")
        scratch = options.scratch or scratch_root()
        found = list(leftovers(scratch, options.runs or project_root() / "results" / "runs"))
        for leftover in found:
            print(f"{_gigabytes(leftover.size):>9}  {leftover.path}  {leftover.reason}")
        chosen = [each for each in found if each.own and (options.unfinished or not each.is_unfinished)]
        behind = sum(not each.is_unfinished for each in found)
        print(f"{behind} left behind, {len(found) - behind} unfinished, kept or in use below {scratch}.")
        for leftover in chosen if options.remove else []:
            _remove(leftover)
        if chosen and not options.remove:
            print("--remove removes what was left behind, --remove --unfinished the unfinished runs, too.")

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
