"""Around a training: what is already there, what it is called, how long it took. Whole runs: test_resume."""

import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from tokenworlds.config import RunConfig, load
from tokenworlds.errors import UserError
from tokenworlds.tracking.store import resolve_uri
from tokenworlds.training import run
from tokenworlds.training.progress import Clock, duration, progress
from tokenworlds.training.publication import copy_scores
from tokenworlds.training.run import run_training, scratch_folder

SMOKE = ("method=iris", "task=atari/Pong", "scale=smoke")


def test_scores_that_a_kill_kept_from_the_collection_are_copied_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publication is a rename of the run folder and then a copy of its scores; a kill may fall in between."""
    config = load([*SMOKE])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "pipeline").mkdir()
    config.out_dir.mkdir(parents=True)
    (config.out_dir / "scores.json").write_text(json.dumps({"config_hash": config.hash()}))
    run_training(config)
    assert "holds this run already" in capsys.readouterr().out
    copy = tmp_path / "results" / "scores" / "iris" / "atari" / "Pong" / "0.json"
    assert json.loads(copy.read_text()) == {"config_hash": config.hash()}


def test_scores_of_the_usual_folder_are_collected_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load([*SMOKE, "out=results/runs/iris/atari/Pong/0"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "pipeline").mkdir()
    folder = tmp_path / "results" / "runs" / "iris" / "atari" / "Pong" / "0"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text("{}")
    copy_scores(config)
    copy = tmp_path / "results" / "scores" / "iris" / "atari" / "Pong" / "0.json"
    assert copy.read_text() == "{}"


def test_a_run_that_another_trainer_has_just_published_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is published between the first look and the lock."""
    config = load([*SMOKE, f"out={tmp_path / 'out'}", f"runtime.scratch={tmp_path / 'scratch'}"])

    def publish(config: RunConfig, scratch: Path) -> None:
        config.out_dir.mkdir()
        about = {"config_hash": config.hash(), "run": {"method": "iris", "task": "atari/Pong", "seed": 0}}
        (config.out_dir / "scores.json").write_text(json.dumps(about))

    monkeypatch.setattr(run, "report_other_scratch", publish)
    monkeypatch.setattr(run, "_train_and_publish", Mock(side_effect=AssertionError("trained again")))
    run_training(config)
    assert "holds this run already" in capsys.readouterr().out
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


def test_scratch_is_named_by_identity_and_configuration(tmp_path: Path) -> None:
    first = load([*SMOKE, f"runtime.scratch={tmp_path}"])
    other = load([*SMOKE, f"runtime.scratch={tmp_path}", "training.epochs=9"])
    assert scratch_folder(first) == tmp_path / "iris" / "atari" / f"Pong/0-{first.hash()}"
    assert scratch_folder(first) != scratch_folder(other)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (12.4, "12s"), (60, "1m00s"), (185, "3m05s"), (7620, "2h07m"), (4 * 86400 + 3 * 3600, "4d03h")],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_clock_goes_on_from_earlier_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(seconds_before=50)
    now = 130.0
    assert clock.seconds == 80 and clock.session == 30


def test_nothing_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("collect", 3) as bar:
        bar.step()
        bar.to(3)
    assert capsys.readouterr().err == ""


def refused(tmp_path: Path, *overrides: str) -> str:
    """The sentence with which a run is refused before anything heavy is built."""
    with pytest.raises(UserError) as error:
        run_training(load([*SMOKE, f"runtime.scratch={tmp_path / 'scratch'}", *overrides]))
    assert len(str(error.value)) <= 300
    return str(error.value)


@pytest.mark.parametrize("replace", ["replace=false", "replace=true"])
def test_foreign_files_in_the_run_folder_are_refused_and_survive(tmp_path: Path, replace: str) -> None:
    notes = tmp_path / "mine" / "media" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("three days of notes")
    assert "mine holds media/notes.txt, not made by this program" in refused(tmp_path, f"out={tmp_path}/mine", replace)
    assert notes.read_text() == "three days of notes"


def test_a_folder_beside_the_place_that_is_called_like_a_staging_folder_is_left_alone(tmp_path: Path) -> None:
    config = load([*SMOKE, f"out={tmp_path}/run"])
    notes = tmp_path / f".run.publishing-{config.hash()}" / "notes.txt"
    notes.parent.mkdir()
    notes.touch()
    assert "holds notes.txt" in refused(tmp_path, f"out={tmp_path}/run")
    assert notes.exists()


def test_the_working_folder_is_refused_as_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / ".git" / "HEAD").touch()
    monkeypatch.chdir(project)
    assert "project holds .git/HEAD, not made by this program" in refused(tmp_path, "out=.")
    assert (project / ".git" / "HEAD").exists()


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("{0}/file", "file is a file, not a folder"),
        ("{0}/link", "link is a link, not a folder"),
        ("{0}/" + "x" * 300, "File name too long"),
        ("{0}/" + "x" * 250, "File name too long"),
        ("{0}/scratch/iris", "lie in each other"),
        ("{0}/scratch/iris/atari/Pong/0-{1}", "lie in each other"),
        ("{0}/scratch/iris/atari/Pong/0-{1}/run", "lie in each other"),
        ("{0}/file/run", "file is no folder"),
    ],
)
def test_a_run_folder_that_cannot_be_is_refused_before_training(tmp_path: Path, out: str, sentence: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    assert sentence in refused(tmp_path, f"out={out.format(tmp_path, load([*SMOKE]).hash())}")


def test_an_imported_agent_is_not_trained_over(tmp_path: Path) -> None:
    out = tmp_path / "agent"
    out.mkdir()
    (out / "agent.safetensors").touch()
    assert "agent holds files of a run without a readable config.yaml" in refused(tmp_path, f"out={out}")
    assert (out / "agent.safetensors").exists()


def test_a_mount_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "out")
    assert "out is a mount point, which cannot be renamed; name a folder below it" in refused(
        tmp_path, f"out={tmp_path}/out"
    )


def test_a_copy_of_the_project_for_one_experiment_keeps_its_scratch_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENWORLDS_SCRATCH")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    for folder in (tmp_path, copy):
        (folder / "pipeline").mkdir(parents=True)
        (folder / "params.yaml").touch()
    config, relative = load([*SMOKE]), load([*SMOKE, "runtime.scratch=mine"])
    monkeypatch.chdir(tmp_path)
    assert scratch_folder(config).parent == tmp_path / "scratch" / "iris" / "atari" / "Pong"
    monkeypatch.chdir(copy)
    assert scratch_folder(relative).is_relative_to(tmp_path / "mine")
    assert scratch_folder(config).parent == tmp_path / "scratch" / "iris" / "atari" / "Pong"
    assert scratch_folder(config).name.count("-") == 2  # seed, configuration, code: other code, another place
    assert resolve_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert config.out_dir == copy / "results" / "runs" / "iris" / "atari" / "Pong" / "0"


def test_checkpoints_of_another_configuration_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load([*SMOKE, f"runtime.scratch={tmp_path}/scratch", f"out={tmp_path}/run"])
    other = scratch_folder(config).with_name("0-0123456789ab")
    other.mkdir(parents=True)
    (other / "epoch_00003.json").touch()
    monkeypatch.setattr("tokenworlds.training.run._train_and_publish", lambda *_: None)
    run_training(config)
    assert "also holds checkpoints of other configurations" in capsys.readouterr().out
