"""Finished runs and tokenizers come from the snapshot of the code into the workspace and are registered with DVC.

Every step can be repeated: what a run has published in the snapshot is removed last, when DVC has it. A launcher that
was killed between two steps does them again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.launch.attempts import Job, jobs
from pipeline.launch.jobs import config_of, is_current
from pipeline.launch.missing import dvc, renew_inputs
from pipeline.plan import scores_of
from tokenworlds.cli import print_error
from tokenworlds.errors import UserError
from tokenworlds.files import remove_own, write_atomic
from tokenworlds.runs.layout import ENVIRONMENT, RUN_SCORES
from tokenworlds.runs.manifest import MANIFEST, read_manifest, verify
from tokenworlds.tracking.revision import is_code_of
from tokenworlds.training.run_folder import RUN_FILES, RunFolder

DAMAGED = "remove that folder, and launch the run again"
OTHER = (
    "code or settings have changed since it was launched; its result is kept, and registered as soon as they are again "
    "what they were, also by a later launch."
)


def finished() -> list[Job]:
    """Runs of earlier launches that have ended well and are not registered with DVC."""
    found = [*(job for job in jobs() if not job.is_unfinished), *jobs("superseded")]
    return [job for job in found if job.is_published]


class Collector:
    """Collects finished runs; those that it cannot collect stay where they are.

    Args:
        batch: how many runs are registered with DVC at a time, which takes it seconds.
        seconds: after which fewer are registered.

    Attributes:
        refused: why a run was not registered, by its name.
        registered: names of the runs that DVC has.
    """

    def __init__(self, batch: int = 20, seconds: float = 120, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused: dict[str, str] = {}
        self.registered: list[str] = []
        self._batch, self._seconds, self._clock = batch, seconds, clock
        self._waiting: list[Job] = []
        self._others: list[Job] = []  # of other code or settings, which may become what they were
        self._last = clock()

    def __call__(self, ended: Sequence[Job] = ()) -> None:
        """Take over finished runs, and collect them when there are many or some time has passed; to be called now and
        then, also with none."""
        self._waiting += ended
        if len(self._waiting) >= self._batch or self._clock() - self._last >= self._seconds:
            self.collect()

    def collect(self) -> None:
        """Bring all runs that wait into the workspace, and register them with DVC."""
        self._last = self._clock()
        waiting, self._waiting, self._others = [*self._others, *self._waiting], [], []
        try:
            renew_inputs({job.run.method for job in waiting})  # DVC records what it finds
        except UserError as error:
            for job in waiting:
                self._refuse(job, str(error))
            self._others = waiting
            return
        brought: dict[str, Job] = {}
        for job in waiting:
            if not is_current(job):
                self._others.append(job)
                self._refuse(job, OTHER)
                continue
            try:
                _bring(job)
                brought[job.stage] = job
            except (UserError, OSError) as error:
                self._refuse(job, str(error))
        for job in self._committed(brought):
            remove_own(job.results, RUN_FILES)
            self.refused.pop(job.name, None)
            self.registered.append(job.name)

    def _committed(self, brought: Mapping[str, Job]) -> list[Job]:
        """Those that DVC has taken; after an error each alone, so that one does not stop the others."""
        if not brought:
            return []
        try:
            dvc("commit", "--force", *brought)
            return list(brought.values())
        except UserError as error:
            if len(brought) == 1:
                self._refuse(next(iter(brought.values())), str(error))
                return []
        return [job for stage in brought for job in self._committed({stage: brought[stage]})]

    def _refuse(self, job: Job, reason: str) -> None:
        if self.refused.get(job.name) != reason:
            self.refused[job.name] = reason
            print_error(f"{job.name} is finished, but not registered with DVC: {reason}")


def _bring(job: Job) -> None:
    """Publish a run in the workspace as its training would have done it there. Nothing has to be done where it was
    trained in the workspace, with the same code.

    Raises:
        UserError: it is damaged, or its place is taken.
    """
    folder = RunFolder(config_of(job), Path(job.scratch))
    source = job.results if job.results.exists() else folder.path
    verify(source, contents=read_manifest(source / MANIFEST, DAMAGED), remedy=DAMAGED)
    if not job.is_made_in(source):
        raise UserError(f"{source} holds a run of another configuration; {DAMAGED}.")
    if source != folder.path and not (job.tokenizer and job.is_in_workspace):
        folder.publish(lambda staging: _copy(source, staging))
    elif not is_code_of(json.loads((folder.path / ENVIRONMENT).read_text())["code"]):
        raise UserError(f"{folder.path} was trained meanwhile with other code; {DAMAGED}.")
    if not job.tokenizer:
        write_atomic(scores_of(job.run), (folder.path / RUN_SCORES).read_bytes())


def _copy(source: Path, staging: Path) -> None:
    shutil.copytree(source, staging)
