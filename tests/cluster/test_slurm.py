"""Attempts as jobs of a real Slurm on this machine (``slurm``)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest

from pipeline.launch.attempts import CANCELLED, Attempt, Job
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


@pytest.mark.parametrize(
    ("options", "cpus", "sentence"),
    [
        (SlurmOptions(partition="mian"), 1, "Slurm has no partition mian: .*did you mean main?"),
        (SlurmOptions(partition="urgent", time="2-0"), 1, "--time 2-0 is longer than the 60 minutes"),
        (SlurmOptions(time="1d"), 1, "--time 1d is no time of Slurm"),
        (SlurmOptions(), 99, "sbatch of Slurm says: .*Requested node configuration is not available"),
    ],
)
def test_impossible_is_refused_in_a_sentence(options: SlurmOptions, cpus: int, sentence: str) -> None:
    job, _ = make_attempt("true")
    with pytest.raises(UserError, match=sentence):
        SlurmEngine(options).check([replace(job, cpus=cpus)])


def test_jobs_in_the_queue_are_limited(scratch: Path) -> None:
    engine, events = SlurmEngine(SlurmOptions(max_jobs=2)), scratch / "events"
    script = f"echo begin >> {events}; sleep 1; echo end >> {events}"
    identifiers = {engine.submit(*make_attempt(script, seed)) for seed in range(5)}
    assert all(engine.is_active(identifier) for identifier in identifiers)
    assert sum(name in identifiers for name in squeue("%j")) == 2
    assert wait_for_end(engine, identifiers) == dict.fromkeys(identifiers, "")
    at_work = list(accumulate({"begin": 1, "end": -1}[event] for event in events.read_text().split()))
    assert (max(at_work), at_work[-1], len(at_work)) == (2, 0, 10)


def test_attempt_that_waits_for_room_is_withdrawn() -> None:
    engine = SlurmEngine(SlurmOptions(max_jobs=1))
    running, waiting = (engine.submit(*make_attempt("sleep 60", seed)) for seed in range(2))
    engine.cancel(waiting)
    assert engine.ended() == {waiting: "CANCELLED"}
    engine.cancel(running)
    assert wait_for_end(engine, {running}) == {running: "CANCELLED"}
    assert waiting not in squeue("%j")


def test_later_launcher_finds_jobs_and_counts_them() -> None:
    job, attempt = make_attempt("sleep 60")
    identifier = SlurmEngine(SlurmOptions()).submit(job, attempt)
    wait_until(lambda: attempt.about("started"))
    later = SlurmEngine(SlurmOptions(max_jobs=1))
    assert later.is_active(identifier) is True
    other = later.submit(*make_attempt("true", seed=1))
    assert other not in squeue("%j")
    later.cancel(identifier)
    assert wait_for_end(later, {identifier, other}) == {identifier: "CANCELLED", other: ""}


def test_job_cancelled_by_hand_ends_its_run_in_order_and_is_not_tried_again() -> None:
    job, attempt = make_attempt("trap 'echo closed; exit 143' TERM; sleep 61 & wait")
    engine = SlurmEngine(SlurmOptions())
    identifier = engine.submit(job, attempt)
    wait_until(lambda: attempt.path("beat").exists())
    (number,) = (line.split()[0] for line in squeue("%i %T %j") if line.endswith(f"RUNNING {identifier}"))
    subprocess.run(["scancel", number], check=True)
    assert wait_for_end(engine, {identifier}) == {identifier: "CANCELLED"}
    assert (attempt.status, attempt.last_line) == (143, "closed")
    assert (job.folder / CANCELLED).exists()
    assert "sleep 61" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_job_whose_worker_cannot_start_says_where_to_look() -> None:
    job, attempt = make_attempt("true")
    engine = SlurmEngine(SlurmOptions())
    identifier = engine.submit(replace(job, code="/nowhere"), attempt)
    (why,) = wait_for_end(engine, {identifier}).values()
    assert why == f"FAILED, see {attempt.folder / 'slurm'}"
    assert any("/nowhere" in path.read_text() for path in (attempt.folder / "slurm").glob("*_log.err"))


TRAIN = "method=iris task=atari/Pong scale=smoke training.epochs=12 runtime.device=cpu runtime.tracking=false"
