"""A run's folder is compared with its manifest; what differs is named in one sentence."""

import json
import struct
from pathlib import Path

import pytest

from tokenworlds.errors import UserError
from tokenworlds.runs.manifest import MANIFEST, manifest, read_weights_header, verify, write_manifest


def make_folder(folder: Path) -> Path:
    (folder / "media").mkdir(parents=True)
    (folder / "scores.json").write_text('{"score": 1}')
    (folder / "media" / "x.png").write_bytes(b"picture")
    return folder


def weights(shape: tuple[int, ...] = (2, 3)) -> bytes:
    size = 4 * shape[0] * shape[1]
    header = json.dumps({
        "__metadata__": {"format": "pt"},
        "policy.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]},
    }).encode()  # fmt: skip
    return struct.pack("<Q", len(header)) + header + bytes(size)


def test_every_file_but_the_manifest_itself_is_listed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run")
    write_manifest(folder)
    assert manifest(folder) == json.loads((folder / MANIFEST).read_text())
    assert list(manifest(folder)["files"]) == ["media/x.png", "scores.json"]
    assert manifest(folder)["files"]["media/x.png"]["bytes"] == 7
    verify(folder, ["scores.json", "media/x.png", "not listed.csv"])


def test_a_folder_without_a_manifest_passes(tmp_path: Path) -> None:
    verify(make_folder(tmp_path / "run"), ["scores.json"])


def test_cut_missing_and_altered_files_are_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run")
    write_manifest(folder)
    (folder / "scores.json").write_text('{"score": 2}')
    verify(folder)  # sizes only
    with pytest.raises(UserError, match=r"scores.json is damaged \(its content is not what the run wrote\); restore"):
        verify(folder, ["scores.json"])
    (folder / "media" / "x.png").write_bytes(b"pict")
    with pytest.raises(UserError, match=r"x.png is damaged \(4 of 7 bytes\); restore it with"):
        verify(folder)
    (folder / "media" / "x.png").unlink()
    with pytest.raises(UserError, match=r"x.png is missing; restore it with"):
        verify(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2, "files": {}}', '{"schema": 1, "files": {"a": 1}}'])
def test_an_unreadable_manifest_is_refused(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path / "run")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(UserError, match="cannot be read as a list of a run's files"):
        verify(folder)


def test_weights_agree_with_their_header(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(weights())
    assert read_weights_header(path) == {"policy.weight": [2, 3]}


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (weights()[:-1], "bytes"),
        (weights() + b"more", "bytes"),
        (weights()[:40], "no safetensors header"),
        (b"", "bytes"),
        (struct.pack("<Q", 2) + b"[]", "no safetensors header"),
        (struct.pack("<Q", 1 << 60) + b"{}", "no safetensors header"),
    ],
)
def test_weights_that_lost_their_end_are_refused(tmp_path: Path, content: bytes, finding: str) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"agent.safetensors is damaged \(.*{finding}.*\); restore it with"):
        read_weights_header(path)
