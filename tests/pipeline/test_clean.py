"""What runs leave behind is listed; only what no training needs is removed, and nothing that is not ours."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline import clean

Capture = pytest.CaptureFixture[str]

HASH = "0123456789ab"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An unfinished run, one that is published, one without a checkpoint, and a publication that was killed."""
    for seed, epoch in enumerate((3, 4, 0)):
        folder = tmp_path / "scratch" / "iris" / "atari" / "Pong" / f"{seed}-{HASH}"
        folder.mkdir(parents=True)
        config = {"method": "iris", "variant": None, "task": "atari/Pong", "seed": seed, "out": None}
        (folder / "config.yaml").write_text(json.dumps(config))
        (folder / "lock").touch()
        if epoch:
            (folder / f"epoch_{epoch:05}.json").write_text("{}")
    published = tmp_path / "runs" / "iris" / "atari" / "Pong" / "1"
    published.mkdir(parents=True)
    for place in (published, tmp_path / "scratch" / "iris" / "atari" / "Pong" / f"1-{HASH}"):
        (place / "scores.json").write_text(json.dumps({"config_hash": HASH}))
    staging = published.with_name(f".0.publishing-{HASH}")
    staging.mkdir()
    (staging / "scores.json").touch()
    return tmp_path


def run(place: Path, *options: str) -> int:
    return clean.main(["--scratch", str(place / "scratch"), "--runs", str(place / "runs"), *options])


def seeds(place: Path) -> list[str]:
    return sorted(path.name[0] for path in (place / "scratch").rglob(f"*-{HASH}"))


def test_everything_is_listed_and_nothing_removed(place: Path, capsys: Capture) -> None:
    before = sorted(place.rglob("*"))
    assert run(place) == 0
    lines = capsys.readouterr().out.splitlines()
    published = f"published in {place}/runs/iris/atari/Pong/1"
    reasons = [line.rsplit("  ", 1)[1].split(",")[0] for line in lines[:4]]
    assert reasons == ["unfinished", published, "no checkpoint", "a publication that was killed"]
    assert lines[4] == f"3 left behind, 1 unfinished, kept or in use below {place / 'scratch'}."
    assert sorted(place.rglob("*")) == before


def test_what_no_training_needs_is_removed(place: Path, capsys: Capture) -> None:
    assert run(place, "--remove") == 0
    assert seeds(place) == ["0"]
    capsys.readouterr()
    assert run(place, "--remove") == 0
    assert "--remove --unfinished the unfinished runs, too" in capsys.readouterr().out
    assert not list((place / "runs").rglob(".*")) and (place / "runs/iris/atari/Pong/1/scores.json").exists()


def test_unfinished_runs_are_removed_when_told(place: Path) -> None:
    assert run(place, "--remove", "--unfinished") == 0
    assert seeds(place) == []


def test_a_run_in_progress_is_kept(place: Path, capsys: Capture) -> None:
    (lock,) = (place / "scratch").rglob(f"0-{HASH}/lock")
    with FileLock(lock):
        assert run(place, "--remove", "--unfinished") == 0
    assert seeds(place) == ["0"]
    assert "in use by a trainer" in capsys.readouterr().out


def test_a_foreign_file_is_kept_and_named(place: Path, capsys: Capture) -> None:
    (folder,) = (place / "scratch").rglob(f"1-{HASH}")
    (folder / "notes.txt").write_text("mine")
    assert run(place, "--remove") == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert f"left in {folder}: notes.txt, not ours" in capsys.readouterr().out


def test_another_folder_of_digits_is_not_ours(place: Path) -> None:
    other = place / "scratch" / "2024-report"
    other.mkdir()
    assert run(place, "--remove", "--unfinished") == 0
    assert other.is_dir()


@pytest.mark.parametrize("scores", [None, '{"score": 2}'])
def test_checkpoints_of_a_published_configuration_that_are_of_another_run_are_unfinished(
    place: Path, scores: str | None
) -> None:
    """Of other code in a copy of the project, or of a run with an ``out`` of its own."""
    (folder,) = (place / "scratch").rglob(f"1-{HASH}")
    (folder / "scores.json").unlink()
    if scores:
        (folder / "scores.json").write_text(scores)
    assert run(place, "--remove") == 0
    assert seeds(place) == ["0", "1"]


def test_a_publication_in_progress_is_left_alone(place: Path) -> None:
    (lock,) = (place / "scratch").rglob(f"0-{HASH}/lock")
    with FileLock(lock):
        assert run(place, "--remove", "--unfinished") == 0
    assert (place / f"runs/iris/atari/Pong/.0.publishing-{HASH}/scores.json").exists()


def test_scratch_that_was_to_be_kept_is_kept(place: Path) -> None:
    (folder,) = (place / "scratch").rglob(f"1-{HASH}")
    config = json.loads((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(json.dumps(config | {"runtime": {"keep_scratch": True}}))
    assert run(place, "--remove") == 0
    assert seeds(place) == ["0", "1"]
    assert run(place, "--remove", "--unfinished") == 0
    assert seeds(place) == []
