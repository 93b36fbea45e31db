"""Nothing that is not ours is replaced or removed."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from tokenworlds.errors import UserError
from tokenworlds.files import foreign, refuse_foreign, remove_own, require_room, write_atomic

OWN = ("scores.json", "epoch_*.json", "media/*.png")


def folder(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "folder"
    (path / "media").mkdir(parents=True)
    for name in ("scores.json", "epoch_1.json", "media/picture.png", *names):
        (path / name).write_text(name)
    return path


def test_a_file_with_the_targets_name_plus_tmp_survives_the_write(tmp_path: Path) -> None:
    (tmp_path / "notes.tmp").write_text("mine")
    write_atomic(tmp_path / "notes", b"ours")
    assert (tmp_path / "notes.tmp").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "notes.tmp"]


def test_foreign_entries_are_named_and_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, "notes.txt", "media/notes.txt")
    (path / "empty").mkdir()
    assert list(foreign(path, OWN)) == ["notes.txt", "empty/", "media/notes.txt"]
    message = r"folder holds notes\.txt, empty/, media/notes\.txt, not made by this program; name another\."
    with pytest.raises(UserError, match=message):
        refuse_foreign(path, OWN, "name another")


def test_a_pattern_does_not_reach_into_folders(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "media" / "more").mkdir()
    (path / "media" / "more" / "mine.png").touch()
    (path / "epoch_mine").mkdir()
    (path / "epoch_mine" / "2.json").touch()
    assert list(foreign(path, OWN)) == ["epoch_mine/2.json", "media/more/mine.png"]


def test_a_message_names_three_entries_and_stays_short(tmp_path: Path) -> None:
    path = folder(tmp_path, *(f"{index}{'x' * 200}" for index in range(9)))
    with pytest.raises(UserError) as error:
        refuse_foreign(path, OWN, "name another folder with out=...")
    assert "and more" in str(error.value) and len(str(error.value)) <= 300


def test_a_file_or_a_link_is_refused_and_an_absent_folder_or_one_of_ours_is_not(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "absent", OWN, "")
    refuse_foreign(folder(tmp_path), OWN, "")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for kind in ("file", "link"):
        with pytest.raises(UserError, match=f"is a {kind}, not a folder"):
            refuse_foreign(tmp_path / kind, OWN, "")


def test_only_our_own_entries_are_removed(tmp_path: Path) -> None:
    path = folder(tmp_path, "notes.txt", "media/notes.txt")
    (path / "link").symlink_to(tmp_path)
    assert remove_own(path, OWN) == ["link", "notes.txt", "media/notes.txt"]
    assert sorted(entry.name for entry in path.rglob("*")) == ["link", "media", "notes.txt", "notes.txt"]


def test_a_folder_with_nothing_else_goes_as_a_whole_and_a_link_to_it_is_left_alone(tmp_path: Path) -> None:
    path, link = folder(tmp_path), tmp_path / "link"
    link.symlink_to(path)
    assert remove_own(link, OWN) == [] and (path / "scores.json").exists()
    assert remove_own(path, OWN) == [] and not path.exists()


@pytest.mark.parametrize("name", ["", "new", "new/below"])
def test_room_is_asked_for_by_writing_which_says_the_truth_to_root_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_room(tmp_path / name, "name another")
    assert not list(tmp_path.iterdir())
    refusal = Mock(side_effect=OSError(errno.EROFS, os.strerror(errno.EROFS)))
    monkeypatch.setattr("tokenworlds.files.TemporaryFile", refusal)
    with pytest.raises(UserError, match=r"allows no writing here \(Read-only file system\); name another\."):
        require_room(tmp_path / name, "name another")


def test_a_file_has_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(UserError, match=r"file is no folder; name another\."):
            require_room(tmp_path / name, "name another")


def test_any_number_of_threads_ask_and_write_at_the_same_time(tmp_path: Path) -> None:
    def work(name: int) -> None:
        for _ in range(200):
            require_room(tmp_path, "choose another folder")
            write_atomic(tmp_path / "state", bytes([name]) * 1000)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() in {bytes([name]) * 1000 for name in range(4)}


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "target", b"old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("tokenworlds.files.os.fsync", Mock(side_effect=full))
    with pytest.raises(UserError, match="No space left on device; free space or choose another folder"):
        write_atomic(tmp_path / "target", b"new")
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"old"
