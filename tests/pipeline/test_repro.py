"""A real `dvc repro` of every method: training on the emulator, figures, report; twice; killed and resumed; as an
experiment."""

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
from safetensors.torch import load_file

from tests.conftest import Checkout
from tests.pipeline.support import choose, edit_yaml, quicken
from tokenworlds.config import known_methods
from tokenworlds.tensor_files import metadata_of

pytestmark = pytest.mark.integration

METHODS = tuple(known_methods())
RUN = Path("results/runs/iris/atari/Pong/0")
STAGE = "pipeline/iris/dvc.yaml:atari@Pong-0"
LIMIT = 300  # seconds that a tiny run may take on a busy machine
every_method = pytest.mark.parametrize("method", METHODS)


def prepare(checkout: Checkout, epochs: int = 2, methods: tuple[str, ...] = ("iris",)) -> Checkout:
    """One game, one seed, runs of seconds; few bootstrap repetitions."""
    choose(checkout.folder, "Pong", methods=methods)
    return quicken(checkout, epochs)


@pytest.fixture(scope="module")
def reproduced(make_checkout: Callable[[], Checkout]) -> Checkout:
    checkout = prepare(make_checkout(), methods=METHODS)
    checkout.dvc("repro")
    return checkout


@every_method
def test_repro_makes_run_and_scores(reproduced: Checkout, method: str) -> None:
    run = reproduced.folder / "results" / "runs" / method / "atari" / "Pong" / "0"
    for name in (
        "config.yaml",
        "scores.json",
        "evaluations.csv",
        "metrics.jsonl",
        "agent.safetensors",
        "environment.json",
    ):
        assert (run / name).stat().st_size > 0
    scores = json.loads((reproduced.folder / f"results/scores/{method}/atari/Pong/0.json").read_text())
    assert scores == json.loads((run / "scores.json").read_text())
    assert scores["run"]["suite"] == "test" and len(scores["returns"]) == 1
    assert "max_episode_steps" in scores["protocol"]
    about = metadata_of(run / "agent.safetensors")
    assert {name: about[name] for name in ("config_hash", "git_revision")}.items() <= scores.items()
    assert (about["method"], about["task"], about["format"]) == (method, "atari/Pong", "tokenworlds-agent/1")


def test_repro_makes_tables_figures_and_report(reproduced: Checkout) -> None:
    results = reproduced.folder / "results"
    rows = list(csv.DictReader((results / "collected" / "scores.csv").read_text().splitlines()))
    identities = [(row["method"], row["task"], row["seed"]) for row in rows]
    assert identities == [(method, "atari/Pong", "0") for method in METHODS]
    for row in rows:
        scores = json.loads((results / f"scores/{row['method']}/atari/Pong/0.json").read_text())
        assert float(row["score"]) == scores["score"]
    assert list((results / "tables").iterdir()) and list((results / "figures").iterdir())
    assert "<html" in (results / "report" / "index.html").read_text()


def test_repro_leaves_no_scratch_and_nothing_for_git_but_its_record(reproduced: Checkout) -> None:
    left = [path for path in (reproduced.folder / "scratch").rglob("*") if path.is_file() and path.name != "lock"]
    assert left == []
    changed = reproduced.run("git", "status", "--porcelain", "--untracked-files=all").stdout.split()[1::2]
    assert all(name.endswith("dvc.lock") or name.startswith("results/inputs/") for name in changed), changed


def test_runs_are_in_the_tracking_database(reproduced: Checkout) -> None:
    with closing(sqlite3.connect(reproduced.folder / "mlflow.db")) as database:
        runs = database.execute("select name, status from runs order by name").fetchall()
        assert runs == [(f"{method}/atari/Pong/0", "FINISHED") for method in METHODS]
        tags = database.execute("select distinct key, value from tags where key in ('method', 'task', 'suite')")
        assert set(tags) == {("task", "atari/Pong"), ("suite", "test"), *(("method", method) for method in METHODS)}
        assert database.execute("select count(*) from metrics").fetchone()[0] > 20


@every_method
def test_a_stage_runs_once(reproduced: Checkout, method: str) -> None:
    """Trained with the others, then asked for alone."""
    again = reproduced.dvc("repro", f"pipeline/{method}/dvc.yaml:atari@Pong-0").stdout
    assert "didn't change, skipping" in again and "Running stage" not in again


def test_second_repro_runs_nothing(reproduced: Checkout) -> None:
    assert "Running stage" not in reproduced.dvc("repro", "--all-pipelines").stdout
    assert json.loads(reproduced.dvc("status", "--json").stdout) == {}


@every_method
def test_evaluation_as_a_command_finds_the_published_score_again(
    reproduced: Checkout, method: str, tmp_path: Path
) -> None:
    out, run = tmp_path / "again.json", f"results/runs/{method}/atari/Pong/0"
    reproduced.run(sys.executable, "-m", "pipeline.evaluate", run, "--out", str(out))
    recorded = json.loads((reproduced.folder / run / "scores.json").read_text())
    again = json.loads(out.read_text())
    assert [again[key] for key in ("returns", "lengths", "score")] == [
        recorded[key] for key in ("returns", "lengths", "score")
    ]


def test_an_option_of_the_analysis_redraws_and_trains_nothing(reproduced: Checkout) -> None:
    edit_yaml(reproduced.folder / "analysis" / "params.yaml", {"repetitions_profiles": 60})
    plan = reproduced.dvc("repro", "--dry").stdout
    reproduced.run("git", "checkout", "--quiet", "analysis/params.yaml")
    assert "make_figures.py" in plan and "pipeline.train" not in plan


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.backbone=retnett",
            "model.backbone: Invalid value 'retnett', expected one of [transformer, retnet, lstm, gru,",
        ),
        ("model.backbon=retnet", "Key 'backbon' is not in struct"),
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
    """The experiment of the README: IRIS on a retentive network, side by side with IRIS in DVC and in MLflow."""
    reproduced.commit()
    scores = reproduced.folder / "results" / "collected" / "scores.csv"
    before = scores.read_text().splitlines()
    command = ("exp", "run", "-S", "model.backbone=retnet", "--name", "retention", "--downstream")
    output = reproduced.dvc(*command, "pipeline/iris/dvc.yaml").stdout
    shown = reproduced.dvc("exp", "show", "--csv", "--no-pager").stdout
    config = (reproduced.folder / RUN / "config.yaml").read_text()
    after = scores.read_text().splitlines()
    reproduced.run("git", "checkout", "--quiet", ".")
    reproduced.dvc("checkout", "--quiet")
    assert f"Running stage '{STAGE}'" in output and not any(
        f"method={other}" in output for other in METHODS if other != "iris"
    )
    assert "backbone: retnet" in config and "decoding: autoregressive" in config
    changed = [row.split(",")[0] for row, old in zip(after, before) if row != old]
    assert changed == ["iris"] and len(after) == len(before) == 1 + len(METHODS)
    rows = {row["Experiment"] or row["rev"]: row for row in csv.DictReader(shown.splitlines())}
    assert rows["retention"]["model.backbone"] == "retnet"
    with closing(sqlite3.connect(reproduced.folder / "mlflow.db")) as database:
        query = """select params.value, runs.status from runs join params using (run_uuid)
                   where runs.name = 'iris/atari/Pong/0' and params.key = 'model.backbone'"""
        assert ("retnet", "FINISHED") in set(database.execute(query))


def test_a_switch_that_a_run_has_already_leaves_it_alone(reproduced: Checkout) -> None:
    """REM runs on a retentive network."""
    reproduced.commit()
    stage = "pipeline/rem/dvc.yaml:atari@Pong-0"
    output = reproduced.dvc("exp", "run", "-S", "model.backbone=retnet", stage).stdout
    reproduced.run("git", "checkout", "--quiet", ".")
    reproduced.dvc("checkout", "--quiet")
    assert "pipeline.inputs rem" in output and "pipeline.train" not in output


def test_an_experiment_in_a_folder_of_its_own_runs_its_own_code(reproduced: Checkout) -> None:
    """Although PYTHONPATH names the workspace's sources. DVC deletes the folder; the run in MLflow and the scratch
    folder are in the workspace."""
    reproduced.commit()
    trainer = reproduced.folder / "src/tokenworlds/training/trainer.py"
    old = trainer.read_text()
    trainer.write_text(
        old.replace("        self.envs.close()", "        print('MARK', flush=True)\n        self.envs.close()")
    )
    here = {key: reproduced.environment.pop(key) for key in ("TOKENWORLDS_SCRATCH", "MLFLOW_TRACKING_URI")}
    output = reproduced.dvc("exp", "run", "--temp", "--name", "changed", STAGE).stdout
    reproduced.environment |= here
    trainer.write_text(old)
    assert output.count("MARK") == 1 and "-dirty" in output
    assert not list((reproduced.folder / ".dvc" / "tmp" / "exps").rglob("mlflow.db"))
    assert (reproduced.folder / "scratch/iris/atari/Pong").is_dir()
    with closing(sqlite3.connect(reproduced.folder / "mlflow.db")) as database:
        query = """select tags.value from runs join tags using (run_uuid)
                   where name = 'iris/atari/Pong/0' and tags.key = 'git_revision' order by start_time"""
        revisions = [value for (value,) in database.execute(query)]
    assert not revisions[0].endswith("-dirty") and revisions[-1].endswith("-dirty")  # reproduced; with the edit


@pytest.fixture(scope="module")
def long(make_checkout: Callable[[], Checkout]) -> Checkout:
    """Long enough to be stopped between two checkpoints."""
    return prepare(make_checkout(), epochs=6)


@pytest.fixture(scope="module")
def uninterrupted(long: Checkout) -> dict[str, bytes]:
    """The weights of the same run without interruption."""
    out = long.folder / "scratch" / "uninterrupted"
    long.train("method=iris", "task=atari/Pong", "seed=0", "scale=smoke", f"out={out}", "runtime.tracking=false",
               f"runtime.scratch={long.folder / 'scratch' / 'other'}")  # fmt: skip
    return weights(out)


def weights(run: Path) -> dict[str, bytes]:
    """Without the header of the file, which names the revision."""
    return {name: values.numpy().tobytes() for name, values in load_file(run / "agent.safetensors").items()}


def stop_after_first_checkpoint(
    checkout: Checkout, command: tuple[str, ...], number: signal.Signals, run: Path = RUN
) -> subprocess.CompletedProcess[str]:
    """Start a command and signal its whole process group as soon as a checkpoint is there."""
    running = checkout.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + LIMIT
    while not list((checkout.folder / "scratch" / run.parts[2]).glob("**/epoch_*.json")):
        assert running.poll() is None and time.monotonic() < end, running.communicate()
        time.sleep(0.02)
    os.killpg(running.pid, number)
    output, errors = running.communicate(timeout=LIMIT)
    assert not (checkout.folder / run).exists(), "the run was over before it could be stopped"
    return subprocess.CompletedProcess(command, running.returncode, output, errors)


def test_killed_repro_resumes_and_ends_with_the_same_bits(long: Checkout, uninterrupted: dict[str, bytes]) -> None:
    command = (sys.executable, "-m", "dvc", "repro", STAGE)
    stop_after_first_checkpoint(long, command, signal.SIGKILL)
    again = long.run(*command)
    assert "resuming after epoch" in again.stdout
    assert weights(long.folder / RUN) == uninterrupted


def test_terminated_training_says_how_to_go_on(long: Checkout, uninterrupted: dict[str, bytes]) -> None:
    """SIGTERM is what clusters send before the time is over."""
    long.run("rm", "-rf", str(RUN), "results/scores")
    command = (sys.executable, "-m", "pipeline.train", "method=iris", "task=atari/Pong", "seed=0", "scale=smoke")
    stopped = stop_after_first_checkpoint(long, command, signal.SIGTERM)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "the same command resumes" in stopped.stderr and "Traceback" not in stopped.stderr
    assert "resuming after epoch" in long.run(*command).stdout
    assert weights(long.folder / RUN) == uninterrupted
