"""The importer of published checkpoints: what it says of files that are none. What it reads: tests/golden."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tokenworlds.checkpoints.__main__ import main


def error_of(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["import", str(file), "--task", "atari/Pong", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file" in error_of(tmp_path / "Pong.pt", tmp_path, capsys)


@pytest.mark.parametrize("name", ["Pong.pt", "Pong.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 30])
def test_rubbish(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "is damaged or no checkpoint" in error_of(tmp_path / name, tmp_path, capsys)


@pytest.mark.parametrize("kept", [100, -100])
def test_a_truncated_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int) -> None:
    file = tmp_path / "Pong.pt"
    torch.save({"tokenizer.embedding.weight": torch.ones(100, 100)}, file)
    file.write_bytes(file.read_bytes()[:kept])
    assert "is damaged or no checkpoint" in error_of(file, tmp_path, capsys)


def test_tensors_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    error = error_of(tmp_path / "other.safetensors", tmp_path, capsys)
    assert "has not the layout of a published IRIS checkpoint" in error


def test_something_that_is_no_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    assert "layout" in error_of(tmp_path / "list.pt", tmp_path, capsys)
