"""Finished runs come into the workspace and are registered; faults between the steps. DVC is a record of calls here."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.launch import collector as module
from pipeline.launch.attempts import Attempt, Job
from pipeline.launch.collector import Collector, finished
from pipeline.launch.jobs import Share, job_of, keep_record
from pipeline.launch.missing import Missing
from pipeline.launch.snapshot import Snapshot
from tests.launch.conftest import TOKENIZER, run_of, tokenizer_of_pong
from tokenworlds.errors import UserError
from tokenworlds.runs.manifest import write_manifest
from tokenworlds.training.run_folder import RunFolder

OTHER = "code or settings have changed since it was launched"


def make(game: str, project: Path) -> Job:
    """A job of the code as it is now."""
    run = run_of(game)
    missing = Missing(run, f"pipeline/iris/dvc.yaml:atari@{game}-0", tuple(run.overrides()), False)
    job = job_of(missing, Snapshot(project.parent / "code", "abc"), Share(0, 1))
    keep_record(job)
    job.write()
    return job


def publish(job: Job, weights: str = "weights") -> None:
    """What a training leaves in the snapshot."""
    job.results.mkdir(parents=True)
    (job.results / "agent.safetensors").write_text(weights)
    (job.results / "scores.json").write_text(json.dumps({"config_hash": job.config_hash, "weights": weights}))
    write_manifest(job.results)
    Attempt(job.folder, 1).record("ended", status=0)


def trained(game: str, project: Path) -> Job:
    job = make(game, project)
    publish(job)
    return job


@pytest.fixture
def committed(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stages of every call of ``dvc commit``; the files that runs depend on hold the code of the workspace."""
    calls: list[list[str]] = []

    def renew(methods: set[str]) -> None:
        for game in ("Pong", "Krull"):
            for ending in ("code", "settings"):
                path = project / f"results/inputs/iris/atari/{game}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((project / "src/code.txt").read_bytes())

    monkeypatch.setattr(module, "renew_inputs", renew)
    monkeypatch.setattr(module, "dvc", lambda *arguments: calls.append([*arguments[2:]]))
    renew({"iris"})
    return calls


def place(project: Path, game: str) -> Path:
    return project / "results/runs/iris/atari" / game / "0"


def test_a_tokenizer_comes_into_the_workspace_and_replaces_what_dvc_holds(
    project: Path, committed: list[list[str]]
) -> None:
    here, snapshot = project / TOKENIZER, Snapshot(project.parent / "code", "abc")
    here.mkdir(parents=True)
    (here / "agent.json").write_text('{"config_hash": "another"}')
    job = job_of(tokenizer_of_pong(is_replaceable=True), snapshot, Share(0, 1))
    job.write()
    job.results.mkdir(parents=True)
    (job.results / "agent.json").write_text(json.dumps({"config_hash": job.config_hash}))
    (job.results / "agent.safetensors").write_text("weights")
    write_manifest(job.results)
    Attempt(job.folder, 1).record("ended", status=0)
    assert finished() == [job]
    collect = Collector()
    collect([job])
    collect.collect()
    assert committed == [[job.stage]] and collect.registered == [job.name] and not collect.refused
    assert (here / "agent.safetensors").read_text() == "weights" and job.is_in_workspace and not job.results.exists()
    assert not (project / "results/scores").exists()


def test_finished_runs_are_collected_in_batches(project: Path, committed: list[list[str]]) -> None:
    now = [0.0]
    collect = Collector(batch=2, seconds=100, clock=lambda: now[0])
    pong, krull = trained("Pong", project), make("Krull", project)
    collect([pong])
    assert not committed and not place(project, "Pong").exists()
    publish(krull)
    collect([krull])
    assert committed == [[pong.stage, krull.stage]] and collect.registered == [pong.run.name, krull.run.name]
    assert (place(project, "Krull") / "agent.safetensors").read_text() == "weights"
    scores = project / "results/scores/iris/atari/Pong/0.json"
    assert scores.read_bytes() == (place(project, "Pong") / "scores.json").read_bytes()
    assert not pong.results.exists() and not finished() and not collect.refused
    publish(pong)
    now[0] = 99
    collect([pong])
    assert len(committed) == 1
    now[0] = 100
    collect()
    assert committed[1:] == [[pong.stage]]


def test_edited_code_is_not_registered_until_it_is_what_it_was(
    project: Path, committed: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    job = trained("Pong", project)
    (project / "src/code.txt").write_text("two\n")
    collect = Collector(batch=1)
    collect([job])
    collect.collect()
    assert not committed and not place(project, "Pong").exists() and not collect.registered
    assert capsys.readouterr().err.count(f"iris/atari/Pong/0 is finished, but not registered with DVC: {OTHER}") == 1
    assert OTHER in collect.refused[job.run.name] and (job.results / "scores.json").is_file()

    newer = make("Pong", project)  # launched with the new code; the old result is still known
    assert newer.key != job.key
    assert [each.key for each in finished()] == [newer.key, job.key] or newer.results == job.results
    (project / "src/code.txt").write_text("one\n")
    collect.collect()
    assert committed == [[job.stage]] and not collect.refused and not job.results.exists()


def test_a_setting_that_has_changed_counts_as_well(project: Path, committed: list[list[str]]) -> None:
    job = trained("Pong", project)
    (project / "params.yaml").write_text("model: {backbone: retnet}\n")
    collect = Collector(batch=1)
    collect([job])
    assert not committed and OTHER in collect.refused[job.run.name]


@pytest.mark.parametrize("step", ["publish", "write_atomic", "dvc", "remove_own"])
def test_a_collector_that_is_killed_between_steps_loses_nothing(
    project: Path, committed: list[list[str]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    job = trained("Pong", project)

    def kill(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder if step == "publish" else module, step, kill)
        with pytest.raises(KeyboardInterrupt):
            Collector(batch=1)([job])
    assert finished() == [job]
    collect = Collector(batch=1)
    collect(finished())
    assert collect.registered == [job.run.name] and committed[-1] == [job.stage] and not finished()
    assert (place(project, "Pong") / "agent.safetensors").read_text() == "weights"
    assert [path.name for path in place(project, "Pong").parent.iterdir()] == ["0"]


def put_foreign_file(job: Job, project: Path) -> None:
    place(project, "Pong").mkdir(parents=True)
    (place(project, "Pong") / "notes.txt").write_text("mine")


def put_another_run(job: Job, project: Path) -> None:
    place(project, "Pong").mkdir(parents=True)
    (place(project, "Pong") / "scores.json").write_text('{"config_hash": "of another scale"}')


def damage(job: Job, project: Path) -> None:
    (job.results / "agent.safetensors").write_text("WEIGHTS")  # of the same size


def put_another_configuration(job: Job, project: Path) -> None:
    shutil.rmtree(job.results)
    job.results.mkdir(parents=True)
    (job.results / "scores.json").write_text('{"config_hash": "another"}')
    write_manifest(job.results)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (put_foreign_file, "holds notes.txt, not made by this program; move them away"),
        (put_another_run, "holds files of a run without a readable config.yaml; name another folder"),
        (damage, "agent.safetensors is damaged .* remove that folder, and launch the run again"),
        (put_another_configuration, "holds a run of another configuration; remove that folder"),
    ],
)
def test_a_run_that_cannot_be_collected_stays_and_stops_no_other(
    project: Path, committed: list[list[str]], fault: Callable[[Job, Path], None], message: str
) -> None:
    pong, krull = trained("Pong", project), trained("Krull", project)
    fault(pong, project)
    before = sorted(place(project, "Pong").glob("*"))
    collect = Collector(batch=1)
    collect([pong, krull])
    assert committed == [[krull.stage]] and collect.registered == [krull.run.name]
    with pytest.raises(UserError, match=message):
        raise UserError(collect.refused[pong.run.name])
    assert sorted(place(project, "Pong").glob("*")) == before and (pong.results / "scores.json").is_file()


def test_a_stage_that_dvc_refuses_stops_no_other(
    project: Path, committed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(*arguments: str) -> None:
        if any("Pong" in stage for stage in arguments):
            raise UserError("dvc commit failed: the disk is full.")
        committed.append([*arguments[2:]])

    monkeypatch.setattr(module, "dvc", commit)
    pong, krull = trained("Pong", project), trained("Krull", project)
    collect = Collector(batch=1)
    collect([pong, krull])
    assert collect.registered == [krull.run.name] and "the disk is full" in collect.refused[pong.run.name]
    assert finished() == [pong]


@pytest.mark.parametrize("is_same_code", [True, False])
def test_a_run_that_somebody_has_trained_meanwhile(
    project: Path, committed: list[list[str]], is_same_code: bool
) -> None:
    job = trained("Pong", project)
    code = {"tokenworlds.rng": "0" * 12} if not is_same_code else {"torch": version("torch")}
    (job.results / "environment.json").write_text(json.dumps({"code": code}))
    write_manifest(job.results)
    place(project, "Pong").parent.mkdir(parents=True)
    job.results.rename(place(project, "Pong"))
    collect = Collector(batch=1)
    collect([job])
    assert bool(committed) == is_same_code
    assert is_same_code or "was trained meanwhile with other code" in collect.refused[job.run.name]
