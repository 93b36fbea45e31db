"""A run from start to finish: its scratch folder and lock, training, publication (docs/runs.md)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from tokenworlds import envs
from tokenworlds.config import Resume, RunConfig, provenance, to_dict
from tokenworlds.config.values import flat
from tokenworlds.errors import UserError
from tokenworlds.files import require_place, write_atomic
from tokenworlds.locks import locked
from tokenworlds.ops import precision
from tokenworlds.runs.manifest import is_result, verify
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.mlflow_sink import MlflowSink
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training import extension, initialization, trunk
from tokenworlds.training.publication import copy_scores, environment, hardware, publish, tags
from tokenworlds.training.run_folder import (
    RunFolder,
    clear_scratch,
    discard_other_code,
    is_kept,
    is_scratch_of,
    report_other_scratch,
    scratch_folder,
)
from tokenworlds.training.trainer import Trainer


def run_training(config: RunConfig) -> None:
    """Train (or resume) a run and publish its folder.

    Raises:
        UserError: unknown task, a run folder that must not or cannot be written, another trainer at work on this run,
            a checkpoint that is damaged or was written by other code.
    """
    envs.check_task(config.task)
    initialization.settle(config)
    trunk.settle(config)
    precision.find_device(config.runtime.device)
    scratch = scratch_folder(config)
    folder = RunFolder(config, scratch)
    if _is_there(config, folder):
        if is_scratch_of(scratch, folder.path) and not is_kept(scratch):
            with _locked(config, scratch):
                clear_scratch(scratch)
        return
    folder.check()
    require_place(scratch / "lock", "choose another folder with runtime.scratch=...")
    report_other_scratch(config, scratch)
    with _locked(config, scratch):
        if not _is_there(config, folder):  # nor published by the trainer that held the lock until now
            if config.runtime.resume is Resume.never:
                discard_other_code(scratch)
            _train_and_publish(config, scratch, folder)
        if not (config.runtime.keep_scratch or is_kept(scratch)):
            clear_scratch(scratch)


def _is_there(config: RunConfig, folder: RunFolder) -> bool:
    """Whether this very run is published, which is then said."""
    if not (folder.is_published() and _is_whole(folder.path, config.replace)):
        return False
    copy_scores(config)  # a kill between the steps of publication leaves out this one, and clearing the scratch folder
    print(f"{config.out_dir} holds this run already (configuration {config.hash()}); delete it to run again.")
    return True


def _is_whole(folder: Path, is_replaced: bool) -> bool:
    """Whether nothing of a published run is damaged; a damaged one is trained again only with ``replace``."""
    try:
        verify(folder, is_needed=is_result)
    except UserError:
        if is_replaced:
            return False
        raise
    return True


def _locked(config: RunConfig, scratch: Path) -> AbstractContextManager[None]:
    """While the context lasts, no other process trains this run or removes its scratch folder."""
    return locked(scratch / "lock", f"another trainer is at work on {config.identity}")


def _train_and_publish(config: RunConfig, scratch: Path, folder: RunFolder) -> None:
    device = precision.configure(config.training.precision, config.runtime)
    print(
        f"{config.identity}  scale {config.scale.name}  configuration {config.hash()}  revision {git_revision()}  "
        f"on {hardware(device)}",
        flush=True,
    )
    settings = provenance(config)  # of the files as they are now: an edit during the run does not count
    write_atomic(scratch / "config.yaml", OmegaConf.to_yaml(to_dict(config)).encode())
    journal = Journal(scratch / "metrics.jsonl")
    trainer = Trainer(config, scratch, journal, device)
    try:
        trainer.resume()
        if not (scratch / "environment.json").exists():
            journal.append("tags", values=tags(config))
            journal.append("params", values=flat(to_dict(config)))
        made_by = json.dumps(environment(trainer), indent=2).encode()
        write_atomic(scratch / "environment.json", made_by)
        if config.extend is not None and trainer.epoch == 0:
            extension.begin(trainer)
        with _tracked(config, journal):
            trainer.run()
            publish(trainer, settings, made_by, folder)
    finally:
        trainer.close()


@contextmanager
def _tracked(config: RunConfig, journal: Journal) -> Iterator[None]:
    """While the context lasts, MLflow gets what the journal gets; the journal then records how the session ended."""
    sink = (
        MlflowSink(
            journal.path,
            config.runtime.tracking_uri,
            run_name=config.identity,
            tags=tags(config),
            folder=config.out_dir,
        )
        if config.runtime.tracking
        else None
    )
    try:
        yield
    except BaseException as error:
        _record_end(journal, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")  # SIGTERM is one, too
        raise
    finally:
        if sink is not None:
            sink.close()


def _record_end(journal: Journal, status: str) -> None:
    """Record how the session ended; an error of that does not hide the one that ended it."""
    with contextlib.suppress(UserError, OSError):
        journal.append("status", value=status)
