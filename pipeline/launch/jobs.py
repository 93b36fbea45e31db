"""From missing runs to jobs: commands that train in the snapshot of the code what DVC would train in the workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.inputs import files_of, pretraining_files_of
from pipeline.launch.attempts import Job, launch_folder
from pipeline.launch.missing import PRETRAIN, TRAIN, Missing
from pipeline.launch.snapshot import Snapshot
from tokenworlds.config import RunConfig, load, project_root, to_dict
from tokenworlds.config.values import flat
from tokenworlds.errors import UserError
from tokenworlds.files import sha256, write_atomic
from tokenworlds.training.run_folder import RunFolder, scratch_folder

PLACES = (
    "extend",
    *(f"initialization.{name}" for name in ("path", "tokenizer", "world_model", "actor_critic")),
    "model.tokenizer.perceptual_weights",
    "model.world_model.trunk.weights",
)
"""Settings that name files. Relative ones lead from the project, not from the snapshot, which lacks what git ignores;
the hash of a configuration has the content of these files, not their names."""


@dataclass(frozen=True)
class Share:
    """What of a machine a run gets.

    Args:
        gpu: fraction of a GPU; 0 without GPUs.
        cpus: cores.
    """

    gpu: float
    cpus: int


def job_of(missing: Missing, snapshot: Snapshot, share: Share) -> Job:
    """The job that trains a run or pretrains a tokenizer; the project is the working folder.

    Raises:
        UserError: an invalid configuration, or a folder with something in it that must not be replaced.
    """
    overrides = [*missing.overrides, "runtime.tracking=false"]
    config = settled(overrides, missing.tokenizer)
    if config.out != (missing.tokenizer or None):
        raise UserError(f"{missing.stage} trains into out={config.out}: train it with `dvc repro {missing.stage}`.")
    if config.runtime.scratch is not None:
        raise UserError(
            f"{missing.name}: name the scratch folder of launched runs in $TOKENWORLDS_SCRATCH, not in settings."
        )
    inputs = pretraining_files_of(config) if missing.tokenizer else files_of(missing.run)
    job = Job(
        run=missing.run,
        stage=missing.stage,
        command=(),
        code=str(snapshot.folder),
        revision=snapshot.revision,
        inputs=input_hashes([path.as_posix() for path in inputs]),
        config_hash=config.hash(),
        scratch=str(scratch_folder(config)),
        gpu_share=share.gpu,
        cpus=share.cpus,
        tokenizer=missing.tokenizer,
    )
    if missing.is_replaceable and not job.is_made_in(config.out_dir):
        overrides.append("replace=true")
    overrides += _absolute(config)
    same = settled(overrides, missing.tokenizer)
    if same.hash() != config.hash():
        raise UserError(f"{missing.name}: its configuration changes when files are named absolutely: name them so.")
    if not (job.tokenizer and job.is_in_workspace):
        RunFolder(same, scratch_folder(same)).check()
    return replace(job, command=("python", "-m", PRETRAIN if missing.tokenizer else TRAIN, *overrides))


def settled(overrides: Sequence[str], tokenizer: str = "") -> RunConfig:
    """A configuration with the hash that its training will have.

    Args:
        tokenizer: folder of the one that is pretrained, which becomes ``out``; empty for the run itself.

    Raises:
        UserError: an invalid configuration, or no weights where it begins with some.
    """
    config = load(list(overrides))
    if tokenizer:
        from tokenworlds.training import pretraining  # imports torch

        return replace(pretraining.settled(config), out=tokenizer)
    if config.initialization is not None:
        from tokenworlds.training.initialization import settle  # imports torch

        settle(config)
    if config.model.world_model.trunk is not None:
        from tokenworlds.training import trunk  # imports torch

        trunk.settle(config)
    return config


def config_of(job: Job) -> RunConfig:
    """The configuration that the command of a job has in the workspace."""
    return settled(job.command[job.command.index("-m") + 2 :], job.tokenizer)


def _absolute(config: RunConfig) -> Iterator[str]:
    """Overrides that name the files of a configuration from the root of the file system on."""
    values = flat(to_dict(config))
    places = {key: values.get(key) for key in PLACES}
    if config.initialization is not None and config.initialization.has_placeholders:
        places["initialization.root"] = config.initialization.root or "."
    for key, value in places.items():
        if isinstance(value, str) and not os.path.isabs(value) and Path(value).exists():
            escaped = str(project_root() / value).replace("\\", "\\\\").replace("'", "\\'")
            yield f"{key}='{escaped}'"


def keep_record(job: Job) -> None:
    """Before a job is written over that of other code or settings: keep what tells about its result."""
    try:
        earlier = Job.read(job.folder)
        if earlier.key != job.key:
            write_atomic(
                launch_folder() / "superseded" / earlier.key / "job.json", (job.folder / "job.json").read_bytes()
            )
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is none


def input_hashes(paths: Sequence[str]) -> dict[str, str]:
    """sha256 of the files that a stage depends on, by path relative to the project; empty where one is absent."""
    root = project_root()
    return {path: sha256(root / path) if (root / path).is_file() else "" for path in paths}


def is_current(job: Job) -> bool:
    """Whether code and settings of the workspace are still those that the run was launched with."""
    try:
        return input_hashes(list(job.inputs)) == dict(job.inputs) and config_of(job).hash() == job.config_hash
    except UserError:  # an invalid configuration, which is another one
        return False
