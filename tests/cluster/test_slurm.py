"""Attempts as jobs of a real Slurm on this machine (``slurm``)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from pipeline.launch import launcher
from pipeline.launch.attempts import CANCELLED, Attempt, Job, attempts_at
from pipeline.launch.engines.slurm import SlurmEngine, SlurmOptions
from tests.cluster import slurm
from tests.conftest import PROJECT
from tokenworlds.config import load
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.training.run_folder import scratch_folder

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(slurm.missing()), reason=f"not installed: {', '.join(slurm.missing())}"),
]
SECONDS = 800.0


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
    job, attempt = make_attempt("trap 'echo closed; exit 143' TERM; while true; do sleep 61 & wait; done")
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


def test_run_over_the_time_limit_goes_on_as_the_same_attempt(scratch: Path) -> None:
    checkpoints = scratch / "checkpoints"
    checkpoints.mkdir()
    script = f"""
        trap 'exit 143' TERM
        if [ -e {checkpoints}/epoch_00001.json ]; then echo goes on; exit 0; fi
        touch {checkpoints}/epoch_00001.json; sleep 600 & wait"""
    job, attempt = make_attempt(script)
    job = replace(job, scratch=str(checkpoints))
    job.write()
    engine = SlurmEngine(SlurmOptions(time="1"))
    identifier = engine.submit(job, attempt)
    wait_until(lambda: (checkpoints / "epoch_00001.json").exists() and attempt.about("started") is None)
    assert attempt.status is None
    assert (engine.ended(), engine.is_active(identifier)) == ({}, True)
    assert wait_for_end(engine, {identifier}) == {identifier: ""}
    assert (attempt.status, attempt.last_line) == (0, "goes on")
    assert attempts_at(job.folder) == [attempt]


def launch(events: Path) -> launcher.Outcome:
    """What came of four runs that leave a line each when they begin."""
    made = [make_attempt(f"echo {seed} >> {events}; sleep 25", seed)[0] for seed in range(4)]
    engine = SlurmEngine(SlurmOptions(max_jobs=3))
    return launcher.Launcher(engine, lambda _: None, launcher.Options(poll_seconds=0.5)).run(made)


def test_launcher_that_was_killed_is_followed_by_the_next(scratch: Path) -> None:
    events = scratch / "events"
    first = subprocess.Popen([sys.executable, "-c", f"import {__name__} as t; t.launch(t.Path({str(events)!r}))"])
    wait_until(lambda: len(read(events).split()) == 3)
    first.kill()
    first.wait()
    outcome = launch(events)
    assert sorted(name[-1] for name in outcome.finished) == ["0", "1", "2", "3"]
    assert sorted(read(events).split()) == ["0", "1", "2", "3"]  # none was begun twice


TRAIN = (
    "python", "-m", "pipeline.train", "method=iris", "task=minigrid/Empty-5x5", "scale=smoke", "training.epochs=3",
    "evaluation.every=100", "evaluation.final_episodes=1", "evaluation.random_episodes=1",
    "evaluation.imagined_episodes=1", "runtime.device=cpu", "runtime.tracking=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Weights of the training."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    command = [sys.executable, *TRAIN[1:], f"out={folder / 'run'}", f"runtime.scratch={folder}"]
    subprocess.run(command, cwd=PROJECT, check=True)
    return weights(folder / "run")


def weights(run: Path) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in load_file(run / "agent.safetensors").items()}


@pytest.mark.parametrize(
    "interruption",
    [
        ["scancel", "--me", "--signal=USR2"],  # what Slurm does before the time limit
        ["srun", "--partition=urgent", f"--cpus-per-task={slurm.CPUS}", "true"],  # preemption
    ],
)
def test_interrupted_run_has_the_same_bits(
    scratch: Path, uninterrupted: dict[str, bytes], interruption: list[str]
) -> None:
    engine = SlurmEngine(SlurmOptions())
    job, attempt = make_attempt("")
    out = scratch / "run"
    job = replace(job, command=(*TRAIN, f"out={out}"), scratch=str(scratch_folder(load([*TRAIN[3:], f"out={out}"]))))
    job.write()
    identifier = engine.submit(job, attempt)
    wait_until(lambda: "epoch 1/" in read(attempt.path("log")))
    subprocess.run(interruption, check=True)
    assert wait_for_end(engine, {identifier}) == {identifier: ""}
    assert attempt.status == 0
    assert "resuming after epoch" in read(attempt.path("log"))
    assert weights(out) == uninterrupted


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
