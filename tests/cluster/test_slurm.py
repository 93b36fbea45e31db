"""Attempts as jobs of a real Slurm on this machine (``slurm``)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.launch.attempts import Attempt, Job
from pipeline.launch.engines.slurm import SlurmEngine, SlurmOptions
from tests.cluster import slurm
from tests.conftest import PROJECT
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(slurm.missing()), reason=f"not installed: {', '.join(slurm.missing())}"),
]
SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm's commands talk to a cluster of this machine."""
    with slurm.running_slurm(tmp_path_factory.mktemp("slurm")) as environment, pytest.MonkeyPatch.context() as patch:
        for name in ("PATH", "SLURM_CONF"):
            patch.setenv(name, environment[name])
        yield


@pytest.fixture(autouse=True)
def scratch(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path))
    return tmp_path


def make_attempt(script: str, seed: int = 0, gpu_share: float = 0.0) -> tuple[Job, Attempt]:
    """A job that runs a shell script, and the first attempt at it."""
    run = RunId("iris", "", "atari/Pong", seed, "smoke")
    job = Job(run, "stage", ("sh", "-c", script), str(PROJECT), "revision", {}, "hash", "", gpu_share, 1)
    job.write()
    return job, Attempt(job.folder, 1)


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{squeue('%all')}"
        time.sleep(0.2)


def wait_for_end(engine: SlurmEngine, identifiers: set[str]) -> dict[str, str]:
    """Why attempts have ended, after all have."""
    found: dict[str, str] = {}

    def is_over() -> bool:
        found.update(engine.ended())
        return set(found) >= identifiers

    wait_until(is_over)
    return found


def squeue(what: str) -> list[str]:
    command = ["squeue", "--noheader", "--states=all", f"--format={what}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_worker_runs_in_a_job(scratch: Path) -> None:
    engine = SlurmEngine(SlurmOptions(partition="main", time="5"))
    job, attempt = make_attempt(
        "echo $SLURM_JOB_PARTITION $SLURM_CPUS_PER_TASK $SLURM_GPUS_ON_NODE; exit 3", gpu_share=1.0
    )
    assert engine.check([job]).startswith("Slurm, 1 node with 4 GPUs; one job a run")
    identifier = engine.submit(job, attempt)
    assert engine.is_active(identifier)
    assert wait_for_end(engine, {identifier}) == {identifier: ""}
    assert attempt.status == 3
    assert attempt.path("log").read_text().split() == ["main", "1", "1"]
    assert engine.is_active(identifier) is False
