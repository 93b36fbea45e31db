"""Files about every launched run, in ``<scratch>/launch/runs/<name>/``. A launcher keeps nothing in memory alone: what
it knows, it reads here.

* ``job.json``: what is run and from which inputs (``Job``); written by the launcher
* ``001.submitted.json``: ``key`` of the job, ``gpu_share``, ``engine`` and the ``id`` that it gave the attempt (null
  until the engine has it); written by the launcher
* ``001.started.json``: ``host``, ``machine`` (``this_machine``), ``pid``, ``gpus`` (CUDA_VISIBLE_DEVICES), ``job`` (of
  Slurm), ``epoch`` from which it goes on; written by the worker, as is all that follows
* ``001.beat``: a counter that grows every ``BEAT_SECONDS`` while the attempt runs
* ``001.log``: output of the command
* ``001.room``: nothing, in whose place the exit status is written on a full disk
* ``001.ended.json``: exit ``status`` (negative: the signal that ended it)
* ``cancelled``: a person has asked to stop the run; worker and launcher obey

``<scratch>/launch/superseded/<key>/job.json`` has what was launched before with other code or settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.plan import recorded_hash
from tokenworlds.config import project_root
from tokenworlds.epoch_files import last_epoch
from tokenworlds.files import write_atomic
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import RUN_SCORES
from tokenworlds.training.run_folder import scratch_root

BEAT_SECONDS = 10.0
LOST_SECONDS = 90.0
"""An attempt whose counter has not grown for so long, by the clock of who watches it, is lost: clocks of machines
differ, and a network file system may show a change a minute late."""
ENDING_WITH_LAUNCHER = ("ray",)
"""Engines whose attempts end when the launcher does."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
CANCELLED = "cancelled"
"""File in a run's folder with which a person stops it; asking for the run again removes it."""


def launch_folder() -> Path:
    """Folder of the launcher's files: jobs, attempts, snapshots of the code."""
    return scratch_root() / "launch"


def name_of(run: RunId, tokenizer: str) -> str:
    """Name of a job: that of its run, or the folder of its tokenizer below ``results``."""
    return tokenizer.removeprefix("results/") or run.name


@dataclass(frozen=True)
class Job:
    """A run to be trained, or a tokenizer that runs begin with to be pretrained.

    Args:
        run: which one; for a tokenizer one that begins with it.
        stage: DVC's address of it, ``pipeline/iris/dvc.yaml:atari@Pong-0``.
        command: the stage's command (``python -m pipeline.train method=iris ...``), run in ``code``; ``python`` is that
            of the node.
        code: snapshot of the sources at launch.
        revision: commit of the snapshot.
        inputs: sha256 of the two files that the stage depends on, by path relative to the project.
        config_hash: of its configuration.
        scratch: folder of its checkpoints and journal.
        gpu_share: fraction of a GPU that the run gets; 0 without GPUs.
        cpus: cores that it gets.
        tokenizer: folder of the tokenizer, relative to the project; empty for a run.
    """

    run: RunId
    stage: str
    command: tuple[str, ...]
    code: str
    revision: str
    inputs: Mapping[str, str]
    config_hash: str
    scratch: str
    gpu_share: float
    cpus: int
    tokenizer: str = ""

    @property
    def name(self) -> str:
        """``iris/atari/Pong/0``, ``tokenizers/random_policy/iris/atari/Pong/0``."""
        return name_of(self.run, self.tokenizer)

    @property
    def folder(self) -> Path:
        """Folder of the files about this job."""
        return launch_folder() / "runs" / self.name

    @property
    def key(self) -> str:
        """Digest of what the result depends on: attempts at jobs of one key go on with each other's work."""
        about = json.dumps([asdict(self.run), self.config_hash, dict(self.inputs)], sort_keys=True)
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    @property
    def place(self) -> PurePosixPath:
        """Folder of what it makes, relative to the project."""
        return PurePosixPath(self.tokenizer or f"results/runs/{self.run.name}")

    @property
    def results(self) -> Path:
        """That folder in the snapshot, where the command publishes."""
        return Path(self.code) / self.place

    @property
    def is_published(self) -> bool:
        """Whether something is there."""
        return (self.results / self._record).is_file()

    def is_made_in(self, folder: Path) -> bool:
        """Whether a folder holds what this very configuration makes."""
        try:
            return bool(json.loads((folder / self._record).read_bytes())["config_hash"] == self.config_hash)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def is_in_workspace(self) -> bool:
        """Whether it is there, by whomever it was made."""
        if self.tokenizer:
            return self.is_made_in(project_root() / self.place)
        return recorded_hash(self.run) == self.config_hash

    @property
    def _record(self) -> str:
        """File with the hash of the configuration."""
        return "agent.json" if self.tokenizer else RUN_SCORES

    @property
    def journal(self) -> Path:
        """Of the running training."""
        return Path(self.scratch, "metrics.jsonl")

    @property
    def epoch(self) -> int:
        """The last epoch with a checkpoint; 0 before the first."""
        return last_epoch(Path(self.scratch)) or 0

    @property
    def is_unfinished(self) -> bool:
        """Whether the last attempt has not said that it has ended: it is queued, runs, or is lost."""
        attempts = attempts_at(self.folder)
        return bool(attempts) and attempts[-1].status is None

    def write(self) -> None:
        """Write ``job.json``."""
        write_atomic(self.folder / "job.json", json.dumps(asdict(self), indent=2).encode())

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job of a folder.

        Raises:
            ValueError, KeyError, TypeError, OSError: there is none, or it is damaged.
        """
        values: dict[str, Any] = json.loads((folder / "job.json").read_text())
        return cls(**values | {"run": RunId(**values["run"]), "command": tuple(values["command"])})


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run.

    Args:
        folder: of the files about the run.
        number: from 1 on.
    """

    folder: Path
    number: int

    @property
    def worker(self) -> tuple[str, ...]:
        """Command that makes the attempt, to be run by the node's Python in the snapshot of the code."""
        return ("-m", "pipeline.launch.worker", str(self.folder), str(self.number))

    def path(self, what: str) -> Path:
        """``submitted.json``, ``started.json``, ``beat``, ``log`` or ``ended.json`` of the attempt."""
        return self.folder / f"{self.number:03d}.{what}"

    def record(self, what: str, **values: Any) -> None:
        """Write ``<what>.json``."""
        write_atomic(self.path(f"{what}.json"), json.dumps(values).encode())

    def about(self, what: str) -> dict[str, Any] | None:
        """Content of ``<what>.json``; None where it is absent or being written by a node that died."""
        try:
            return dict(json.loads(self.path(f"{what}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def claim(self, **values: Any) -> bool:
        """Write ``submitted.json``, and return whether it was absent: of several launchers one makes the attempt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self.path("submitted.json").open("x") as file:
                json.dump(values, file)
        except FileExistsError:
            return False
        return True

    @property
    def last_line(self) -> str:
        """The last line of the command's output; empty without one."""
        try:
            with self.path("log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    @property
    def beat(self) -> int:
        """The counter; 0 before the first."""
        try:
            return int(self.path("beat").read_text())
        except (OSError, ValueError):
            return 0

    @property
    def status(self) -> int | None:
        """Exit status of the command; None while it has not ended."""
        ended = self.about("ended")
        return None if ended is None else int(ended["status"])

    @property
    def is_abandoned(self) -> bool:
        """Whether the attempt has not begun, and never can once its launcher has ended."""
        has_begun = self.about("started") is not None or self.status is not None
        return not has_begun and (self.about("submitted") or {}).get("engine") in ENDING_WITH_LAUNCHER

    @property
    def is_dead(self) -> bool:
        """Whether the worker was at work on this very machine and is gone, whatever it has recorded before."""
        started = self.about("started") or {}
        if this_machine() is None or started.get("machine") != this_machine():
            return False
        try:
            os.kill(started["pid"], 0)  # no signal
        except ProcessLookupError:
            return True
        except PermissionError:  # it is another user's
            pass
        return False


@cache
def this_machine() -> str | None:
    """What tells the processes of this machine since its start, or of this container, from all others; None where the
    system does not say."""
    try:
        return f"{BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def worker_environment(code: str) -> dict[str, str]:
    """Variables of a worker, besides those of the node: it finds the code, modules of one's own, and the scratch
    folder of the launcher."""
    root = project_root()
    given = [Path(path).absolute() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [Path(code, "src"), Path(code), *(path for path in given if path not in (root, root / "src"))]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, paths))), "TOKENWORLDS_SCRATCH": str(scratch_root())}


def attempts_at(folder: Path) -> list[Attempt]:
    """The attempts at the run of a folder, the first one first."""
    numbers = sorted({int(path.name[:3]) for path in folder.glob("[0-9][0-9][0-9].*")})
    return [Attempt(folder, number) for number in numbers]


def jobs(kind: str = "runs") -> Iterator[Job]:
    """Every run that was ever launched from this scratch folder; damaged records are left out.

    Args:
        kind: ``superseded`` for jobs of other code or settings than the later ones of the same runs, whose results wait
            in their snapshots.
    """
    for path in sorted((launch_folder() / kind).rglob("job.json")):
        try:
            yield Job.read(path.parent)
        except (OSError, ValueError, KeyError, TypeError):
            continue
