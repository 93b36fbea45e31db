"""Finished runs come from the snapshot of the code into the workspace and are registered with DVC.

Every step can be repeated: what a run has published in the snapshot is removed last, when DVC has it. A launcher that
was killed between two steps does them again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.launch.attempts import Job, jobs
from pipeline.launch.jobs import config_of, is_current
from pipeline.launch.missing import dvc
from pipeline.launch.snapshot import is_unfinished
from pipeline.plan import scores_of
from tokenworlds.cli import print_error
from tokenworlds.errors import UserError
from tokenworlds.files import remove_own, write_atomic
from tokenworlds.runs.layout import RUN_SCORES
from tokenworlds.runs.manifest import MANIFEST, read_manifest, verify
from tokenworlds.training.run_folder import RUN_FILES, RunFolder, recorded_hash

DAMAGED = "remove that folder, and launch the run again"
OTHER = (
    "code or settings have changed since it was launched; its result is kept, and the next launch registers it if they "
    "are again what they were"
)


def published(job: Job) -> Path:
    """Where the command of a job publishes the run: in the snapshot of the code."""
    return Path(job.code, "results", "runs", job.run.name)


def finished() -> list[Job]:
    """Runs of earlier launches that have ended well and are not registered with DVC."""
    found = [*(job for job in jobs() if not is_unfinished(job)), *jobs("superseded")]
    return [job for job in found if (published(job) / RUN_SCORES).is_file()]


class Collector:
    """Collects finished runs; those that it cannot collect stay where they are.

    Args:
        batch: how many runs are registered with DVC at a time, which takes it seconds.
        seconds: after which fewer are registered.

    Attributes:
        refused: why a run was not collected, by its name.
        registered: names of the runs that DVC has.
    """

    def __init__(self, batch: int = 20, seconds: float = 120, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused: dict[str, str] = {}
        self.registered: list[str] = []
        self._batch, self._seconds, self._clock = batch, seconds, clock
        self._waiting: list[Job] = []
        self._last = clock()

    def __call__(self, ended: Sequence[Job] = ()) -> None:
        """Bring finished runs into the workspace, and register them when there are many or some time has passed; to be
        called now and then, also with none."""
        for job in ended:
            try:
                _bring(job)
                self._waiting.append(job)
            except (UserError, OSError) as error:
                self._refuse(job, str(error))
        if len(self._waiting) >= self._batch or self._clock() - self._last >= self._seconds:
            self.register()

    def register(self) -> None:
        """Register with DVC all that waits for it."""
        waiting, self._waiting, self._last = self._waiting, [], self._clock()
        current = {job.stage: job for job in waiting if is_current(job)}  # DVC records what it finds now
        for job in waiting:
            if job.stage not in current:
                self._refuse(job, OTHER)
        for job in self._committed(current):
            remove_own(published(job), RUN_FILES)
            self.registered.append(job.run.name)

    def _committed(self, current: Mapping[str, Job]) -> list[Job]:
        """Those that DVC has taken; after an error each alone, so that one does not stop the others."""
        if not current:
            return []
        try:
            dvc("commit", "--force", "--quiet", *current)
            return list(current.values())
        except UserError as error:
            if len(current) == 1:
                self._refuse(*current.values(), str(error))
                return []
        return [job for stage in current for job in self._committed({stage: current[stage]})]

    def _refuse(self, job: Job, reason: str) -> None:
        self.refused[job.run.name] = reason
        print_error(f"{job.run.name} is finished, but not registered with DVC: {reason}")


def _bring(job: Job) -> None:
    """Publish a run in the workspace as its training would have done it there.

    Raises:
        UserError: it is damaged, of other code or settings, or its place is taken.
    """
    source = published(job)
    if not is_current(job):
        raise UserError(f"{OTHER}.")
    verify(source, contents=read_manifest(source / MANIFEST, DAMAGED), remedy=DAMAGED)
    if recorded_hash(source) != job.config_hash:
        raise UserError(f"{source} holds a run of another configuration; {DAMAGED}.")
    folder = RunFolder(config_of(job), Path(job.scratch))
    folder.publish(lambda staging: _copy(source, staging))
    write_atomic(scores_of(job.run), (folder.path / RUN_SCORES).read_bytes())


def _copy(source: Path, staging: Path) -> None:
    shutil.copytree(source, staging)
