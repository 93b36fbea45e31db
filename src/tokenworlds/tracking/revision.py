"""Code that made a result: the checkout's revision, and digests of the modules and packages in use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import tokenworlds
from tokenworlds.config import Resume
from tokenworlds.errors import UserError
from tokenworlds.files import shortened
from tokenworlds.runs.layout import ENVIRONMENT
from tokenworlds.tracking.closure import MEASURES, digest, is_harmless

PACKAGE = Path(tokenworlds.__file__).parent
METHODS = "tokenworlds.methods"
RECORDS = (":(exclude,top,glob)**/dvc.lock", ":(exclude,top,glob)**/results/**")
"""Paths, as git writes them, of tracked files that change with results and are no code."""
SIMULATION_AND_ARITHMETIC = {
    "torch": "torch",
    "numpy": "numpy",
    "gymnasium": "gymnasium",
    "ale_py": "ale-py",
    "minigrid": "minigrid",
    "crafter": "crafter",
    "craftax": "craftax",
    "jax": "jax",
    "dm_control": "dm-control",
    "mujoco": "mujoco",
}
"""Packages that can change what a training computes: module -> distribution."""


@cache
def git_revision() -> str:
    """The commit of the checkout that this code runs from, marked ``-dirty`` when tracked files differ from it, other
    than records of results; ``unknown`` outside git. Asked once: what is committed later is not what runs.

    Files are compared by content, with an index of its own: by the size and the second of the last change, which git's
    own index holds, an edit within the second of a checkout (`dvc exp run -S`) is no edit.
    """
    try:
        with TemporaryDirectory() as folder:
            index = f"{folder}/index"
            _git("read-tree", "-m", "HEAD", index=index)
            commit = _git("rev-parse", "--short=12", "HEAD", index=index)
            changed = _git("diff", "--name-only", "HEAD", "--", ":(top)", *RECORDS, index=index)
            return f"{commit}-dirty" if changed else commit
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str, index: str) -> str:
    command = ["git", "-C", str(PACKAGE), *arguments]
    variables = os.environ | {"GIT_INDEX_FILE": index}
    return subprocess.check_output(command, env=variables, text=True, stderr=subprocess.DEVNULL, timeout=20).strip()


def code_in_use(method: str) -> dict[str, str]:
    """Digests of the imported modules that can change a result, and the versions of the packages below them.

    Comments, docstrings, annotations and layout do not count.

    Args:
        method: full name of the module that builds the agent; those of other methods are left out.
    """
    others = {f"{METHODS}.{name}" for name in sys.modules[METHODS].METHODS.values()} - {method}
    modules = {
        name: digest(Path(str(module.__file__)), name)
        for name, module in sorted(sys.modules.items())
        if name.startswith("tokenworlds.") and not is_harmless(name) and name not in MEASURES and name not in others
    }
    packages = {name: metadata.version(name) for top, name in SIMULATION_AND_ARITHMETIC.items() if top in sys.modules}
    return modules | packages


def changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of modules and packages that differ. One that only one side uses does not count: if it matters, the module
    that imports it differs, too."""
    return sorted(name for name in before.keys() & now.keys() if before[name] != now[name])


def is_code_of(record: Mapping[str, str]) -> bool:
    """Whether modules and packages are those of a record that ``code_in_use`` made, without importing them."""
    distributions = set(SIMULATION_AND_ARITHMETIC.values())
    return bool(record) and all(
        (_version(name) if name in distributions else _digest_of(name)) == value for name, value in record.items()
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _digest_of(module: str) -> str:
    place = PACKAGE.parent.joinpath(*module.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return digest(path, module) if path.is_file() else ""


def code_hash() -> str:
    """Eight hexadecimal digits that change with every module of this checkout that can change a result, imported or
    not."""
    names = (
        (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in sorted(PACKAGE.rglob("*.py"))
    )
    digests = (f"{name} {digest(path)}\n" for name, path in names if not is_harmless(name))
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:8]


class Sessions:
    """Code of each part of a run: one entry for the first epoch, and one for each later session whose revision or code
    differs from the previous one.

    Args:
        method: full name of the module that builds the agent.
    """

    def __init__(self, method: str) -> None:
        self._now: dict[str, Any] = {"git_revision": git_revision(), "code": code_in_use(method)}
        self._entries: list[dict[str, Any]] = [{"from_epoch": 1, **self._now}]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._entries)

    def state(self) -> list[dict[str, Any]]:
        """The entries, for a checkpoint."""
        return self._entries

    @property
    def code(self) -> dict[str, str]:
        """Code of the last session (``code_in_use``)."""
        return cast(dict[str, str], self._now["code"])

    @property
    def last_revision(self) -> str:
        """The revision of the code that wrote the checkpoint, after ``resume``."""
        return str(self._entries[-2 if len(self._entries) > 1 else -1]["git_revision"])

    def resume(self, state: list[dict[str, Any]] | None, epoch: int, folder: Path, choice: Resume) -> None:
        """Continue the entries of a checkpoint.

        Args:
            state: what ``state`` returned; None for a checkpoint of a revision that did not record it.
            epoch: after which the checkpoint was made.
            folder: of the checkpoint; its environment.json names the revision where ``state`` is None.

        Raises:
            UserError: other code wrote the checkpoint, and ``choice`` is to go on with the same code only.
        """
        entries = state or [{"from_epoch": 1, "git_revision": _recorded_revision(folder), "code": {}}]
        last: dict[str, Any] = entries[-1]
        changed = changed_code(last["code"], self._now["code"])
        if (changed or not state) and choice is Resume.same_code:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            difference = f"{changed[0]}{more} changed" if changed else "which code it had is not recorded"
            raise UserError(
                f"the checkpoint in {shortened(folder, 60)} is of revision {last['git_revision']}, this is "
                f"{self._now['git_revision']} ({difference}): go back, start again with "
                "runtime.resume=never, or go on with runtime.resume=any_code (scores name both)."
            )
        is_new = changed or not state or last["git_revision"] != self._now["git_revision"]
        self._entries = [*entries, {"from_epoch": epoch + 1, **self._now}] if is_new else entries


def _recorded_revision(folder: Path) -> str:
    try:
        return str(json.loads((folder / ENVIRONMENT).read_text())["git_revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
