"""`make repro` where runs fail: what is made all the same, named and returned. In place of DVC a program that acts like
it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest

from pipeline import failures, repro
from pipeline.plan import Plan
from tests.conftest import PROJECT
from tokenworlds.cli import Terminated
from tokenworlds.config import load
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import scores_folder

GOOD, BAD, IDLE = (RunId(method, "", "atari/Pong", 0, "smoke") for method in ("rem", "iris", "m3"))
TRAIN = ("repro", "--all-pipelines", "--keep-going")
FLOOR = ("repro", "--single-item", *repro.LAST_FLOOR)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without runs, whose suite asks for three."""
    for module in ("pipeline.repro.project_root", "tokenworlds.runs.layout.project_root"):
        monkeypatch.setattr(module, lambda: tmp_path)
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(repro, "active_plan", lambda: Plan("test", "smoke", (GOOD, BAD, IDLE)))
    return tmp_path


def finish(*runs: RunId) -> None:
    for run in runs:
        path = scores_folder() / f"{run.name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"config_hash": "1", "run": {"scale": run.scale}}))


def train(run: RunId, end: BaseException | None, *overrides: str) -> None:
    """As a stage does; ``end`` stops it."""
    with failures.recorded(load([*run.overrides(), *overrides])):
        if end:
            raise end


def fail(run: RunId, end: BaseException, *overrides: str) -> None:
    with pytest.raises(type(end)):
        train(run, end, *overrides)


Calls = list[tuple[str, ...]]


class Called(Protocol):
    def __call__(self, statuses: dict[tuple[str, ...], int], *, only_report: bool = ...) -> tuple[int, Calls]: ...


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch) -> Called:
    """Run the command with these exit statuses of DVC; return its own and what was called."""

    def command(statuses: dict[tuple[str, ...], int], *, only_report: bool = False) -> tuple[int, Calls]:
        calls: Calls = []

        def dvc(*arguments: str) -> int:
            calls.append(arguments)
            return statuses.get(arguments, 0)

        def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
            calls.append(tuple(command[2:3] if command[2] != "dvc" else command[3:4]))
            return subprocess.CompletedProcess(command, statuses.get(("dag",), 0) if "dag" in command else 1)

        monkeypatch.setattr(repro, "dvc", dvc)
        monkeypatch.setattr(subprocess, "run", run)
        return repro.reproduce(only_report), calls

    return command


SENT = [("pipeline.publish",), ("pipeline.artifacts",)]


def test_all_done_is_a_success(
    project: Path, reproduce: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    finish(GOOD, BAD, IDLE)
    assert reproduce({}) == (0, [TRAIN, *SENT])
    printed = capsys.readouterr()
    assert "index.html" in printed.out and printed.err == ""
    assert "MLflow    http://***@127.0.0.1:9 (look at it: make ui)" in printed.out


def test_a_failed_run_is_named_and_the_report_is_made(
    project: Path, reproduce: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(GOOD)
    fail(BAD, UserError("training has diverged."))
    assert reproduce({TRAIN: 255}) == (1, [TRAIN, ("dag",), FLOOR, *SENT])
    assert failures.kept(project / "results") == {BAD.name: "training has diverged."}
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "error: 2 of 3 runs of suite test have no result."
    assert lines == [f"  {BAD.name} failed: training has diverged.", f"  {IDLE.name} is not trained yet"]
    assert reproduce({}, only_report=True) == (0, [FLOOR, *SENT])
    assert f"{BAD.name} failed" in capsys.readouterr().err
    train(BAD, None)
    finish(BAD, IDLE)
    assert reproduce({}) == (0, [TRAIN, *SENT])
    assert not list(project.rglob("failures.json")) and not list(project.glob("scratch/**/*.json"))


@pytest.mark.parametrize(
    ("done", "statuses", "expected"),
    [
        ((GOOD,), {TRAIN: 255, ("dag",): 255}, (255, [TRAIN, ("dag",)])),  # a mistake in dvc.yaml
        ((GOOD, BAD, IDLE), {TRAIN: 255}, (255, [TRAIN])),  # of the last floor
        ((GOOD,), {TRAIN: 255, FLOOR: 254}, (254, [TRAIN, ("dag",), FLOOR])),
        ((), {TRAIN: 255}, (1, [TRAIN, ("dag",)])),  # nothing to draw
    ],
)
def test_what_no_run_is_to_blame_for_stays_an_error_of_dvc(
    done: tuple[RunId, ...],
    statuses: dict[tuple[str, ...], int],
    expected: tuple[int, list[tuple[str, ...]]],
    project: Path,
    reproduce: Called,
) -> None:
    finish(*done)
    assert reproduce(statuses) == expected


@pytest.mark.parametrize(
    ("end", "overrides", "reason"),
    [
        (UserError("training has diverged."), (), "training has diverged."),
        (ValueError("a fault\nof two lines"), (), "ValueError: a fault"),
        (KeyboardInterrupt(), (), None),
        (Terminated(), (), None),
        (UserError("of another configuration"), ("training.epochs=3",), None),
        (UserError("of a run in another folder"), ("out=elsewhere",), None),
    ],
)
def test_the_reason_of_a_failure_is_known_of_the_configuration_of_today(
    end: BaseException, overrides: tuple[str, ...], reason: str | None, project: Path
) -> None:
    fail(BAD, end, *overrides)
    assert failures.absent(Plan("test", "smoke", (BAD,))) == {BAD.name: reason}


def test_a_killed_training_has_a_reason_too(project: Path) -> None:
    with failures.recorded(load(BAD.overrides())):
        assert failures.absent(Plan("test", "smoke", (BAD,))) == {BAD.name: failures.UNKNOWN}


# Like DVC it ignores Ctrl-C while a stage runs, and goes on with the next one whatever its status.
DVC = """
import signal, subprocess, sys, pathlib
for number in range(3):
    stage = subprocess.Popen([sys.executable, "-c", STAGE, str(number)])
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    stage.wait()
    signal.signal(signal.SIGINT, old)
"""
STAGE = """
import pathlib, sys, time
from tokenworlds.cli import raise_on_sigterm
raise_on_sigterm()
try:
    pathlib.Path("began" + sys.argv[1]).touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    pathlib.Path("ended" + sys.argv[1]).touch()
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "whole_group", "status"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, True, 143), (signal.SIGTERM, False, 143)],
)
def test_an_interruption_ends_dvc_and_its_stage(
    number: signal.Signals, whole_group: bool, status: int, tmp_path: Path
) -> None:
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "__init__.py").touch()
    (tmp_path / "dvc" / "__main__.py").write_text(f"STAGE = {STAGE!r}\n{DVC}")
    program = "import sys; from pipeline import repro; sys.exit(repro.exit_status(lambda: repro.dvc('repro')))"
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # in the background it is ignored
    )
    program = program.replace("sys.exit", f"{heeding}; repro.raise_on_sigterm(); sys.exit", 1)
    path = os.pathsep.join([str(tmp_path), str(PROJECT / "src"), str(PROJECT)])
    running = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, start_new_session=True
    )
    end = time.monotonic() + 60
    while not (tmp_path / "began0").exists():
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    (os.killpg if whole_group else os.kill)(running.pid, number)
    assert running.wait(30) == status
    limit = time.monotonic() + 5  # of a group that is terminated nobody is left to wait for the stage
    while not (tmp_path / "ended0").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < limit:
            os.killpg(running.pid, 0)
            time.sleep(0.02)
    assert not (tmp_path / "began1").exists()
