"""Runs of the active suite that are missing or stale, as DVC sees them.

DVC is asked once for all of them. What its cache holds already (a setting that went back to what it was) is restored,
as ``dvc repro`` does it, and is not missing.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tokenworlds.config import project_root
from tokenworlds.errors import UserError, brief, excerpt, near_matches
from tokenworlds.files import refuse_foreign
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import runs_folder, scores_folder
from tokenworlds.training.run_folder import RUN_FILES

TRAIN = "pipeline.train"
INPUTS = "inputs"  # the stage of every method that is renewed before DVC is asked


@dataclass(frozen=True)
class Missing:
    """A run to be trained.

    Args:
        run: which one.
        stage: DVC's address of it, relative to the project.
        overrides: arguments of ``pipeline.train`` in the stage's command.
        is_replaceable: whether DVC's cache holds the run folder that is there, so that it may be replaced.
        after: DVC's address of a missing or stale stage that makes what the run begins with; empty without one.
    """

    run: RunId
    stage: str
    overrides: tuple[str, ...]
    is_replaceable: bool
    after: str = ""


def select(runs: Sequence[RunId], patterns: Sequence[str]) -> list[RunId]:
    """The runs whose names match one of the patterns (``rem/atari/*``), all without patterns; all runs of one seed come
    before those of the next, so that every task has a result early.

    Raises:
        UserError: a pattern matches no run.
    """
    return sorted(matching(runs, patterns, "--select", "run of the active suite"), key=lambda run: run.seed)


def matching(runs: Sequence[RunId], patterns: Sequence[str], option: str, what: str) -> list[RunId]:
    """The runs whose names match one of the patterns, all without patterns.

    Raises:
        UserError: a pattern, given by the option, matches no run.
    """
    for pattern in patterns:
        if not any(fnmatchcase(run.name, pattern) for run in runs):
            hint = near_matches(pattern, [run.name for run in runs])
            raise UserError(f"{option} {excerpt(pattern, 60)} matches no {what}: {hint}")
    return [run for run in runs if not patterns or any(fnmatchcase(run.name, pattern) for pattern in patterns)]


def dvc(*arguments: str) -> None:
    """Run a command of DVC in the project, after any other that is at work, and show nothing of its output.

    Raises:
        UserError: it fails; the message ends with what the stage that failed, or DVC, said.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    done = subprocess.run(command, cwd=project_root(), capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [
            line for start in ("error: ", "ERROR: ") for line in done.stderr.splitlines() if line.startswith(start)
        ]
        said = brief((errors or [done.stderr])[0].removeprefix("error: ").removeprefix("ERROR: "), 200)
        raise UserError(f"dvc {excerpt(' '.join(arguments), 80)} failed: {said}.")


def renew_inputs(methods: Iterable[str]) -> None:
    """Write the fingerprints and settings of the methods anew where code or settings have changed, after the stages
    that make files which settings name."""
    if stages := [f"pipeline/{method}/dvc.yaml:{INPUTS}" for method in sorted(methods)]:
        dvc("repro", *stages)


def find_missing(runs: Sequence[RunId], restore: bool = True) -> list[Missing]:
    """Those of the runs whose stages DVC would run, in the same order; what they depend on has to be renewed before.

    Args:
        restore: bring back what DVC's cache holds; otherwise only leave it out.

    Raises:
        UserError: DVC has no stage for one of the runs, a stage runs another command than ``pipeline.train``, or DVC
            cannot read its files.
    """
    methods = list(dict.fromkeys(run.method for run in runs))
    if not methods:
        return []
    found, cached = _ask(runs, [str(project_root() / f"pipeline/{method}/dvc.yaml") for method in methods])
    if cached and restore:
        dvc("repro", "--single-item", *cached)
        print(f"{len(cached)} run{'' if len(cached) == 1 else 's'} restored from DVC's cache", flush=True)
        if any(each.after in cached for each in found):
            return find_missing(runs)  # some may be restored, too, now that what they begin with is there
    return found


def _ask(runs: Sequence[RunId], files: list[str]) -> tuple[list[Missing], list[str]]:
    """The missing runs, and the stages that DVC can restore."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo  # about a second

    root, missing, cached = project_root(), [], []
    logging.getLogger("dvc").setLevel(logging.WARNING)  # it says what it would restore
    try:
        with Repo(str(root), _wait_for_lock=True) as repo:
            status = repo.status(targets=files)
            stages = {out.fs_path: stage for stage in repo.index.stages for out in stage.outs}
            for run in runs:
                stage = stages.get(str(scores_folder() / f"{run.name}.json"))
                if stage is None:
                    raise UserError(
                        f"no stage of pipeline/{run.method}/dvc.yaml writes the scores of {run.name}: activate the "
                        "suite again with `make suite SUITE=...`."
                    )
                changes = status.get(stage.addressing)
                if not changes:
                    continue
                address = f"pipeline/{run.method}/dvc.yaml:{stage.name}"
                after = _first_to_make(stage, stages, status)
                if not after and _is_cached(repo, stage, changes):
                    refuse_foreign(runs_folder() / run.name, RUN_FILES, "move them away")  # DVC removes the folder
                    cached.append(address)
                else:
                    kept = _is_kept(run, changes)
                    missing.append(Missing(run, address, _overrides(address, stage.cmd), kept, after))
    except DvcException as error:
        raise UserError(f"DVC cannot say which runs are missing: {brief(error)}.") from error
    return missing, cached


def _first_to_make(stage: Any, stages: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """DVC's address of a changed stage that makes a dependency of this one, or the folder of it; empty without one.

    Args:
        stages: by what they make.
        status: of all stages that are changed, by DVC's names of them.
    """
    for dependency in stage.deps:
        for path in (dependency.fs_path, *map(str, Path(dependency.fs_path).parents)):
            maker = stages.get(path)
            if maker and maker.name != INPUTS and status.get(maker.addressing):
                return f"{maker.path_in_repo}:{maker.name}"
    return ""


def _is_cached(repo: Any, stage: Any, changes: list[Any]) -> bool:
    """Whether DVC would restore the stage instead of running it. Of a changed stage only the run cache knows, which is
    asked with today's dependencies, and without the outputs that are on record."""
    from dvc.stage.cache import RunCacheNotFoundError

    if not all(dependency.exists for dependency in stage.deps):  # made by a stage that has not run yet
        return False
    if any(not isinstance(change, dict) or "changed deps" in change for change in changes):
        stage.save_deps()
        for out in stage.outs:
            out.hash_info = type(out.hash_info)()
    try:
        repo.stage_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    return True


def _is_kept(run: RunId, changes: list[Any]) -> bool:
    """Whether the run folder is as DVC has recorded it; then its cache holds a copy."""
    outputs = {path for change in changes if isinstance(change, dict) for path in change.get("changed outs", {})}
    return not any(path.endswith(f"runs/{run.name}") for path in outputs) and (runs_folder() / run.name).is_dir()


def _overrides(address: str, command: Any) -> tuple[str, ...]:
    words = shlex.split(command) if isinstance(command, str) else []
    if words[1:3] != ["-m", TRAIN]:
        raise UserError(f"{address} does not run `python -m {TRAIN} ...` alone: train it with `dvc repro {address}`.")
    return tuple(words[3:])
