"""The loop of a launcher, with an engine and machines that exist in this process only and fail on request."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.launch.attempts import CANCELLED, Attempt, Job, attempts_at, this_machine
from pipeline.launch.engines import Engine
from pipeline.launch.launcher import Launcher, Options, Outcome
from tests.launch.jobs import make_job
from tokenworlds import cli
from tokenworlds.files import write_atomic

SILENT, DIED = "silent", "died"  # ends of which nobody is told, and of which the engine knows
OPTIONS = Options(poll_seconds=1, lost_seconds=5, retry_seconds=1, busy_seconds=2)
TICKS = 2000


class Killed(Exception):
    """The launcher dies."""


@dataclass
class Plan:
    """How the attempts at a run end: exit status or fault, and whether after a new epoch; from then on they succeed."""

    ends: list[tuple[int | str, bool]] = field(default_factory=list)
    ticks: int = 2


@dataclass
class Process:
    job: Job
    attempt: Attempt
    end: int | str
    has_progressed: bool
    left: int
    epoch: int = 0


class Machines:
    """Processes of attempts and the clock of everybody."""

    def __init__(self, plans: Mapping[str, Plan], kills: Sequence[int] = (), shift: int = 0) -> None:
        self.plans, self.kills, self.now, self.shift = plans, set(kills), 0, shift
        self.processes: dict[str, Process] = {}
        self.ended: dict[str, str] = {}  # that the engine has not told
        self.started: Counter[str] = Counter()
        self.shares: dict[str, list[float]] = {}
        self.collected: list[Job] = []

    def start(self, identifier: str, job: Job, attempt: Attempt) -> None:
        assert all(process.job.run != job.run for process in self.processes.values()), "one run, twice at a time"
        assert job.run not in [job.run for job in self.collected], "a finished run"
        name, plan = job.run.name, self.plans[job.run.name]
        ends = plan.ends[self.started[name] :] or [(0, True)]
        self.started[name] += 1
        self.shares.setdefault(name, []).append(job.gpu_share)
        self.processes[identifier] = Process(job, attempt, *ends[0], plan.ticks, job.epoch)
        attempt.path("log").write_text("epoch 1\nerror: training has diverged.\n")
        attempt.record("started", host="machine", pid=1, gpus=None, epoch=job.epoch)

    def sleep(self, _: float) -> None:
        self.now += 1
        assert self.now < TICKS, "the loop does not end"
        for identifier, process in list(self.processes.items()):
            process.left -= 1
            if process.left <= 0:
                self.stop(identifier, process.end)
            else:
                process.attempt.path("beat").write_text(str(self.now))
                os.utime(process.attempt.path("beat"), (time.time() + self.shift,) * 2)
        if self.now in self.kills:
            raise Killed

    def stop(self, identifier: str, end: int | str) -> None:
        process = self.processes.pop(identifier)
        if process.has_progressed:
            epoch = Path(process.job.scratch, f"epoch_{process.epoch + 1:05d}.json")
            epoch.parent.mkdir(parents=True, exist_ok=True)
            epoch.touch()
        if end == 0:
            write_atomic(process.job.results / "scores.json", json.dumps({"config_hash": "hash"}).encode())
        if isinstance(end, int):
            process.attempt.record("ended", status=end, epoch=process.epoch)
        if end != SILENT:
            self.ended[identifier] = "its node died" if end == DIED else ""

    def clock(self) -> float:
        return self.now

    def collect(self, jobs: Sequence[Job]) -> None:
        self.collected += jobs


class Simulation(Engine):
    """An engine whose attempts end with the launcher, as Ray's do, or go on, as Slurm's do.

    Args:
        knows: whether it can tell of attempts of earlier launchers.
    """

    name = "simulation"

    def __init__(self, machines: Machines, knows: bool) -> None:
        self.machines, self.knows = machines, knows
        self.own: set[str] = set()

    def check(self, jobs: Sequence[Job]) -> str:
        return "machines"

    def submit(self, job: Job, attempt: Attempt) -> str:
        identifier = str(attempt.path(""))
        self.machines.start(identifier, job, attempt)
        self.own.add(identifier)
        return identifier

    def ended(self) -> Mapping[str, str]:
        found, self.machines.ended = self.machines.ended, {}
        silent = dict.fromkeys(self.own - self.machines.processes.keys() - found.keys(), "")  # their tasks end
        self.own -= (found | silent).keys()
        return found | silent

    def is_active(self, identifier: str) -> bool | None:
        return identifier in self.machines.processes if self.knows or identifier in self.own else None

    def cancel(self, identifier: str) -> None:
        if identifier in self.machines.processes:
            self.machines.stop(identifier, cli.STATUS_TERMINATED)

    def close(self) -> None:
        """Nothing to leave."""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path / "scratch"))
    yield tmp_path


def job_of(folder: Path, index: int = 0, **options: object) -> Job:
    return make_job("true", index=index, code=folder / "code", **options)  # type: ignore[arg-type]


def launch(jobs: Sequence[Job], machines: Machines, knows: bool = True, options: Options = OPTIONS) -> Outcome:
    engine = Simulation(machines, knows)
    return Launcher(engine, machines.collect, options, clock=machines.clock, sleep=machines.sleep).run(jobs)


def launch_one(job: Job, *ends: tuple[int | str, bool], options: Options = OPTIONS) -> tuple[Outcome, Machines]:
    machines = Machines({job.run.name: Plan(list(ends))})
    return launch([job], machines, options=options), machines


def test_runs_are_trained_and_handed_over_once(tmp_path: Path) -> None:
    jobs = [job_of(tmp_path, index) for index in range(3)]
    machines = Machines({job.run.name: Plan() for job in jobs})
    outcome = launch(jobs, machines)
    assert outcome.finished == [job.name for job in jobs] and machines.collected == jobs
    assert not outcome.failed and set(machines.started.values()) == {1}


def test_the_start_of_a_run_is_told_that_has_ended_before_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(tmp_path)
    machines = Machines({job.run.name: Plan([(cli.STATUS_TERMINATED, True)])})
    start = machines.start

    def start_and_end(identifier: str, job: Job, attempt: Attempt) -> None:
        start(identifier, job, attempt)
        machines.stop(identifier, machines.processes[identifier].end)

    monkeypatch.setattr(machines, "start", start_and_end)
    assert launch([job], machines).finished == [job.name]
    shown = capsys.readouterr().out
    assert f"{job.run.name}: started on machine\n" in shown
    assert f"{job.run.name}: started on machine, goes on after epoch 1\n" in shown


@pytest.mark.parametrize("status", [cli.STATUS_BUG, cli.STATUS_ERROR])
def test_a_run_that_fails_stops_nobody_and_is_not_tried_again(status: int, tmp_path: Path) -> None:
    jobs = [job_of(tmp_path, index) for index in range(2)]
    machines = Machines({jobs[0].run.name: Plan([(status, True)] * 9), jobs[1].run.name: Plan(ticks=5)})
    outcome = launch(jobs, machines)
    assert outcome.failed == {jobs[0].name: "training has diverged."} and outcome.finished == [jobs[1].name]
    assert machines.started[jobs[0].run.name] == 1
    assert launch(jobs[:1], machines).failed and machines.started[jobs[0].run.name] == 2  # a person asks again


@pytest.mark.parametrize("end", [cli.STATUS_TERMINATED, -9, DIED, SILENT])
def test_an_interrupted_run_is_tried_again_as_long_as_it_gets_further(end: int | str, tmp_path: Path) -> None:
    job = job_of(tmp_path)
    outcome, machines = launch_one(job, *[(end, True)] * 10)
    assert outcome.finished == [job.name] and machines.started[job.run.name] == 11
    (tmp_path / "scratch").rename(tmp_path / "another")
    outcome, machines = launch_one(job, *[(end, False)] * 10)
    assert list(outcome.failed) == [job.name] and machines.started[job.run.name] == 3


def test_a_run_without_memory_gets_a_gpu_of_its_own(tmp_path: Path) -> None:
    job = job_of(tmp_path, gpu_share=0.25)
    _, machines = launch_one(job, (cli.STATUS_MEMORY, False), (cli.STATUS_TERMINATED, True))
    assert machines.shares[job.run.name] == [0.25, 1.0, 1.0]
    assert [(attempt.about("submitted") or {})["gpu_share"] for attempt in attempts_at(job.folder)] == [0.25, 1.0, 1.0]


def test_a_run_that_somebody_else_trains_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    outcome, machines = launch_one(job, *[(cli.STATUS_BUSY, False)] * 9)
    assert outcome.finished == [job.name] and machines.started[job.run.name] == 10
    (tmp_path / "scratch").rename(tmp_path / "another")
    monkeypatch.setattr(Job, "is_in_workspace", True)  # it has finished in the workspace
    outcome, machines = launch_one(job, *[(cli.STATUS_BUSY, False)] * 9)
    assert outcome.finished == [job.name] and machines.started[job.run.name] == 1


@pytest.mark.parametrize("when", [0, 1, 4])
def test_a_cancelled_run_ends_and_is_not_tried_again(
    when: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Running, or waiting for another attempt; a new launch asks for it again."""
    jobs = [job_of(tmp_path, index) for index in range(2)]
    machines = Machines({job.run.name: Plan([(DIED, False)], ticks=4) for job in jobs})
    sleep = machines.sleep

    def cancel(seconds: float) -> None:
        if machines.now == when:
            (jobs[0].folder / CANCELLED).touch()
        sleep(seconds)

    machines.sleep = cancel  # type: ignore[method-assign]
    outcome = launch(jobs, machines, options=replace(OPTIONS, retry_seconds=3))
    assert outcome.cancelled == [jobs[0].name] and outcome.finished == [jobs[1].name]
    assert machines.started[jobs[0].run.name] == 1 and not machines.processes
    assert f"{jobs[0].run.name}: training has diverged" not in capsys.readouterr().out
    machines.sleep = sleep  # type: ignore[method-assign]
    assert launch(jobs[:1], machines).finished == [jobs[0].name]


@pytest.mark.parametrize(("knows", "shift"), [(True, 0), (False, 0), (False, -3600), (False, 3600)])
def test_the_next_launcher_watches_what_runs(knows: bool, shift: int, tmp_path: Path) -> None:
    """Also where the clock of the node differs from this one's."""
    job = job_of(tmp_path)
    machines = Machines({job.run.name: Plan(ticks=30)}, kills=[3], shift=shift)
    with pytest.raises(Killed):
        launch([job], machines)
    later = replace(job, code=str(tmp_path / "later"), revision="later")  # edits that change no input
    outcome = launch([later], machines, knows)
    assert outcome.finished == [job.name] and machines.started[job.run.name] == 1
    assert machines.collected == [job]  # its results are in the snapshot of its own launch


@pytest.mark.parametrize(
    ("engine", "started", "is_over"),
    [
        ("ray", None, True),  # Ray's tasks end with the launcher
        ("slurm", None, False),
        ("slurm", {"machine": this_machine()}, True),  # where its worker is no more
        ("slurm", {"machine": "another"}, False),
    ],
)
def test_what_cannot_go_on_is_tried_again_at_once(
    engine: str, started: dict[str, str] | None, is_over: bool, tmp_path: Path
) -> None:
    """After an earlier launcher, of an engine that knows nothing of the attempt."""
    job = job_of(tmp_path)
    job.write()
    attempt = Attempt(job.folder, 1)
    attempt.claim(key=job.key, engine=engine, id="1")
    if started is not None:
        with subprocess.Popen(["true"]) as worker:
            pass
        attempt.record("started", **started, host="machine", pid=worker.pid, epoch=0)
    machines = Machines({job.run.name: Plan()})
    assert launch([job], machines, knows=False).finished == [job.name] and machines.started[job.run.name] == 1
    assert (machines.now < OPTIONS.lost_seconds) == is_over


def test_what_has_finished_without_a_launcher_is_handed_over(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    machines = Machines({job.run.name: Plan(ticks=5)}, kills=[3])
    with pytest.raises(Killed):
        launch([job], machines)
    for _ in range(9):
        machines.sleep(1)
    assert launch([job], machines).finished == [job.name] and machines.started[job.run.name] == 1


def test_a_run_of_older_inputs_ends_before_the_new_one_begins(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    machines = Machines({job.run.name: Plan(ticks=9)}, kills=[3])
    with pytest.raises(Killed):
        launch([job], machines)
    edited = job_of(tmp_path / "edited", inputs="edited")
    assert launch([edited], machines).finished == [job.name]
    assert machines.collected == [edited] and machines.started[job.run.name] == 2
    keys = [(attempt.about("submitted") or {})["key"] for attempt in attempts_at(job.folder)]
    assert keys == [job.key, edited.key] and Job.read(job.folder) == edited


def test_of_two_launchers_one_makes_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file system's locks do not work."""
    job = job_of(tmp_path)
    machines = Machines({job.run.name: Plan()})
    first, second = (Simulation(machines, knows=True) for _ in range(2))
    claim = Attempt.claim

    def overtaken(attempt: Attempt, **values: object) -> bool:
        if not machines.started:
            job.write()
            claim(attempt, **values)
            attempt.record("submitted", **values | {"id": first.submit(job, attempt)})
        return claim(attempt, **values)

    monkeypatch.setattr(Attempt, "claim", overtaken)
    outcome = Launcher(second, machines.collect, OPTIONS, clock=machines.clock, sleep=machines.sleep).run([job])
    assert outcome.finished == [job.name] and machines.started[job.run.name] == 1


ENDS = st.sampled_from([0, cli.STATUS_ERROR, cli.STATUS_MEMORY, cli.STATUS_BUSY, cli.STATUS_TERMINATED, DIED, SILENT])
PLANS = st.builds(Plan, st.lists(st.tuples(ENDS, st.booleans()), max_size=6), st.integers(1, 12))


@settings(max_examples=20)
@given(st.lists(PLANS, min_size=1, max_size=4), st.lists(st.integers(1, 40), max_size=3), st.booleans(), st.booleans())
def test_nothing_is_lost_and_nothing_twice(plans: list[Plan], kills: list[int], survive: bool, knows: bool) -> None:
    """``Machines.start`` asserts that no run is started twice at a time, or after it has finished."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENWORLDS_SCRATCH", name)
        jobs = [job_of(Path(name), index) for index in range(len(plans))]
        machines = Machines({job.run.name: plan for job, plan in zip(jobs, plans)}, kills)
        failed: dict[str, str] = {}
        wanted = jobs
        while wanted:
            try:
                outcome = launch(wanted, machines, knows)
            except Killed:
                if not survive:
                    for identifier in list(machines.processes):
                        machines.stop(identifier, SILENT)
            else:
                failed |= outcome.failed
                break
            wanted = [job for job in jobs if job not in machines.collected]
        collected = [job.run.name for job in machines.collected]
        assert len(collected) == len(set(collected))
        assert sorted([*collected, *failed]) == sorted(job.run.name for job in jobs)
        for job in jobs:
            ends = [end for end, _ in machines.plans[job.run.name].ends]
            assert set(ends) & {cli.STATUS_ERROR, cli.STATUS_MEMORY, cli.STATUS_TERMINATED, DIED, SILENT} or (
                job.run.name in collected
            )
