"""A real `dvc repro`: training on the emulator, figures, report; twice; killed and resumed; as an experiment."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Checkout
from tests.pipeline.support import choose, edit_yaml, shrink

RUN = Path("results/runs/iris/atari/Pong/0")
STAGE = "pipeline/iris/dvc.yaml:atari@Pong-0"
LIMIT = 300  # seconds that a tiny run may take on a busy machine


def prepare(checkout: Checkout, epochs: int = 2) -> Checkout:
    """One game, one seed, a run of seconds; few bootstrap repetitions."""
    choose(checkout.folder, "Pong")
    shrink(checkout.folder, epochs)
    options = {"repetitions_aggregates": 50, "repetitions_profiles": 50, "repetitions_improvement": 50}
    edit_yaml(checkout.folder / "analysis" / "params.yaml", options)
    checkout.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{checkout.folder / 'mlflow.db'}"
    checkout.commit()
    return checkout


@pytest.fixture(scope="module")
def reproduced(make_checkout: Callable[[], Checkout]) -> Checkout:
    checkout = prepare(make_checkout())
    checkout.dvc("repro")
    return checkout


def test_repro_makes_run_scores_tables_figures_and_report(reproduced: Checkout) -> None:
    run = reproduced.folder / RUN
    for name in (
        "config.yaml",
        "scores.json",
        "evaluations.csv",
        "metrics.jsonl",
        "agent.safetensors",
        "environment.json",
    ):
        assert (run / name).stat().st_size > 0
    results = reproduced.folder / "results"
    scores = json.loads((results / "scores/iris/atari/Pong/0.json").read_text())
    assert scores == json.loads((run / "scores.json").read_text())
    assert scores["run"]["suite"] == "test" and len(scores["returns"]) == 1
    rows = list(csv.DictReader((results / "collected" / "scores.csv").read_text().splitlines()))
    assert [(row["method"], row["task"], row["seed"]) for row in rows] == [("iris", "atari/Pong", "0")]
    assert float(rows[0]["score"]) == scores["score"]
    assert list((results / "tables").iterdir()) and list((results / "figures").iterdir())
    assert "<html" in (results / "report" / "index.html").read_text()


def test_repro_leaves_no_scratch_and_nothing_for_git_but_its_record(reproduced: Checkout) -> None:
    left = [path for path in (reproduced.folder / "scratch").rglob("*") if path.is_file() and path.name != "lock"]
    assert left == []
    changed = reproduced.run("git", "status", "--porcelain", "--untracked-files=all").stdout.split()[1::2]
    assert all(name.endswith("dvc.lock") for name in changed), changed


def test_run_is_in_the_tracking_database(reproduced: Checkout) -> None:
    with closing(sqlite3.connect(reproduced.folder / "mlflow.db")) as database:
        assert database.execute("select name, status from runs").fetchall() == [("iris/atari/Pong/0", "FINISHED")]
        tags = dict(database.execute("select key, value from tags where key in ('method', 'task', 'suite')").fetchall())
        assert tags == {"method": "iris", "task": "atari/Pong", "suite": "test"}
        assert database.execute("select count(*) from metrics").fetchone()[0] > 10


def test_second_repro_runs_nothing(reproduced: Checkout) -> None:
    assert "Running stage" not in reproduced.dvc("repro", "--all-pipelines").stdout
    assert json.loads(reproduced.dvc("status", "--json").stdout) == {}


def test_evaluation_as_a_command_finds_the_published_score_again(reproduced: Checkout, tmp_path: Path) -> None:
    out = tmp_path / "again.json"
    reproduced.run(sys.executable, "-m", "pipeline.evaluate", str(RUN), "--out", str(out))
    recorded = json.loads((reproduced.folder / RUN / "scores.json").read_text())
    again = json.loads(out.read_text())
    assert [again[key] for key in ("returns", "lengths", "score")] == [
        recorded[key] for key in ("returns", "lengths", "score")
    ]


def test_evaluation_of_damaged_weights_is_refused(reproduced: Checkout, tmp_path: Path) -> None:
    for name in ("config.yaml", "agent.safetensors"):
        (tmp_path / name).write_bytes((reproduced.folder / RUN / name).read_bytes()[:50_000])
    done = reproduced.run(sys.executable, "-m", "pipeline.evaluate", str(tmp_path), status=2)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "agent.safetensors is damaged" in done.stderr


def test_evaluation_of_something_else_is_refused(reproduced: Checkout) -> None:
    done = reproduced.run(sys.executable, "-m", "pipeline.evaluate", "results", status=2)
    assert done.stderr.startswith("error: results is no finished run: it has no config.yaml and no agent.safetensors")


def test_an_option_of_the_analysis_redraws_and_trains_nothing(reproduced: Checkout) -> None:
    edit_yaml(reproduced.folder / "analysis" / "params.yaml", {"repetitions_profiles": 60})
    plan = reproduced.dvc("repro", "--dry").stdout
    reproduced.run("git", "checkout", "--quiet", "analysis/params.yaml")
    assert "make_figures.py" in plan and "pipeline.train" not in plan


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.backbone=retnett", "error: configuration: model.backbone: Invalid value 'retnett', expected one of ["),
        ("model.backbon=transformer", "Key 'backbon' is not in struct"),
    ],
)
def test_mistaken_experiment_is_refused(reproduced: Checkout, setting: str, message: str) -> None:
    reproduced.commit()
    done = reproduced.dvc("exp", "run", "-S", setting, STAGE, status=None)
    reproduced.run("git", "checkout", "--quiet", ".")
    reproduced.dvc("checkout", "--quiet")
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert (reproduced.folder / RUN / "agent.safetensors").exists()  # restored from DVC's cache


def test_experiment_with_a_model_switch_trains_again(reproduced: Checkout) -> None:
    reproduced.commit()
    reproduced.dvc("exp", "run", "-S", "model.backbone=transformer", "--name", "ablation", STAGE)
    shown = reproduced.dvc("exp", "show", "--csv", "--no-pager").stdout
    reproduced.run("git", "checkout", "--quiet", ".")
    reproduced.dvc("checkout", "--quiet")
    assert "ablation" in shown and "transformer" in shown


@pytest.fixture(scope="module")
def long(make_checkout: Callable[[], Checkout]) -> Checkout:
    """Long enough to be stopped between two checkpoints."""
    return prepare(make_checkout(), epochs=6)


@pytest.fixture(scope="module")
def uninterrupted(long: Checkout) -> bytes:
    """The weights of the same run without interruption."""
    out = long.folder / "scratch" / "uninterrupted"
    long.train("method=iris", "task=atari/Pong", "seed=0", "scale=smoke", f"out={out}", "runtime.tracking=false",
               f"runtime.scratch={long.folder / 'scratch' / 'other'}")  # fmt: skip
    return (out / "agent.safetensors").read_bytes()


def stop_after_first_checkpoint(
    checkout: Checkout, command: tuple[str, ...], number: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Start a command and signal its whole process group as soon as a checkpoint is there."""
    running = checkout.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + LIMIT
    while not list((checkout.folder / "scratch" / "iris").glob("**/epoch_*.json")):
        assert running.poll() is None and time.monotonic() < end, running.communicate()
        time.sleep(0.02)
    os.killpg(running.pid, number)
    output, errors = running.communicate(timeout=LIMIT)
    assert not (checkout.folder / RUN).exists(), "the run was over before it could be stopped"
    return subprocess.CompletedProcess(command, running.returncode, output, errors)


def test_killed_repro_resumes_and_ends_with_the_same_bits(long: Checkout, uninterrupted: bytes) -> None:
    command = (sys.executable, "-m", "dvc", "repro", STAGE)
    stop_after_first_checkpoint(long, command, signal.SIGKILL)
    again = long.run(*command)
    assert "resuming after epoch" in again.stdout
    assert (long.folder / RUN / "agent.safetensors").read_bytes() == uninterrupted


def test_terminated_training_says_how_to_go_on(long: Checkout, uninterrupted: bytes) -> None:
    """SIGTERM is what clusters send before the time is over."""
    long.run("rm", "-rf", str(RUN), "results/scores")
    command = (sys.executable, "-m", "pipeline.train", "method=iris", "task=atari/Pong", "seed=0", "scale=smoke")
    stopped = stop_after_first_checkpoint(long, command, signal.SIGTERM)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "the same command resumes" in stopped.stderr and "Traceback" not in stopped.stderr
    assert "resuming after epoch" in long.run(*command).stdout
    assert (long.folder / RUN / "agent.safetensors").read_bytes() == uninterrupted
