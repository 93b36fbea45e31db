"""The engine for Slurm with a pretended one; tests/cluster has a real one."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.launch.attempts import CANCELLED, Attempt, Job
from pipeline.launch.engines import slurm
from pipeline.launch.engines.slurm import SlurmEngine, SlurmOptions, Work
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId

NODES = "main*|node1|1-00:00:00|gpu:a100:4(S:0-1)\nmain*|node2|1-00:00:00|gpu:2,mps:100\nlong|node3|infinite|(null)\n"


class Slurm:
    """Answers of Slurm's commands; ``jobs`` is what squeue shows, in the order of submission."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.room = 100
        self.is_up = True
        self.calls: list[Sequence[str]] = []

    def run(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if not self.is_up:
            return subprocess.CompletedProcess(
                command, 1, "", f"{command[0]}: error: Unable to contact slurm controller\n"
            )
        shown = "".join(f"{number}|{state}|{name}\n" for number, (name, state) in enumerate(self.jobs.items()))
        return subprocess.CompletedProcess(command, 0, {"sinfo": NODES, "squeue": shown}.get(command[0], ""), "")

    def submit(self, identifier: str, job: Job, attempt: Attempt) -> None:
        if len(self.jobs) >= self.room:
            raise UserError("Slurm refuses the job: Job violates accounting policy.")
        self.jobs[identifier] = "PENDING"


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm()
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path))
    monkeypatch.setattr(slurm.subprocess, "run", found.run)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm, "STATE_SECONDS", -1.0)
    monkeypatch.setattr(SlurmEngine, "_submit", lambda _, *arguments: found.submit(*arguments))
    return found


def make_attempt(seed: int = 0, gpu_share: float = 1.0, cpus: int = 1) -> tuple[Job, Attempt]:
    run = RunId("iris", "", "atari/Pong", seed, "smoke")
    job = Job(run, "stage", ("true",), "/code", "revision", {}, "hash", "", gpu_share, cpus)
    job.write()
    return job, Attempt(job.folder, 1)


@pytest.mark.parametrize(
    ("state", "status", "why"),
    [
        ("COMPLETED", 0, ""),
        ("FAILED", 2, ""),  # the command has failed after the worker had recorded that
        ("COMPLETED", 143, ""),
        ("NODE_FAIL", None, "NODE_FAIL"),
        ("PREEMPTED", 143, "PREEMPTED"),
        ("OUT_OF_MEMORY", None, "OUT_OF_MEMORY"),
        ("TIMEOUT", None, "TIMEOUT"),
        (None, None, ""),  # Slurm has forgotten it
    ],
)
def test_reason_is_the_state_unless_the_worker_has_said_it(
    pretended: Slurm, state: str | None, status: int | None, why: str
) -> None:
    engine = SlurmEngine(SlurmOptions())
    job, attempt = make_attempt()
    identifier = engine.submit(job, attempt)
    assert engine.ended() == {}
    if status is not None:
        attempt.record("ended", status=status)
    if state is None:
        pretended.jobs.clear()
    else:
        pretended.jobs[identifier] = state
    assert engine.ended() == {identifier: why}
    assert engine.ended() == {}
    assert engine.is_active(identifier) is False
    assert not (job.folder / CANCELLED).exists()


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"])
def test_job_in_the_queue_has_not_ended_whatever_is_recorded(pretended: Slurm, state: str) -> None:
    engine = SlurmEngine(SlurmOptions())
    job, attempt = make_attempt()
    identifier = engine.submit(job, attempt)
    attempt.record("ended", status=143)  # it was preempted and is queued again
    pretended.jobs[identifier] = state
    assert engine.ended() == {}
    assert SlurmEngine(SlurmOptions()).is_active(identifier) is True


def test_nothing_is_known_while_slurm_does_not_answer(pretended: Slurm) -> None:
    engine = SlurmEngine(SlurmOptions())
    identifier = engine.submit(*make_attempt())
    pretended.jobs.clear()
    pretended.is_up = False
    assert engine.ended() == {}
    assert engine.is_active(identifier) is None


@pytest.mark.parametrize("by_launcher", [False, True])
def test_only_who_cancels_by_hand_keeps_a_run_from_being_tried_again(pretended: Slurm, by_launcher: bool) -> None:
    engine = SlurmEngine(SlurmOptions())
    job, attempt = make_attempt()
    identifier = engine.submit(job, attempt)
    if by_launcher:  # of a job whose worker is silent
        engine.cancel(identifier)
        assert pretended.calls[-1][0] == "scancel"
    pretended.jobs[identifier] = "CANCELLED"
    assert engine.ended() == {identifier: "CANCELLED"}
    assert (job.folder / CANCELLED).exists() is not by_launcher


def test_jobs_over_a_limit_of_the_site_wait(pretended: Slurm) -> None:
    engine = SlurmEngine(SlurmOptions())
    pretended.room = 1
    first, second = (engine.submit(*make_attempt(seed)) for seed in range(2))
    assert list(pretended.jobs) == [first]
    assert engine.is_active(second) is True
    del pretended.jobs[first]
    assert engine.ended() == {first: ""}
    assert list(pretended.jobs) == [second]


def test_first_job_that_is_refused_is_an_error(pretended: Slurm) -> None:
    pretended.room = 0
    with pytest.raises(UserError, match="accounting policy"):
        SlurmEngine(SlurmOptions()).submit(*make_attempt())


@pytest.mark.parametrize(
    ("partition", "time", "minutes"),
    [
        (None, None, 24 * 60),
        ("long", None, 0),
        (None, "90", 90),
        (None, "90:30", 91),
        (None, "12:00:00", 720),
        ("long", "2-12", 3600),
        ("long", "1-00:30", 1470),
        ("long", "UNLIMITED", 0),
    ],
)
def test_time_limit(pretended: Slurm, partition: str | None, time: str | None, minutes: int) -> None:
    assert SlurmEngine(SlurmOptions(partition, time)).minutes == minutes


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (SlurmOptions(time="1d"), "--time 1d is no time of Slurm"),
        (SlurmOptions(time="2-00"), "--time 2-00 is longer than the 1440 minutes"),
        (SlurmOptions(time="unlimited"), "longer than the 1440 minutes"),
        (SlurmOptions(partition="lung"), "no partition lung: .*did you mean long?"),
    ],
)
def test_what_the_partition_does_not_allow_is_refused(pretended: Slurm, options: SlurmOptions, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SlurmEngine(options).check([make_attempt()[0]])


@pytest.mark.parametrize(
    ("system", "said"),
    [("nfs4", "on nfs4, taken to be shared"), ("ext4", "on ext4: make sure that all nodes share it")],
)
def test_check_says_what_there_is(pretended: Slurm, monkeypatch: pytest.MonkeyPatch, system: str, said: str) -> None:
    monkeypatch.setattr(slurm, "_file_system", lambda _: system)
    line = SlurmEngine(SlurmOptions(max_jobs=64)).check([make_attempt()[0], make_attempt(cpus=4, gpu_share=0.0)[0]])
    assert line.startswith("Slurm, 2 nodes with 6 GPUs; one job a run, at most 64 at a time; scratch folder " + said)
    asked = [" ".join(call) for call in pretended.calls if call[0] == "sbatch"]
    assert len(asked) == 2
    assert sum("--gpus-per-node=1" in call for call in asked) == 1


def test_scratch_folder_in_memory_is_refused(pretended: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_file_system", lambda _: "tmpfs")
    with pytest.raises(UserError, match="TOKENWORLDS_SCRATCH"):
        SlurmEngine(SlurmOptions()).check([])


def test_missing_commands_and_silent_slurm_are_one_sentence(pretended: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended.is_up = False
    with pytest.raises(UserError, match="sinfo of Slurm says: Unable to contact slurm controller"):
        SlurmEngine(SlurmOptions()).check([])
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="sbatch was not found"):
        SlurmEngine(SlurmOptions()).check([])


@pytest.mark.parametrize(
    ("status", "epochs", "is_cancelled", "is_queued_again"),
    [(143, (3, 4), False, True), (143, (3, 3), False, False), (0, (3, 6), False, False), (143, (3, 4), True, False)],
)
def test_job_is_queued_again_only_for_a_run_that_goes_on(
    pretended: Slurm,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    epochs: tuple[int, int],
    is_cancelled: bool,
    is_queued_again: bool,
) -> None:
    job, attempt = make_attempt()
    attempt.record("started", epoch=epochs[0])
    attempt.record("ended", status=status, epoch=epochs[1])
    if is_cancelled:
        (job.folder / CANCELLED).touch()
    work = Work(attempt)
    monkeypatch.setattr(work, "_terminate", lambda: None)
    monkeypatch.setattr(work, "_wait", lambda: None)
    assert (work.checkpoint() is not None) is is_queued_again
    assert (attempt.status is None) is is_queued_again
