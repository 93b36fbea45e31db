"""Runs through real Ray clusters on this machine, with pretended GPUs, while something fails."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors import torch as safetensors

from pipeline.launch import orphans
from pipeline.launch.attempts import Attempt, Job, attempts_at
from pipeline.launch.engines.ray import QUIET, RayEngine
from pipeline.launch.launcher import Launcher, Options, Outcome
from tests.conftest import Checkout
from tests.small_disk import small_disk_at
from tests.training.test_resume import TINY, TOKENS
from tokenworlds import cli
from tokenworlds.config import load
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.training.run_folder import scratch_folder

# Ray's own
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore", "error::pytest.PytestUnraisableExceptionWarning"),
]

EPOCHS = 16
OVERRIDES = (
    *(setting for setting in TINY if not setting.endswith("epochs=4")),
    *TOKENS,
    "collection.train.num_envs=2",
    "evaluation.every=10",
    f"training.epochs={EPOCHS}",
    f"collection.train.stop_after_epochs={EPOCHS}",
)
# Environments in processes of their own, also where there are few cores.
TRAIN = """
import sys
from pipeline import train
from tokenworlds.cli import exit_status
from tokenworlds.envs.vector import environment
environment.usable_processors = lambda: 8
sys.exit(exit_status(train.main))
"""
DIVERGE = """
from tokenworlds.training.trainer import Trainer
save = Trainer.save
def spoil(trainer):
    save(trainer)
    next(iter(trainer.agent.tokenizer.parameters())).data.fill_(float("nan"))
Trainer.save = spoil
"""
OPTIONS = Options(poll_seconds=0.2, retry_seconds=0.5, busy_seconds=2, lost_seconds=25)
SECONDS = 240.0
TOKEN = secrets.token_hex(32)  # one for all tests, for Ray keeps it in the process


@pytest.fixture(scope="module")
def code(make_checkout: Callable[[], Checkout]) -> Checkout:
    return make_checkout()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, code: Checkout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path / "scratch"))
    for key, value in (QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}).items():
        monkeypatch.setenv(key, value)
    yield tmp_path / "scratch"
    shutil.rmtree(code.folder / "results" / "runs", ignore_errors=True)


def job_of(code: Checkout, seed: int, gpu_share: float = 0.0, script: str = TRAIN) -> Job:
    overrides = [*OVERRIDES, "method=iris", "task=minigrid/Empty-5x5", f"seed={seed}"]
    config = load(overrides)
    command = ("python", "-c", script, *overrides)
    where = str(scratch_folder(config))
    return Job(
        RunId.of_config(config), "stage", command, str(code.folder), "revision", {}, config.hash(), where, gpu_share, 1
    )


def weights(folder: Path) -> bytes:
    """Without the header, which names the code."""
    return safetensors.save(safetensors.load((folder / "agent.safetensors").read_bytes()))


@pytest.fixture(scope="module")
def expected(code: Checkout, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights of seed 0, trained without Ray and interruption."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    overrides = [*OVERRIDES, "method=iris", "task=minigrid/Empty-5x5", f"runtime.scratch={folder / 'scratch'}"]
    code.train(*overrides, f"out={folder / 'out'}")
    return weights(folder / "out")


@contextmanager
def cluster_of(nodes: int, gpus: int = 2) -> Iterator[Any]:
    """A head without resources, and nodes with pretended GPUs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=4, num_gpus=gpus)
        yield cluster
    finally:
        cluster.shutdown()


class Watcher:
    """Runs a launcher, and strikes once when a condition holds."""

    def __init__(self, engine: RayEngine, jobs: Sequence[Job], options: Options = OPTIONS) -> None:
        self.engine, self.jobs, self.options = engine, jobs, options
        self.collected: list[Job] = []
        self.strikes: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._deadline = time.monotonic() + SECONDS

    def run(self) -> Outcome:
        launcher = Launcher(self.engine, self.collected.extend, self.options, sleep=self._sleep)
        try:
            return launcher.run(self.jobs)
        finally:
            self.engine.close()

    def _sleep(self, seconds: float) -> None:
        logs = {job.run.name: [attempt.last_line for attempt in attempts_at(job.folder)] for job in self.jobs}
        assert time.monotonic() < self._deadline, logs
        if self.strikes and self.strikes[0][0]():
            self.strikes.pop(0)[1]()
        time.sleep(seconds)


def has_epoch(job: Job, epoch: int = 2) -> bool:
    return epoch <= job.epoch <= EPOCHS - 2


def family(attempt: Attempt) -> list[psutil.Process]:
    started = attempt.about("started")
    return list(orphans.marked(f"{started['host']}:{attempt.path('')}")) if started else []


@pytest.mark.parametrize("victim", ["raylet", "worker", "command", "Ray's worker"])
def test_a_run_goes_on_elsewhere_with_the_same_bits(
    victim: str, code: Checkout, expected: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    job, other = job_of(code, 0, gpu_share=0.5), job_of(code, 1, gpu_share=0.5)
    first = Attempt(job.folder, 1)
    remains: list[int] = []
    with cluster_of(nodes=1) as cluster:

        def strike() -> None:
            assert len(family(first)) >= 3  # with environments
            worker = psutil.Process((first.about("started") or {})["pid"])
            remains.append(len(family(first)))
            if victim == "raylet":
                node = cluster.list_all_nodes()[-1]
                cluster.add_node(num_cpus=4, num_gpus=2)
                cluster.remove_node(node, allow_graceful=False)
            elif victim == "command":
                min(family(first), key=lambda process: process.create_time()).kill()
            else:
                (worker if victim == "worker" else worker.parent() or worker).kill()

        watcher = Watcher(RayEngine(cluster.address), [job, other])
        watcher.strikes.append((lambda: has_epoch(job), strike))
        outcome = watcher.run()
    assert remains and not watcher.strikes
    assert not outcome.failed and sorted(outcome.finished) == sorted([job.name, other.name])
    assert sorted(each.run.seed for each in watcher.collected) == [0, 1]
    attempts = attempts_at(job.folder)
    assert len(attempts) == 2 and (attempts[1].about("started") or {})["epoch"] >= 2
    assert not any(family(attempt) for attempt in attempts)
    assert weights(job.results) == expected
    assert "goes on after epoch" in capfd.readouterr().out


LAUNCH = """
import sys
from pathlib import Path
from pipeline.launch.attempts import Job
from pipeline.launch.engines.ray import RayEngine
from pipeline.launch.launcher import Launcher, Options
jobs = [Job.read(Path(folder)) for folder in sys.argv[2:]]
Launcher(RayEngine(sys.argv[1]), lambda _: None, Options(poll_seconds=0.2)).run(jobs)
"""


def test_the_next_launcher_goes_on_where_one_was_killed(code: Checkout, expected: bytes) -> None:
    jobs = [job_of(code, seed, gpu_share=1.0) for seed in range(3)]  # one of them waits
    for job in jobs:
        job.write()
    with cluster_of(nodes=1) as cluster:
        command = [sys.executable, "-c", LAUNCH, cluster.address, *(str(job.folder) for job in jobs)]
        first = subprocess.Popen(command, cwd=code.folder)
        deadline = time.monotonic() + SECONDS
        while not has_epoch(jobs[0]):
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.1)
        first.kill()
        first.wait()
        watcher = Watcher(RayEngine(cluster.address), jobs)
        outcome = watcher.run()
    assert sorted(name[-1] for name in outcome.finished) == ["0", "1", "2"]
    assert sorted(job.run.seed for job in watcher.collected) == [0, 1, 2]
    assert weights(jobs[0].results) == expected
    for job in jobs:
        statuses = [attempt.status for attempt in attempts_at(job.folder)]
        assert statuses.count(0) == 1 and cli.STATUS_BUSY not in statuses  # never two at a time
        epochs = [json.loads(line) for line in (job.results / "metrics.jsonl").read_text().splitlines()]
        steps = [record["step"] for record in epochs if record["kind"] == "metrics"]
        assert steps == [*range(1, EPOCHS + 1), EPOCHS]


def test_a_run_that_diverges_stops_nobody(code: Checkout) -> None:
    diverging = job_of(code, 0, script=f"{DIVERGE}{TRAIN}")
    jobs = [diverging, job_of(code, 1)]
    watcher = Watcher(RayEngine(cpus=2), jobs)
    outcome = watcher.run()
    assert outcome.finished == [jobs[1].name] and list(outcome.failed) == [diverging.name]
    assert "diverged" in outcome.failed[diverging.name] and len(attempts_at(diverging.folder)) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    with small_disk_at(tmp_path / "disk", "100m") as folder:
        yield folder


def test_a_full_scratch_disk_costs_no_epoch(
    code: Checkout, expected: bytes, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails with a sentence that says so; once there is room, the next launch finishes it."""
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(small_disk / "scratch"))
    job = job_of(code, 0)
    watcher = Watcher(RayEngine(cpus=1), [job])

    def fill() -> None:
        with (small_disk / "filling").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))

    watcher.strikes.append((lambda: has_epoch(job), fill))
    outcome = watcher.run()
    assert list(outcome.failed) == [job.name] and "No space left" in outcome.failed[job.name]
    (small_disk / "filling").unlink()
    assert job.epoch >= 2 and not job.results.exists()
    watcher = Watcher(RayEngine(cpus=1), [job])
    assert watcher.run().finished == [job.name]
    assert weights(job.results) == expected


def test_a_node_with_its_own_files_sends_the_run_back(
    code: Checkout, expected: bytes, scratch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a mount namespace in which neither the scratch folder nor the code of the launcher can be seen."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("hiding folders from a node needs a mount namespace, which only root may make")
    scratch.mkdir()
    own = scratch.parent / "of the node"
    own.mkdir()
    hide = "".join(f"mount -t tmpfs none '{folder}' && " for folder in (scratch, code.folder))
    job = job_of(code, 0)
    with cluster_of(nodes=0) as cluster:
        command = f"{hide} exec ray start --block --address={cluster.address} --num-cpus=1 --num-gpus=0"
        environment = os.environ | {"TOKENWORLDS_SCRATCH": str(own), "PATH": code.environment["PATH"]}
        node = subprocess.Popen(["unshare", "--mount", "sh", "-c", command], env=environment, cwd="/")
        try:
            _wait_for_cores(cluster)
            watcher = Watcher(RayEngine(cluster.address), [job])
            outcome = watcher.run()
        finally:
            node.terminate()
            node.wait(60)
    assert outcome.finished == [job.name] and [job.run for job in watcher.collected] == [job.run]
    assert weights(job.results) == expected
    assert attempts_at(job.folder)[-1].status == 0 and "epoch" in attempts_at(job.folder)[-1].path("log").read_text()
    assert "there an interrupted run begins anew" in capfd.readouterr().out


def _wait_for_cores(cluster: Any) -> None:
    import ray

    ray.init(cluster.address, log_to_driver=False)
    deadline = time.monotonic() + SECONDS
    while not ray.cluster_resources().get("CPU"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ray.shutdown()


def test_what_fits_nowhere_is_refused(code: Checkout) -> None:
    engine = RayEngine(cpus=1)
    try:
        with pytest.raises(UserError, match="a run needs 1 core and 1 of a GPU, which no node has: Ray has 1 node"):
            engine.check([job_of(code, 0, gpu_share=1.0)])
    finally:
        engine.close()
