"""The code of launched runs, in a small project with git."""

import os
from pathlib import Path

import pytest

from pipeline.launch import snapshot
from pipeline.launch.attempts import Attempt, Job, worker_environment
from tests.launch.conftest import git, run_of
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId


def job_in(folder: Path) -> Job:
    return Job(run_of("Pong"), "stage", ("true",), str(folder), "abc", {}, "def", "scratch", 0, 1)


def test_edits_travel_and_change_nothing(project: Path) -> None:
    head = git(project, "rev-parse", "HEAD")
    clean = snapshot.take()
    assert clean.revision == head and (clean.folder / "src/code.txt").read_text() == "one\n"
    (project / "src/code.txt").write_text("edited\n")
    (project / "src/new.py").write_text("added = True\n")
    (project / "pipeline/iris/dvc.lock").write_text("a record of results")
    git(project, "add", "src/new.py", "pipeline/iris/dvc.lock")
    git(project, "commit", "--quiet", "--message", "record", "--", "pipeline/iris/dvc.lock")
    (project / "pipeline/iris/dvc.lock").write_text("another record")
    before = git(project, "status", "--porcelain"), git(project, "diff", "--cached"), git(project, "branch", "--all")
    edited = snapshot.take()
    assert (
        git(project, "status", "--porcelain"),
        git(project, "diff", "--cached"),
        git(project, "branch", "--all"),
    ) == (before)
    assert git(edited.folder, "rev-parse", "HEAD") == edited.revision
    assert git(project, "rev-parse", f"{edited.revision}^") == git(project, "rev-parse", "HEAD")
    assert (edited.folder / "src/code.txt").read_text() == "edited\n" and (edited.folder / "src/new.py").is_file()
    (project / "pipeline/iris/dvc.lock").write_text("a third one")
    git(project, "add", "--update", "src")  # staged or not makes no difference
    assert snapshot.take() == edited
    (project / "src/code.txt").write_text("edited again\n")
    assert snapshot.take() != edited and (edited.folder / "src/code.txt").read_text() == "edited\n"

    git(project, "worktree", "remove", "--force", str(edited.folder))
    git(project, "gc", "--quiet", "--prune=now")
    assert git(project, "show", f"refs/tokenworlds/{edited.revision[:12]}:src/code.txt") == "edited"


def test_a_project_inside_a_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository may be a larger one."""
    inner = project / "agents"
    (inner / "pipeline").mkdir(parents=True)
    (inner / "params.yaml").write_text("{}\n")
    (inner / "pipeline/train.py").write_text("\n")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "inner")
    monkeypatch.chdir(inner)
    (inner / "pipeline/train.py").write_text("edited\n")
    taken = snapshot.take()
    assert taken.folder.name == "agents" and (taken.folder / "pipeline/train.py").read_text() == "edited\n"
    snapshot.prune()
    assert not taken.folder.exists()


@pytest.mark.parametrize(
    ("name", "runs"),
    [("src/new.py", ()), ("pipeline/new/params.yaml", ()), ("bandit.py", ("gym/bandit:Bandit-v0",)),
     ("worlds/maze.py", ("gym/worlds.maze:Maze-v1",))],
)  # fmt: skip
def test_files_that_git_does_not_know_are_refused(project: Path, name: str, runs: tuple[str, ...]) -> None:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n")
    (project / "notes.py").write_text("of no run\n")
    tasks = [RunId("iris", "", task, 0, "smoke") for task in runs]
    with pytest.raises(UserError, match=f"^git does not know {name}, which launched runs may need: git add"):
        snapshot.take(tasks)
    git(project, "add", name)
    assert (snapshot.take(tasks).folder / name).is_file()


def test_without_git(project: Path) -> None:
    (project / ".git").rename(project / "elsewhere")
    with pytest.raises(UserError, match="there is no git repository with a commit here: run git init"):
        snapshot.take()


def test_a_worktree_that_somebody_changed(project: Path) -> None:
    taken = snapshot.take()
    (taken.folder / "src/code.txt").write_text("mine\n")
    with pytest.raises(UserError, match=r"was changed: save what you want to keep of it, then `git worktree remove"):
        snapshot.take()
    snapshot.prune()
    assert (taken.folder / "src/code.txt").read_text() == "mine\n"


def test_only_what_no_run_needs_is_pruned(project: Path) -> None:
    others = project.parent / "others"
    git(project, "worktree", "add", "--detach", str(others))
    running = snapshot.take()
    job = job_in(running.folder)
    job.write()
    attempt = Attempt(job.folder, 1)
    attempt.record("submitted", id="1")
    (project / "src/code.txt").write_text("two\n")
    finished = snapshot.take()
    result = finished.folder / "results/runs/iris/atari/Pong/0/scores.json"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    snapshot.prune()
    assert running.folder.is_dir() and finished.folder.is_dir()
    attempt.record("ended", status=0)
    result.unlink()
    (finished.folder / "src/__pycache__").mkdir()
    (finished.folder / "src/__pycache__/code.pyc").write_text("")
    snapshot.prune()
    assert not running.folder.exists() and not finished.folder.exists() and others.is_dir()
    assert snapshot.take() == finished


def test_a_worker_finds_the_code_of_its_snapshot_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [project / "src", project, project / "worlds", Path("/elsewhere")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["worlds", *map(str, given)]))
    found = worker_environment("/code")["PYTHONPATH"].split(os.pathsep)
    assert found == ["/code/src", "/code", str(project / "worlds"), "/elsewhere"]
