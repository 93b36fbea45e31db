"""Any Gymnasium environment through DVC: a suite of one's own, stages, scores, figures; killed, resumed, evaluated."""

import csv
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Checkout
from tests.pipeline.support import quicken
from tests.pipeline.test_repro import stop_after_first_checkpoint

pytestmark = pytest.mark.integration

SPOT, BAG = (f"gym/tests.envs.worlds:{name}-v0" for name in ("Spot", "Bag"))
TASKS = {
    "m3": ("gym/CartPole-v1", "gym/Pendulum-v1", SPOT, BAG),
    "iris": (SPOT,),
    "rem": (SPOT,),
    "delta_iris": (SPOT,),
}
RUNS = [(method, task) for method in sorted(TASKS) for task in sorted(TASKS[method])]
SUITE = "description: Any environment.\nscale: smoke\n" + "".join(
    f"{method}: {{any: {{tasks: {json.dumps(tasks)}, seeds: [0]}}}}\n" for method, tasks in TASKS.items()
)
every_run = pytest.mark.parametrize(("method", "task"), RUNS)


def prepare(checkout: Checkout, epochs: int) -> Checkout:
    """A suite of the tasks, in runs of seconds."""
    (checkout.folder / "pipeline/suites/any.yaml").write_text(SUITE)
    checkout.run(sys.executable, "-m", "pipeline.suite", "any")
    return quicken(checkout, epochs)


@pytest.fixture(scope="module")
def reproduced(make_checkout: Callable[[], Checkout]) -> Checkout:
    checkout = prepare(make_checkout(), epochs=2)
    checkout.dvc("repro")
    return checkout


def test_every_run_is_collected_and_shown(reproduced: Checkout) -> None:
    results = reproduced.folder / "results"
    rows = list(csv.DictReader((results / "collected" / "scores.csv").read_text().splitlines()))
    assert [(row["method"], row["task"]) for row in rows] == RUNS
    assert all(row["overrides"] == "{}" for row in rows)
    page = (results / "report" / "index.html").read_text()
    assert "CartPole-v1" in page and "tests.envs.worlds:Bag-v0" in page
    assert json.loads(reproduced.dvc("status", "--json").stdout) == {}


@every_run
def test_a_run_is_a_stage_under_its_whole_name(reproduced: Checkout, method: str, task: str) -> None:
    again = reproduced.dvc("repro", f"pipeline/{method}/dvc.yaml:any@{task}-0").stdout
    assert "didn't change, skipping" in again and "Running stage" not in again
    scores = json.loads((reproduced.folder / f"results/scores/{method}/{task}/0.json").read_text())
    assert scores["run"]["task"] == task and scores["run"]["suite"] == "any"


@every_run
def test_evaluation_as_a_command_finds_the_score_again(
    reproduced: Checkout, method: str, task: str, tmp_path: Path
) -> None:
    out, run = tmp_path / "again.json", f"results/runs/{method}/{task}/0"
    reproduced.run(sys.executable, "-m", "pipeline.evaluate", run, "--out", str(out))
    recorded = json.loads((reproduced.folder / run / "scores.json").read_text())
    assert json.loads(out.read_text())["returns"] == recorded["returns"]


def test_the_suite_lacks_nothing_and_its_hours_are_known(reproduced: Checkout) -> None:
    shown = reproduced.run(sys.executable, "-m", "pipeline.preflight").stdout
    assert f"{len(RUNS)} runs at smoke scale, 0 to be trained" in shown
    assert "m3/gym/CartPole-v1" in shown and "hours unknown" not in shown


def test_a_killed_run_resumes_and_ends_with_the_same_bits(make_checkout: Callable[[], Checkout]) -> None:
    checkout = prepare(make_checkout(), epochs=6)
    out, run = checkout.folder / "scratch" / "uninterrupted", Path("results/runs/m3") / BAG / "0"
    checkout.train("method=m3", f"task={BAG}", "seed=0", "scale=smoke", f"out={out}", "runtime.tracking=false",
                   f"runtime.scratch={checkout.folder / 'scratch' / 'other'}")  # fmt: skip
    command = (sys.executable, "-m", "dvc", "repro", f"pipeline/m3/dvc.yaml:any@{BAG}-0")
    stop_after_first_checkpoint(checkout, command, signal.SIGKILL, run)
    assert "resuming after epoch" in checkout.run(*command).stdout
    weights = "agent.safetensors"
    assert (checkout.folder / run / weights).read_bytes() == (out / weights).read_bytes()
