"""What starts attempts on machines: a Ray cluster, also of this machine alone (``ray``), or Slurm (``slurm``).

An engine knows nothing of runs, retries or DVC. It starts ``python -m pipeline.launch.worker FOLDER NUMBER`` in the
snapshot of the code (``Attempt.worker``, ``worker_environment``), with a pipe at its stdin that closes when the process
dies that started it, and says when that has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.launch.attempts import Attempt, Job


class Engine(Protocol):
    """The contract of all engines. Ids are the engine's own and valid for a later launcher, too."""

    name: str

    def check(self, jobs: Sequence[Job]) -> str:
        """Refuse what cannot work before anything is submitted, and say in one line what there is: nodes, GPUs, whether
        they share the scratch folder, so that an interrupted run resumes elsewhere.

        Raises:
            UserError: no cluster, an unknown partition, a run that asks for more than any node has.
        """
        ...

    def submit(self, job: Job, attempt: Attempt) -> str:
        """Queue an attempt and return its id. The engine itself starts as many at once as there is room for, and never
        starts one again unless it was told so."""
        ...

    def ended(self) -> Mapping[str, str]:
        """Attempts that this engine has submitted and that have ended since the last call, by id: why, in the engine's
        words; empty if the worker ended by itself (its exit status is in ``ended.json``)."""
        ...

    def is_active(self, identifier: str) -> bool | None:
        """Whether an attempt, possibly of an earlier launcher, is queued or runs; None where the engine cannot know, so
        that its beat decides."""
        ...

    def cancel(self, identifier: str) -> None:
        """Stop an attempt (SIGTERM first, so that it closes its journal); nothing if it has ended."""
        ...

    def close(self) -> None:
        """Leave the cluster. Attempts that can go on without the launcher do."""
        ...
