"""The command: its options, two at once, stopping runs, the end; and a suite that is trained through Ray."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import preflight
from pipeline.launch import __main__ as command
from pipeline.launch.attempts import CANCELLED, Attempt, Job
from pipeline.launch.collector import Collector
from pipeline.launch.engines.slurm import SlurmEngine
from pipeline.launch.jobs import Share
from pipeline.launch.launcher import Outcome
from pipeline.launch.missing import Missing
from pipeline.plan import Plan
from tests.conftest import Checkout
from tests.launch.conftest import run_of
from tests.pipeline.support import choose, edit_yaml, quicken
from tokenworlds.config import load
from tokenworlds.errors import UserError
from tokenworlds.files import sha256
from tokenworlds.locks import locked
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import runs_folder

LIMIT = 400  # seconds that tiny runs may take on a busy machine
EPOCHS = 24  # of tiny runs: enough to find one at work after its second epoch on any machine


def test_runs_wait_for_their_tokenizers_and_settings_are_read_once_a_variant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A suite has thousands of runs, and settings take a thirtieth of a second."""
    variants = ("", "tokenizer-random-policy")
    runs = [RunId("iris", name, "minigrid/Empty-5x5", seed, "smoke") for name in variants for seed in (9998, 9999)]
    calls: list[list[str]] = []
    monkeypatch.setattr(command, "load", lambda settings: calls.append(settings) or load(settings))
    found, _ = command.ready([Missing(run, "stage", tuple(run.overrides()), False) for run in runs])
    assert [each.run for each in found] == runs[:2] and len(calls) == len(variants)
    assert f"2 runs wait, such as {runs[2].name} for results/tokenizers/random_policy" in capsys.readouterr().out


def test_runs_wait_for_stages_that_are_stale(capsys: pytest.CaptureFixture[str]) -> None:
    """Another run of the same launch, or one that was not chosen, which has to be made by hand."""
    base, other, variant = run_of("Pong"), run_of("Krull"), run_of("Pong", variant="tokenizer-same-game")
    stage, unchosen = (f"pipeline/iris/dvc.yaml:atari@{game}-0" for game in ("Pong", "Qbert"))
    found = [
        Missing(base, stage, tuple(base.overrides()), False),
        Missing(variant, "variant", (), False, stage),
        Missing(other, "other", (), False, unchosen),
    ]
    assert command.ready(found) == (found[:1], [variant])
    assert capsys.readouterr().out.splitlines() == [
        f"1 run waits, such as {variant.name} for {base.name}: launched when that and all others have ended.",
        f"1 run waits, such as {other.name} for what dvc repro --single-item {unchosen} makes: do that, then launch "
        "again.",
    ]
    assert command.ready(found[1:]) == ([], [])
    assert f"2 runs wait, such as {variant.name} for what dvc repro --single-item {stage}" in capsys.readouterr().out


@pytest.mark.parametrize("is_trained", [True, False])
def test_runs_follow_those_that_they_begin_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_trained: bool
) -> None:
    """What begins with the third is launched last, without being asked for again; nothing is, after a failure."""
    runs = [run_of("Pong", variant=name) for name in ("", "tokenizer-same-game", "aligned")]
    launched: list[list[RunId]] = []

    def train(plan: Plan, chosen: list[RunId], options: object) -> tuple[Outcome, Collector]:
        launched.append(chosen)
        collector = Collector()
        collector.registered = [chosen[0].name] if is_trained else []
        return Outcome(failed={} if is_trained else {chosen[0].name: "diverged"}, waiting=chosen[1:]), collector

    monkeypatch.setattr(command, "_launch", train)
    status = command.launch(Plan("test", "smoke", tuple(runs)), command.parse(["--cpus", "1"]))
    assert launched == ([runs, runs[1:], runs[2:]] if is_trained else [runs]) and status == (0 if is_trained else 2)
    assert capsys.readouterr().out.count("1 registered") == (3 if is_trained else 0)


def test_what_would_run_is_shown_without_the_runs_that_wait_for_a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, variant, other = (run_of("Pong", variant=name) for name in ("", "tokenizer-same-game", "aligned"))
    tokenizer = Missing(variant, "tokenizer", (), False, tokenizer="results/tokenizers/any/iris/atari/Pong/0")
    found = [
        tokenizer,
        Missing(base, "base", tuple(base.overrides()), False),
        Missing(variant, "variant", (), False, "base"),
        Missing(other, "other", (), False, "elsewhere"),
    ]
    monkeypatch.setattr(command, "renew_inputs", lambda methods: None)
    monkeypatch.setattr(command, "find_missing", lambda runs, restore: found)
    plan = Plan("test", "smoke", (base, variant, other))
    assert command.show(plan, command.parse(["--cpus", "1", "--dry"])) == 0
    shown = capsys.readouterr().out
    assert "3 runs chosen of 3, 3 missing or stale; 1 tokenizer to pretrain" in shown
    assert f"1 run waits, such as {variant.name} for {base.name}" in shown
    kinds = [line.split()[0] for line in shown.splitlines() if " 1 run " in line[20:]]
    assert kinds == ["iris/atari", "iris+tokenizer-same-game/atari"]


@pytest.mark.parametrize(
    ("line", "gpus", "share", "text"),
    [
        ("", 8, Share(1, 4), "on this machine, each with a GPU and 4 cores, 8 at a time"),
        (
            "--gpus 2 --per-gpu 4",
            8,
            Share(0.25, 4),
            "on this machine, each with 0.25 of a GPU and 4 cores, 8 at a time",
        ),
        (
            "--gpus 8 --per-gpu 8",
            8,
            Share(0.125, 1),
            "on this machine, each with 0.12 of a GPU and 1 core, 64 at a time",
        ),
        ("", 0, Share(0, 1), "on this machine, each with no GPU and 1 core, 64 at a time"),
        ("--cpus 4", 0, Share(0, 1), "on this machine, each with no GPU and 1 core, 4 at a time"),
        ("--cores 16 --gpus 0", 8, Share(0, 16), "on this machine, each with no GPU and 16 cores, 4 at a time"),
        ("--address auto --per-gpu 2", 0, Share(0.5, 4), "on Ray, each with 0.5 of a GPU and 4 cores"),
        ("--on slurm --cores 6", 0, Share(1, 6), "on Slurm, each with a GPU and 6 cores"),
        ("--on slurm --gpus 0 --partition cpu", 8, Share(0, 1), "on Slurm, each with no GPU and 1 core"),
    ],
)
def test_what_a_run_gets(monkeypatch: pytest.MonkeyPatch, line: str, gpus: int, share: Share, text: str) -> None:
    monkeypatch.setattr(preflight, "gpus", lambda: gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    place = command.place_of(command.parse(line.split()))
    assert (place.share, str(place)) == (share, text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--partition gpu", "--partition is an option of Slurm: say --on slurm"),
        ("--max-jobs 3 --on ray", "--max-jobs is an option of Slurm"),
        ("--on slurm --per-gpu 2", "--address, --per-gpu and --cpus are not for Slurm"),
        ("--gpus 3", "--gpus 3: this machine has 2; choose fewer"),
        ("--gpus 0 --per-gpu 2", "--per-gpu needs GPUs"),
        ("--gpus -1", "--gpus is -1; it must be at least 0"),
        ("--cpus 2", "--cpus is for runs without a GPU: say --gpus 0"),
        ("--address auto --gpus 2", "--gpus and --cpus count those of this machine: leave them out"),
        ("--address auto --cpus 2", "--gpus and --cpus count those of this machine: leave them out"),
    ],
)
def test_options_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch, line: str, message: str) -> None:
    monkeypatch.setattr(preflight, "gpus", lambda: 2)
    with pytest.raises(UserError, match=message):
        command.place_of(command.parse(line.split()))


def job_of(game: str) -> Job:
    job = Job(run_of(game), "stage", ("true",), "code", "abc", {}, "def", "scratch", 0, 1)
    job.write()
    return job


def test_two_launchers_at_once(project: Path) -> None:
    with (
        locked(project.parent / "scratch/launch/lock", "nobody"),
        pytest.raises(
            UserError, match=r"another python -m pipeline.launch is at work.* \(process \d+ on .*wait for it or"
        ),
    ):
        command.main(["--cpus", "1"])


def test_runs_are_asked_to_stop(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, waiting, failed, new = map(job_of, ("Pong", "Krull", "Boxing", "Qbert"))
    Attempt(running.folder, 1).record("submitted", id="7", engine="ray")
    Attempt(waiting.folder, 1).record("submitted", id="8", engine="slurm")
    for what in ("submitted", "ended"):
        Attempt(failed.folder, 1).record(what, status=2)
    cancelled: list[str] = []
    monkeypatch.setattr(SlurmEngine, "cancel", lambda engine, identifier: cancelled.append(identifier))

    def marked() -> list[str]:
        found = [job.run.task for job in (running, waiting, failed, new) if (job.folder / CANCELLED).exists()]
        for job in (running, waiting, failed, new):
            (job.folder / CANCELLED).unlink(missing_ok=True)
        return found

    with pytest.raises(UserError, match=r"--cancel rem/. matches no launched run: known: iris/atari/Boxing/0"):
        command.main(["--cancel", "iris/*", "rem/*"])
    assert not marked()
    command.main(["--cancel", "*/Pong/*"])
    assert marked() == ["atari/Pong"] and not cancelled
    command.main(["--cancel"])
    assert marked() == ["atari/Pong", "atari/Krull"] and cancelled == ["8"]
    with locked(project.parent / "scratch/launch/lock", "nobody"):  # a launcher that may try the others, too
        command.main(["--cancel"])
    assert marked() == ["atari/Pong", "atari/Krull", "atari/Boxing", "atari/Qbert"]


def test_the_end_names_what_has_failed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = Attempt(job_of("Pong").folder, 2)
    attempt.record("ended", status=2)
    collector = Collector()
    collector.registered, collector.refused = ["iris/atari/Qbert/0"], {"iris/atari/Krull/0": "its place is taken."}
    outcome = Outcome(
        [run_of("Qbert").name, run_of("Krull").name],
        {run_of("Pong").name: "training has diverged"},
        [run_of("Boxing").name],
    )
    assert command.report(outcome, collector) == 2
    assert capsys.readouterr().out.splitlines() == [
        "",
        "1 registered with DVC, 1 failed, 1 cancelled",
        f"  iris/atari/Pong/0: training has diverged  {attempt.path('log')}",
        "  iris/atari/Boxing/0: cancelled",
        "  iris/atari/Krull/0: finished, not registered: its place is taken.",
    ]
    assert command.report(Outcome([run_of("Qbert")]), Collector()) == 0


class Recorder:
    """Journals that are sent to MLflow."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def watch(self, path: Path, run_name: str, tags: dict[str, str], folder: Path) -> None:
        assert folder == runs_folder() / run_name and tags["suite"] == "test" and path.name == "metrics.jsonl"
        self.names.append(run_name)


def test_what_had_finished_without_a_launcher_is_sent_to_mlflow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, journals, collected = job_of("Pong"), Recorder(), list[Job]()
    monkeypatch.setattr(command, "renew_inputs", lambda methods: None)
    monkeypatch.setattr(command, "finished", lambda: [job, job_of("Krull")])
    monkeypatch.setattr(command, "is_current", lambda each: each == job)
    monkeypatch.setattr(Collector, "__call__", lambda _, jobs: collected.extend(jobs))
    options = command.parse(["--cpus", "1"])
    plan = Plan("test", "smoke", ())
    assert command._train(plan, [], command.place_of(options), options, Collector(), journals) == Outcome()  # type: ignore[arg-type]
    assert journals.names == [job.run.name] and collected == [job]


@pytest.fixture(scope="module")
def lab(make_checkout: Callable[[], Checkout]) -> Checkout:
    """Runs of seconds of IRIS on two games, and no last floor but the collected scores."""
    checkout = make_checkout()
    path = checkout.folder / "pipeline/repro.py"
    text = path.read_text()
    path.write_text(text.replace('"collect", "aggregate", "tables", "figures", "report"', '"collect",'))
    assert path.read_text() != text
    choose(checkout.folder, "Pong", "Breakout")
    return quicken(checkout, EPOCHS)


def launch(checkout: Checkout, *more: str) -> str:
    return checkout.run("python", "-m", "pipeline.launch", "--cpus", "2", *more).stdout


def states(checkout: Checkout) -> dict[str, int]:
    """How many runs are in which state."""
    counts = json.loads(checkout.run("python", "-m", "pipeline.status", "--json").stdout)["counts"]
    assert isinstance(counts, dict)
    return counts


def tracked(checkout: Checkout) -> list[tuple[str, str]]:
    """Name and status of the runs in the suite's experiment."""
    query = "SELECT runs.name, status FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name = ?"
    with closing(sqlite3.connect(checkout.folder / "mlflow.db")) as database:
        return sorted(database.execute(query, ["tokenworlds/test"]))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.integration
def test_a_suite_is_trained_also_by_a_second_launcher_after_the_first_was_killed(lab: Checkout) -> None:
    shown = launch(lab, "--dry")
    assert "2 runs chosen of 2, 2 missing or stale" in shown and not (lab.folder / "scratch/launch").exists()
    (lab.folder / "docs/runs.md").write_text("An edit that is not committed travels.\n")
    first = lab.start("python", "-m", "pipeline.launch", "--cpus", "1")
    wait_until(lambda: first.poll() is not None or len([*lab.folder.glob("scratch/iris/*/*/*/epoch_*.json")]) >= 2)
    assert states(lab) == {"running": 1, "queued": 1}
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: states(lab) == {"interrupted": 1, "waiting": 1})
    (lab.folder / "docs/runs.md").write_text("Another edit, of no code.\n")
    shown = launch(lab)
    assert "2 registered with DVC, 0 failed" in shown and shown.count("goes on after epoch") == 1
    assert "it is watched" not in shown  # nothing can have outlived the first launcher
    assert states(lab) == {"done": 2}
    for game in ("Pong", "Breakout"):
        run = lab.folder / f"results/runs/iris/atari/{game}/0"
        scores = json.loads((run / "scores.json").read_text())
        assert len(scores["sessions"]) <= 2 and scores["budget"]["epochs"] == EPOCHS
        assert (lab.folder / f"results/scores/iris/atari/{game}/0.json").read_bytes() == (
            run / "scores.json"
        ).read_bytes()
    assert tracked(lab) == [("iris/atari/Breakout/0", "FINISHED"), ("iris/atari/Pong/0", "FINISHED")]
    assert not any((lab.folder / "scratch/launch/code").iterdir())
    assert json.loads(lab.dvc("status", "--json", "pipeline/iris/dvc.yaml").stdout) == {}
    assert "Running stage" not in lab.dvc("repro", "pipeline/iris/dvc.yaml").stdout

    attempts = sorted(path.name for path in (lab.folder / "scratch/launch/runs").rglob("*.ended.json"))
    shown = launch(lab)
    assert "0 missing or stale" in shown and "0 registered" in shown
    assert attempts == sorted(path.name for path in (lab.folder / "scratch/launch/runs").rglob("*.ended.json"))


@pytest.mark.integration
def test_a_run_follows_the_one_that_it_begins_with(lab: Checkout) -> None:
    """Such as another run, or a tokenizer, which is pretrained in the same launch."""
    choose(lab.folder, "Krull")
    names = ("tokenizer-same-game", "tokenizer-random-policy")
    groups = {
        group: {"variants": [name], "tasks": ["atari/Krull"], "seeds": [0]}
        for group, name in zip(("same_game_variants", "random_policy_variants"), names)
    }
    edit_yaml(lab.folder / "pipeline/grid.yaml", {"grid": {"iris": groups}})
    shown = launch(lab)
    assert "3 runs chosen of 3, 3 missing or stale; 1 tokenizer to pretrain" in shown
    assert "2 runs wait, such as iris+tokenizer-" in shown
    assert shown.count("2 registered with DVC, 0 failed") == 2
    makers = ("runs/iris/atari/Krull/0", "tokenizers/random_policy/iris/atari/Krull/0")
    for name, maker in zip(names, makers):
        scores = json.loads((lab.folder / f"results/runs/iris+{name}/atari/Krull/0/scores.json").read_text())
        weights = lab.folder / "results" / maker / "agent.safetensors"
        assert scores["initialization"]["tokenizer"]["weights"] == sha256(weights)[:12]
    assert "0 missing or stale" in launch(lab) and not any((lab.folder / "scratch/launch/code").iterdir())
