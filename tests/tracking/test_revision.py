"""Which code made a run: what counts as a change of it, and what a checkpoint of other code means."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tokenworlds.config import Resume
from tokenworlds.errors import UserError
from tokenworlds.methods import token as token_agent
from tokenworlds.tracking import revision
from tokenworlds.tracking.revision import Sessions, changed_code, code_in_use


def test_an_edit_within_the_second_of_a_checkout_is_an_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git's own index takes it for none: size and second of the change are what they were."""
    monkeypatch.setattr(revision, "PACKAGE", tmp_path)

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        return subprocess.check_output(["git", "-C", str(tmp_path), *identity, *arguments], text=True).strip()

    def write(backbone: str) -> None:
        (tmp_path / "params.yaml").write_text(f"backbone: {backbone}")
        os.utime(tmp_path / "params.yaml", (1e9, 1e9))

    git("init", "--quiet")
    git("config", "core.trustctime", "false")
    write("lstm")
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "state")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert revision.git_revision.__wrapped__() == commit
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.code").touch()
    git("add", "results")
    assert revision.git_revision.__wrapped__() == commit  # a record of results
    git("reset", "--quiet", "results")
    (tmp_path / "results" / "run.code").unlink()
    write("gru1")
    assert git("status", "--porcelain") == ""
    assert revision.git_revision.__wrapped__() == f"{commit}-dirty"


def test_code_in_use_has_what_can_change_a_result_and_nothing_else() -> None:
    found = code_in_use(token_agent.__name__)
    modules = ("losses", "agents.base", "methods", "methods.component", "methods.token")
    assert {"torch", "numpy", *(f"tokenworlds.{name}" for name in modules)} <= found.keys()
    unexpected = ("errors", "tracking.journal", "config.run", "methods.delta", "training.world_model_quality")
    assert not found.keys() & {f"tokenworlds.{name}" for name in unexpected}
    assert found["torch"].startswith("2.")


def test_only_what_both_have_is_compared() -> None:
    assert changed_code({"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}) == ["b"]


def sessions(monkeypatch: pytest.MonkeyPatch, name: str, losses: str) -> Sessions:
    monkeypatch.setattr(revision, "git_revision", lambda: name)
    monkeypatch.setattr(revision, "code_in_use", lambda _: {"tokenworlds.losses": losses})
    return Sessions("method")


def revisions(found: Sessions) -> list[tuple[int, str]]:
    return [(entry["from_epoch"], entry["git_revision"]) for entry in found]


@pytest.mark.parametrize(
    ("name", "losses", "choice", "expected"),
    [
        ("one", "1", Resume.same_code, [(1, "one")]),
        ("two", "1", Resume.same_code, [(1, "one"), (6, "two")]),  # a commit that changes no result
        ("one", "2", Resume.any_code, [(1, "one"), (6, "one")]),  # an edit that is not committed
        ("two", "2", Resume.any_code, [(1, "one"), (6, "two")]),
    ],
)
def test_a_resumed_run_names_the_code_of_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, losses: str, choice: Resume, expected: object
) -> None:
    state = sessions(monkeypatch, "one", "1").state()
    resumed = sessions(monkeypatch, name, losses)
    resumed.resume(state, 5, tmp_path, choice)
    assert revisions(resumed) == expected


def test_other_code_is_refused_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = sessions(monkeypatch, "one", "1").state()
    with pytest.raises(UserError, match=r"is of revision one, this is two \(tokenworlds\.losses changed\)"):
        sessions(monkeypatch, "two", "2").resume(state, 5, tmp_path, Resume.same_code)
