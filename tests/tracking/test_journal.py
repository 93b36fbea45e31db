"""The journal: what is written stays, what is torn is left out, what is beyond a checkpoint is cut off."""

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tokenworlds.errors import UserError
from tokenworlds.tracking.journal import Journal, JournalFollower, journal_id, read_journal


def steps(path: Path) -> list[int]:
    return [record["step"] for record in read_journal(path) if record["kind"] == "metrics"]


def filled(path: Path, last: int) -> Journal:
    journal = Journal(path)
    journal.append("params", values={"a": 1})
    for step in range(1, last + 1):
        journal.append("metrics", step=step, values={"loss": 1 / step})
        journal.append("artifact", step=step, key="strip", path="media/strip.png")
    journal.append("status", value="FAILED")
    return journal


def test_records_are_json_lines_with_kind_and_time(tmp_path: Path) -> None:
    journal = filled(tmp_path / "run" / "metrics.jsonl", 1)
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["journal", "params", "metrics", "artifact", "status"]
    assert all(line["time"] > 1e9 for line in lines)
    assert lines[2]["values"] == {"loss": 1.0}
    assert list(journal.read()) == lines


def test_reopening_keeps_the_records_and_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    identity = journal_id(filled(path, 2).path)
    Journal(path).append("metrics", step=3, values={"loss": 0.1})
    assert steps(path) == [1, 2, 3]
    assert journal_id(path) == identity
    assert identity != journal_id(Journal(tmp_path / "another.jsonl").path)


def test_a_torn_last_line_is_left_out_and_then_removed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    filled(path, 2)
    with path.open("ab") as file:
        file.write(b'{"kind": "metrics", "step": 3, "val')
    assert steps(path) == [1, 2]
    Journal(path).append("metrics", step=3, values={"loss": 0.1})
    assert steps(path) == [1, 2, 3]


def test_a_file_torn_in_its_first_line_is_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "jour')
    journal = Journal(path)
    assert [record["kind"] for record in journal.read()] == ["journal"]


@pytest.mark.parametrize(("cut", "left"), [(0, []), (2, [1, 2]), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_truncation_drops_later_steps_and_the_status(tmp_path: Path, cut: int, left: list[int]) -> None:
    journal = filled(tmp_path / "metrics.jsonl", 3)
    identity = journal_id(journal.path)
    journal.truncate_after(cut)
    assert steps(journal.path) == left
    kinds = [record["kind"] for record in journal.read()]
    assert kinds.count("artifact") == len(left)
    assert kinds[:2] == ["journal", "params"]
    assert "status" not in kinds
    assert journal_id(journal.path) == identity
    journal.append("metrics", step=cut + 1, values={})
    assert steps(journal.path) == [*left, cut + 1]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    filled(path, 1)
    path.write_bytes(path.read_bytes().replace(b'"kind": "params"', b'"kind" "params"'))
    with pytest.raises(UserError, match=r"line 2 of the journal .*metrics.jsonl is damaged"):
        list(read_journal(path))


def test_a_follower_sees_every_record_once_and_starts_over_after_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = JournalFollower(path)
    assert follower.poll() == ([], False)
    journal = filled(path, 2)
    assert [record.get("step") for record in follower.poll()[0]] == [None, None, 1, 1, 2, 2, None]
    assert follower.poll() == ([], False)
    with path.open("ab") as file:
        file.write(b'{"kind": "metrics", ')
        file.flush()
        assert follower.poll() == ([], False)
        file.write(b'"step": 3}\n')
    assert [record["step"] for record in follower.poll()[0]] == [3]
    journal.truncate_after(1)
    for step in range(2, 9):
        journal.append("metrics", step=step, values={"loss": 0.0})
    records, is_restarted = follower.poll()
    assert is_restarted
    assert [record.get("step") for record in records] == [None, None, 1, 1, *range(2, 9)]


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """Files of this process end at ``size`` bytes, where writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [0, 1, 30, 100])
def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path: Path, room: int) -> None:
    journal = filled(tmp_path / "metrics.jsonl", 2)
    before = journal.path.read_bytes()
    with disk_with_room_for(len(before) + room), pytest.raises(UserError, match=r"cannot write the journal .*resumes"):
        journal.append("metrics", step=3, values={"a loss with a long name": 0.1, "another one": 0.2})
    assert journal.path.read_bytes() == before
    journal.append("metrics", step=3, values={"loss": 0.1})
    assert steps(journal.path) == steps(Journal(journal.path).path) == [1, 2, 3]


def test_a_failed_flush_removes_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk quota may be noticed only then."""
    journal = filled(tmp_path / "metrics.jsonl", 1)
    before = journal.path.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        with pytest.raises(UserError, match="cannot write the journal"):
            journal.append("metrics", step=2, values={"loss": 0.1})
    assert journal.path.read_bytes() == before


def test_a_full_device_is_one_sentence(tmp_path: Path) -> None:
    journal = filled(tmp_path / "metrics.jsonl", 1)
    journal.path = Path("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device.*make room"):
        journal.append("metrics", step=2, values={"loss": 0.1})


def test_passwords_in_addresses_are_not_recorded(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append("params", values={"runtime.tracking_uri": "http://me:hunter2@host:5000", "a": 1})
    assert "hunter2" not in journal.path.read_text()
    assert list(journal.read())[-1]["values"] == {"runtime.tracking_uri": "http://***@host:5000", "a": 1}
