"""Agents pushed to and pulled from a hub on this machine, with the client that users have."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import disable_progress_bars
from safetensors.numpy import load_file, save_file

import tokenworlds
from tests.checkpoints.finished import finished_run
from tests.checkpoints.hub_server import READ, WRITE, Hub, Repository, running
from tests.conftest import PROJECT
from tokenworlds.checkpoints import hub
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.errors import UserError
from tokenworlds.runs.manifest import write_manifest

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own

REPO, FOLDER = "me/rem", "atari/Pong/0+smoke"
REFERENCE = f"hub:{REPO}/{FOLDER}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secret-place") / "run"
    return finished_run(folder, f"out={folder}", overrides={"initialization.path": "/home/somebody/runs/1"})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    settings = {
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(tmp_path / "token"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    disable_progress_bars()
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", WRITE)
    with running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def another(run: Path, folder: Path, *, weights: float | None = None, **identity: Any) -> Path:
    """A copy of a run that differs in its identity, or in its weights."""
    subprocess.run(["cp", "-r", run, folder], check=True)
    scores = json.loads((folder / "scores.json").read_text())
    scores["run"] |= identity
    (folder / "scores.json").write_text(json.dumps(scores, indent=2))
    if weights is not None:
        tensors = load_file(folder / "agent.safetensors")
        next(iter(tensors.values()))[...] = weights
        save_file(tensors, folder / "agent.safetensors")
    write_manifest(folder)
    return folder


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error and len(lines[0]) < 420, error
    return lines[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_pulled_is_what_was_pushed(server: Hub, run: Path, tmp_path: Path) -> None:
    hub.push([run], REPO)
    hub.pull_to(REFERENCE, tmp_path / "out")
    pulled, held = files(tmp_path / "out"), server.repositories[REPO].files()
    assert pulled == {name.removeprefix(f"{FOLDER}/"): held[name] for name in held if name.startswith(FOLDER)}
    same = ("agent.safetensors", "agent.json", "evaluations.csv", "world_model.csv", "media/episode.mp4")
    assert {name: pulled[name] for name in same} == {name: (run / name).read_bytes() for name in same}
    assert set(pulled) - set(same) == {
        "README.md", "config.yaml", "scores.json", "manifest.json", "media/curve.png", "media/imagination.png"
    }  # fmt: skip
    assert len(server.repositories[REPO].commits) == 2, "the first is the server's own"


def test_nothing_that_is_pushed_names_this_machine_or_its_users(server: Hub, run: Path) -> None:
    hub.push([run], REPO)
    held = server.repositories[REPO].files()
    assert not [name for name, content in held.items() if b"secret-place" in content or b"somebody" in content]
    assert json.loads(held[f"{FOLDER}/scores.json"])["overrides"] == {"initialization.path": "1"}


@pytest.mark.parametrize("form", ["hub:{}/{}", "{}/{}", "{}/{}@main"])
def test_a_pulled_agent_has_the_weights_of_the_run(server: Hub, run: Path, form: str) -> None:
    hub.push([run], REPO)
    loaded = tokenworlds.load(hub.pull(form.format(REPO, FOLDER)), device="cpu")
    own = load_file(run / "agent.safetensors")
    assert all(np.array_equal(value, own[name]) for name, value in loaded.agent.state_dict().items())


@pytest.mark.parametrize("task", ["gym/CartPole-v1", "gym/my.package:Rivers/River-v0"])
def test_agents_of_any_environment_are_pulled_from_where_they_are_pushed(
    server: Hub, run: Path, tmp_path: Path, task: str
) -> None:
    pushed = hub.push([another(run, tmp_path / "run", task=task)], REPO)
    assert (hub.pull(pushed.splitlines()[0]) / "agent.safetensors").is_file()


def test_a_second_run_joins_the_first_and_the_list_has_both(server: Hub, run: Path, tmp_path: Path) -> None:
    hub.push([run], REPO)
    before = server.repositories[REPO].files()
    hub.push([another(run, tmp_path / "run", task="atari/Breakout", seed=3, scale="paper", variant="no-pop")], REPO)
    after = server.repositories[REPO].files()
    assert {name: after[name] for name in before if name != "README.md"} == {
        name: content for name, content in before.items() if name != "README.md"
    }
    card = ModelCard(after["README.md"].decode())
    assert [result.metric_name for result in card.data.eval_results or []] == [
        "mean_reward (atari/Breakout/3+no-pop)", f"mean_reward ({FOLDER})"
    ]  # fmt: skip
    assert card.text.count("](atari/") == 2


def test_the_same_run_pushed_again_commits_nothing(server: Hub, run: Path) -> None:
    hub.push([run], REPO)
    assert "already" in hub.push([run], REPO)
    assert len(server.repositories[REPO].commits) == 2


def test_another_run_in_the_same_folder_needs_replace(
    server: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.push([run], REPO)
    before = dict(server.repositories[REPO].files())
    other = another(run, tmp_path / "run", weights=0.5)
    (other / "media" / "episode.mp4").unlink()
    write_manifest(other)
    assert "--replace" in error_of(capsys, "push", other, "--repo", REPO)
    assert server.repositories[REPO].files() == before
    hub.push([other], REPO, replace=True)
    after = server.repositories[REPO].files()
    assert after[f"{FOLDER}/agent.safetensors"] == (other / "agent.safetensors").read_bytes()
    assert before.keys() - after.keys() == {f"{FOLDER}/media/episode.mp4"}


def test_what_others_wrote_is_kept(server: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.repositories[REPO] = Repository()
    front = "---\nlicense: other\ntags:\n- mine\n---\n"
    server.repositories[REPO].commit(
        {"README.md": f"{front}# Mine\n\nwords\n".encode(), f"{FOLDER}/notes.txt": b"mine"}
    )
    assert "not pushed by this program" in error_of(capsys, "push", run, "--repo", REPO)
    server.repositories[REPO].commit({"README.md": f"{front}# Mine\n\nwords\n".encode(), "notes.txt": b"mine"})
    hub.push([run], REPO)
    held = server.repositories[REPO].files()
    server.repositories[REPO].commit(held | {"README.md": held["README.md"] + b"\nmore words\n"})
    hub.push([another(run, tmp_path / "run", seed=1)], REPO)
    card = ModelCard(server.repositories[REPO].files()["README.md"].decode())
    assert card.text.startswith("\n# Mine\n\nwords\n") and card.text.endswith("\nmore words\n")
    assert card.text.count("| [atari/Pong/") == 2 and card.data.license == "other" and "mine" in (card.data.tags or [])
    assert server.repositories[REPO].files()["notes.txt"] == b"mine"


@pytest.mark.parametrize("content", [b"---\n: : {\n---\n", b"---\n- a\n---\n", b"\xff"])
def test_a_list_that_cannot_be_read_is_not_replaced(
    server: Hub, run: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    server.repositories[REPO] = Repository()
    server.repositories[REPO].commit({"README.md": content})
    assert f"README.md of {REPO} cannot be read" in error_of(capsys, "push", run, "--repo", REPO)
    assert server.repositories[REPO].files() == {"README.md": content}


def test_agents_of_two_methods_do_not_share_a_repository(
    server: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = another(run, tmp_path / "run", method="iris", seed=1)
    with pytest.raises(UserError, match="several methods"):  # before the server is asked
        hub.push([run, other], REPO)
    assert not server.repositories
    hub.push([run], REPO)
    assert "several methods" in error_of(capsys, "push", other, "--repo", REPO)


def test_a_push_between_reading_and_committing_is_not_lost(server: Hub, run: Path, tmp_path: Path) -> None:
    hub.push([run], REPO)
    first, second = another(run, tmp_path / "1", seed=1), another(run, tmp_path / "2", seed=2)

    def meanwhile() -> None:
        server.before_commit = lambda: None
        hub.push([second], REPO)

    server.before_commit = meanwhile
    hub.push([first], REPO)
    held = server.repositories[REPO].files()
    assert all(f"atari/Pong/{seed}+smoke/agent.safetensors" in held for seed in range(3))
    assert held["README.md"].count(b"| [atari/Pong/") == 3


def test_a_dry_run_needs_no_token_and_writes_nothing(
    server: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert main(["push", str(run), "--repo", REPO, "--dry-run"]) == 0
    assert f"+ {FOLDER}/agent.safetensors" in capsys.readouterr().out
    assert not server.repositories and not [one for one in server.requests if not one.startswith("GET")]


def test_a_branch_is_made_and_pulled_from(server: Hub, run: Path) -> None:
    hub.push([run], REPO, revision="trial", private=True)
    assert f"{FOLDER}/agent.safetensors" not in server.repositories[REPO].files("main")
    assert server.repositories[REPO].private
    assert (hub.pull(f"{REFERENCE}@trial") / "agent.safetensors").is_file()


def unfinished(run: Path) -> None:
    (run / "scores.json").unlink()


def truncated(run: Path) -> None:
    content = (run / "agent.safetensors").read_bytes()
    (run / "agent.safetensors").write_bytes(content[:-10])


def altered(run: Path) -> None:
    content = bytearray((run / "agent.safetensors").read_bytes())
    content[-1] ^= 1
    (run / "agent.safetensors").write_bytes(content)


def without_metadata(run: Path) -> None:
    (run / "agent.json").write_text("{")
    write_manifest(run)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (unfinished, "no finished run"),
        (truncated, "is damaged"),
        (altered, "is damaged"),
        (without_metadata, "agent.json is damaged"),
    ],
)
def test_a_run_that_is_not_whole_is_not_pushed(
    server: Hub,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
    expected: str,
) -> None:
    harm(broken := another(run, tmp_path / "run"))
    assert expected in error_of(capsys, "push", broken, "--repo", REPO)
    assert not server.repositories


def test_diverged_weights_are_not_pushed(
    server: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = another(run, tmp_path / "run", weights=float("nan"))
    assert "NaN" in error_of(capsys, "push", broken, "--repo", REPO)
    assert not server.repositories


@pytest.mark.parametrize(
    ("token", "status", "expected"),
    [
        (None, {}, "hf auth login"),
        ("unknown", {}, "does not accept the token"),
        (READ, {}, "no right"),
        (WRITE, {"/commit/": 503}, "answered 503"),
        (WRITE, {"/preupload/": 403}, "no right"),
        (WRITE, {"/large/": 403}, "no right"),
        (WRITE, {"/commit/": 412}, "at the same time"),
    ],
)
def test_a_refused_push_leaves_the_repository_as_it_was(
    server: Hub,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str | None,
    status: dict[str, int],
    expected: str,
) -> None:
    hub.push([run], REPO)
    before = dict(server.repositories[REPO].files())
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    server.statuses = status
    other = another(run, tmp_path / "run", seed=1, weights=0.25)
    assert expected in error_of(capsys, "push", other, "--repo", REPO)
    assert server.repositories[REPO].files() == before


def test_a_public_repository_is_not_taken_for_a_private_one(
    server: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.repositories[REPO] = Repository()
    server.repositories[REPO].commit({})
    assert "is public" in error_of(capsys, "push", run, "--repo", REPO, "--private")


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(("damage", "expected"), [(halved, "size"), (flipped, "is damaged")])
def test_what_arrives_damaged_is_refused_and_pulled_whole_the_next_time(
    server: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, expected: str
) -> None:
    hub.push([run], REPO)
    server.damage = damage
    assert expected in error_of(capsys, "pull", REFERENCE, "--out", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())
    server.damage = bytes
    hub.pull_to(REFERENCE, tmp_path / "new" / "out")
    assert (tmp_path / "new" / "out" / "agent.safetensors").read_bytes() == (run / "agent.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("reference", "token", "expected"),
    [
        ("me/rem", WRITE, "names no agent"),
        ("me/rem/../secret", WRITE, "names no agent"),
        ("me/other/atari/Pong/0", WRITE, "knows no repository"),
        ("me/rem/atari/Pong/7", WRITE, f"did you mean {FOLDER}?"),
        ("me/rem/atari", WRITE, "has no agent atari"),
        (f"me/rem/{FOLDER}@nightly", WRITE, "no such revision"),
        (f"me/rem/{FOLDER}", "unknown", "does not accept the token"),
        (f"me/private/{FOLDER}", None, "knows no repository me/private, or it is private"),
    ],
)
def test_what_cannot_be_pulled_is_said_in_a_sentence(
    server: Hub,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reference: str,
    token: str | None,
    expected: str,
) -> None:
    hub.push([run], REPO)
    hub.push([run], "me/private", private=True)
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    assert expected in error_of(capsys, "pull", reference, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_named(
    server: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.push([run], REPO)
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    assert "$HF_HOME" in error_of(capsys, "pull", REFERENCE, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_written_over(server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert "exists" in error_of(capsys, "pull", REFERENCE, "--out", tmp_path / "out")
    assert not server.requests


@pytest.mark.parametrize("way", ["down", "offline", "failing"])
def test_without_the_server_the_copy_in_the_cache_is_used(
    server: Hub,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    way: str,
) -> None:
    hub.push([run], REPO)
    hub.push([another(run, tmp_path / "run", seed=1)], REPO)
    known = files(hub.pull(REFERENCE))
    if way == "down":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif way == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        server.statuses = {"/api/": 503}
    capsys.readouterr()
    assert files(hub.pull(REFERENCE)) == known
    assert "cannot be reached; using the copy" in capsys.readouterr().err
    with pytest.raises(UserError, match="no whole copy"):
        hub.pull(f"{REPO}/atari/Pong/1+smoke")
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE|cannot be reached|answered 503"):
        hub.push([run], REPO)


@pytest.mark.integration
def test_the_commands_follow_the_variables_of_the_environment(server: Hub, run: Path, tmp_path: Path) -> None:
    settings = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def command(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "tokenworlds.checkpoints", *map(str, arguments)]
        return subprocess.run(
            line, cwd=PROJECT, env=os.environ | settings | more, capture_output=True, text=True, check=False
        )

    done = command("push", run, "--repo", REPO)
    assert done.returncode == 0 and REFERENCE in done.stdout, done.stderr
    assert command("pull", REFERENCE, "--out", tmp_path / "a").returncode == 0
    done = command("pull", REFERENCE, "--out", tmp_path / "b", HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and "using the copy" in done.stderr, done.stderr
    assert files(tmp_path / "a") == files(tmp_path / "b")
    done = command("push", run, "--repo", "me/new", HF_HUB_DISABLE_XET="0")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and "HF_HUB_DISABLE_XET" in line
