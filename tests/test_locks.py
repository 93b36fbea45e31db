"""Locks between processes."""

import fcntl
import socket
from pathlib import Path

import pytest

from tokenworlds.errors import UserError
from tokenworlds.locks import holder, is_held, locked


def test_a_lock_says_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "lock"
    assert not is_held(path) and holder(path) == {}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with locked(path, "another trainer is at work"):
        assert is_held(path) and holder(path) == {"host": socket.gethostname(), "job": "7"}
        with (
            pytest.raises(UserError, match=r"at work \(process \d+ on .*, Slurm's job 7; it holds .*lock\); wait"),
            locked(path, "another trainer is at work"),
        ):
            pass
    assert not is_held(path)


def test_a_holder_whose_machine_has_a_longer_name_is_on_another_machine(tmp_path: Path) -> None:
    """Of which the list of this machine's locks does not tell."""
    path = tmp_path / "lock"
    path.write_text(f"process 1 on {socket.gethostname()}0")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(path)
