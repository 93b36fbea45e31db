"""Runs of the active suite that are missing or stale, as DVC sees them, and the tokenizers that they begin with.

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
from typing import Any, Protocol, TypeVar

from pipeline.launch.attempts import name_of
from tokenworlds.config import load, project_root
from tokenworlds.errors import UserError, brief, excerpt, near_matches
from tokenworlds.files import refuse_foreign
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import runs_folder, scores_folder
from tokenworlds.training.run_folder import RUN_FILES

TRAIN, PRETRAIN = "pipeline.train", "pipeline.pretrain"
INPUTS = "inputs"  # the stage of every method that is renewed before DVC is asked


@dataclass(frozen=True)
class Missing:
    """A run to be trained, or a tokenizer to be pretrained.

    Args:
        run: which one; for a tokenizer a run that begins with it.
        stage: DVC's address of it, relative to the project.
        overrides: arguments of ``pipeline.train``, or ``pipeline.pretrain``, in the stage's command.
        is_replaceable: whether DVC's cache holds the folder that is there, so that it may be replaced.
        after: DVC's address of a missing or stale stage that makes what the run begins with; empty without one.
        tokenizer: its folder, relative to the project; empty for a run.
    """

    run: RunId
    stage: str
    overrides: tuple[str, ...]
    is_replaceable: bool
    after: str = ""
    tokenizer: str = ""

    @property
    def name(self) -> str:
        """``iris/atari/Pong/0``, ``tokenizers/random_policy/iris/atari/Pong/0``."""
        return name_of(self.run, self.tokenizer)


def select(runs: Sequence[RunId], patterns: Sequence[str]) -> list[RunId]:
    """The runs whose names match one of the patterns (``rem/atari/*``), all without patterns; all runs of one seed come
    before those of the next, so that every task has a result early.

    Raises:
        UserError: a pattern matches no run.
    """
    return sorted(matching(runs, patterns, "--select", "run of the active suite"), key=lambda run: run.seed)


class Named(Protocol):
    """A run, or a job."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def matching(runs: Sequence[N], patterns: Sequence[str], option: str, what: str) -> list[N]:
    """Those whose names match one of the patterns, all without patterns.

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
    """Those of the runs whose stages DVC would run, in the same order, after the tokenizers that DVC would pretrain for
    them; their input files have to be renewed before.

    Args:
        restore: bring back what DVC's cache holds; otherwise only leave it out.

    Raises:
        UserError: DVC has no stage for one of the runs, a stage runs another command than ``pipeline.train`` or
            ``pipeline.pretrain``, or DVC cannot read its files.
    """
    methods = list(dict.fromkeys(run.method for run in runs))
    if not methods:
        return []
    found, cached = _ask(runs, [str(project_root() / f"pipeline/{method}/dvc.yaml") for method in methods])
    if cached and restore:
        dvc("repro", "--single-item", *cached)
        print(f"{len(cached)} result{'' if len(cached) == 1 else 's'} restored from DVC's cache", flush=True)
        if any(each.after in cached for each in found):
            return find_missing(runs)  # some may be restored, too, now that what they begin with is there
    return found


def _ask(runs: Sequence[RunId], files: list[str]) -> tuple[list[Missing], list[str]]:
    """The missing runs and tokenizers, and the stages that DVC can restore."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo  # about a second

    missing, tokenizers, cached = list[Missing](), dict[str, Missing | None](), list[str]()
    logging.getLogger("dvc").setLevel(logging.WARNING)  # it says what it would restore
    try:
        with Repo(str(project_root()), _wait_for_lock=True) as repo:
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
                maker = _first_to_make(stage, stages, status)
                if maker is None and _is_cached(repo, stage, changes):
                    refuse_foreign(runs_folder() / run.name, RUN_FILES, "move them away")  # DVC removes the folder
                    cached.append(_address(stage))
                    continue
                after = "" if maker is None else _address(maker)
                kept = _is_kept(runs_folder() / run.name, changes)
                missing.append(Missing(run, _address(stage), _overrides(stage, TRAIN), kept, after))
                if maker is None or not _runs(maker, PRETRAIN) or after in tokenizers:
                    continue
                (place,) = (Path(out.fs_path) for out in maker.outs)
                changes = status[maker.addressing]
                if _is_cached(repo, maker, changes):
                    refuse_foreign(place, RUN_FILES, "move them away")
                    tokenizers[after] = None
                else:
                    tokenizers[after] = _tokenizer(maker, place, _is_kept(place, changes))
    except DvcException as error:
        raise UserError(f"DVC cannot say which runs are missing: {brief(error)}.") from error
    to_pretrain = [each for each in tokenizers.values() if each is not None]
    return [*to_pretrain, *missing], [*cached, *(stage for stage, each in tokenizers.items() if each is None)]


def _tokenizer(stage: Any, place: Path, is_replaceable: bool) -> Missing:
    """The tokenizer that a stage pretrains, with the run that its command names."""
    overrides, folder = _overrides(stage, PRETRAIN), place.relative_to(project_root()).as_posix()
    run = RunId.of_config(load(list(overrides)))
    return Missing(run, _address(stage), overrides, is_replaceable, tokenizer=folder)


def _first_to_make(stage: Any, stages: Mapping[str, Any], status: Mapping[str, Any]) -> Any | None:
    """The changed stage that makes a dependency of this one, or the folder of it; None without one.

    Args:
        stages: by what they make.
        status: of all stages that are changed, by DVC's names of them.
    """
    for dependency in stage.deps:
        for path in (dependency.fs_path, *map(str, Path(dependency.fs_path).parents)):
            maker = stages.get(path)
            if maker and maker.name != INPUTS and status.get(maker.addressing):
                return maker
    return None


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


def _is_kept(folder: Path, changes: list[Any]) -> bool:
    """Whether a folder is as DVC has recorded it; then its cache holds a copy."""
    outputs = {path for change in changes if isinstance(change, dict) for path in change.get("changed outs", {})}
    name = folder.relative_to(project_root()).as_posix()
    return not any(path.endswith(name) for path in outputs) and folder.is_dir()


def _address(stage: Any) -> str:
    """DVC's address of a stage, relative to the project."""
    return f"{Path(stage.path).relative_to(project_root()).as_posix()}:{stage.name}"


def _words(stage: Any) -> list[str]:
    return shlex.split(stage.cmd) if isinstance(stage.cmd, str) else []


def _runs(stage: Any, module: str) -> bool:
    """Whether the command of a stage is ``python -m <module> ...``."""
    return _words(stage)[1:3] == ["-m", module]


def _overrides(stage: Any, module: str) -> tuple[str, ...]:
    """The arguments of ``python -m <module> ...``."""
    if not _runs(stage, module):
        address = _address(stage)
        raise UserError(f"{address} does not run `python -m {module} ...` alone: train it with `dvc repro {address}`.")
    return tuple(_words(stage)[3:])
