"""Checkpoints as files: whole or absent, two kept, damage noticed; replay rows written once."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tokenworlds.epoch_files import epoch_of, heads
from tokenworlds.errors import UserError
from tokenworlds.replay import ReplayBuffer
from tokenworlds.training import checkpoint
from tokenworlds.training.checkpoint import CheckpointFolder, load_optimizer, optimizer_tensors

HASH = "0123456789ab"


def tensors(epoch: int) -> dict[str, Tensor]:
    return {"agent.weight": torch.full((3,), float(epoch)), "agent.scalar": torch.tensor(epoch)}


def grown(epochs: int) -> ReplayBuffer:
    """The buffer after some epochs of three steps each."""
    return small.buffer([3] * epochs)


def save(
    folder: Path, epoch: int, buffer: ReplayBuffer | None = None, checkpoints: CheckpointFolder | None = None
) -> None:
    (checkpoints or CheckpointFolder(folder, HASH)).save(epoch, tensors(epoch), {"n": epoch}, buffer or grown(1))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of epochs 1 and 2."""
    checkpoints = CheckpointFolder(tmp_path, HASH)
    for epoch in (1, 2):
        save(tmp_path, epoch, grown(epoch), checkpoints)
    return tmp_path


def restored(folder: Path) -> tuple[int, ReplayBuffer]:
    checkpoints = CheckpointFolder(folder, HASH)
    loaded = checkpoints.latest()
    assert loaded is not None
    found, head = loaded
    epoch = head["epoch"]
    assert head["state"] == {"n": epoch}
    assert all(torch.equal(found[key], value) for key, value in tensors(epoch).items())
    buffer = ReplayBuffer(small.picture_spec(), 1, small.CPU)
    checkpoints.load_replay(buffer, head["replay"])
    return epoch, buffer


def assert_same(buffer: ReplayBuffer, expected: ReplayBuffer) -> None:
    assert buffer.state()[1] == expected.state()[1]
    for (key, ours), theirs in zip(buffer.state()[0].items(), expected.state()[0].values()):
        assert torch.equal(ours, theirs), key


def error_of(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        restored(folder)
    return str(caught.value)


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path, HASH).latest() is None
    assert CheckpointFolder(tmp_path / "absent", HASH).latest() is None


def test_the_newest_checkpoint_comes_back_whole(two: Path) -> None:
    epoch, buffer = restored(two)
    assert epoch == 2
    assert_same(buffer, grown(2))


def test_at_most_two_checkpoints_are_kept_and_all_replay_rows(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, HASH)
    for epoch in range(1, 6):
        save(tmp_path, epoch, grown(epoch), checkpoints)
    assert sorted(path.stem for path in tmp_path.glob("epoch_*.json")) == ["epoch_00004", "epoch_00005"]
    assert sorted(path.stem for path in tmp_path.glob("epoch_*.safetensors")) == ["epoch_00004", "epoch_00005"]
    assert_same(restored(tmp_path)[1], grown(5))


def test_checkpoints_are_in_the_order_of_their_epochs_whatever_their_digits(tmp_path: Path) -> None:
    for epoch in range(99_998, 100_002):
        save(tmp_path, epoch, grown(1))
    assert [epoch_of(head) for head in heads(tmp_path)] == [100_000, 100_001]
    assert restored(tmp_path)[0] == 100_001


def test_rows_are_written_once(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, HASH)
    save(tmp_path, 1, grown(2), checkpoints)
    (first,) = tmp_path.glob("replay_*")
    written = first.stat().st_mtime_ns
    save(tmp_path, 2, grown(3), checkpoints)
    save(tmp_path, 3, grown(3), checkpoints)  # nothing new
    names = sorted(path.name for path in tmp_path.glob("replay_*"))
    assert names == ["replay_000000001_000000007.safetensors", "replay_000000007_000000010.safetensors"]
    assert first.stat().st_mtime_ns == written


def test_episodes_that_run_side_by_side_come_back(tmp_path: Path) -> None:
    buffer = grown(1)
    nothing = torch.zeros(2)
    for stream in (0, 1, 0):
        buffer.extend({"image": small.frames(2)}, nothing.long(), nothing, nothing, stream=stream)
    save(tmp_path, 1, buffer)
    found = restored(tmp_path)[1]
    assert_same(found, buffer)
    assert [found.open_episode(stream) for stream in (0, 1)] == [1, 2] and found.lengths.tolist() == [3, 4, 2]


def test_deleting_the_newest_head_resumes_from_the_one_before(two: Path) -> None:
    (two / "epoch_00002.json").unlink()
    epoch, buffer = restored(two)
    assert epoch == 1
    assert_same(buffer, grown(1))
    assert len(list(two.glob("replay_*"))) == 1  # the later shard's rows will come again


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(3))
@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_kill_during_a_write_leaves_the_checkpoint_before(
    two: Path, monkeypatch: pytest.MonkeyPatch, after: int, moment: str
) -> None:
    """Three files are written: replay shard, tensors, head. Real kills: test_resume."""
    calls = 0

    def counts() -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed

    real_replace, real_write = os.replace, checkpoint.write_atomic

    def replace(source: Any, target: Any) -> None:
        counts()
        real_replace(source, target)

    def write(path: Path, content: bytes) -> None:
        if calls == after:
            path.with_name(path.name + ".tmp").write_bytes(content[: len(content) // 2])
        counts()
        real_write(path, content)

    checkpoints = CheckpointFolder(two, HASH)
    loaded = checkpoints.latest()
    assert loaded is not None
    checkpoints.load_replay(grown(1), loaded[1]["replay"])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "writing":
            patch.setattr(checkpoint, "write_atomic", write)
        else:
            patch.setattr(os, "replace", replace)
        save(two, 3, grown(3), checkpoints)
    epoch, buffer = restored(two)
    assert epoch == 2
    assert_same(buffer, grown(2))
    again = CheckpointFolder(two, HASH)
    loaded = again.latest()
    assert loaded is not None
    again.load_replay(buffer, loaded[1]["replay"])
    save(two, 3, grown(3), again)
    assert_same(restored(two)[1], grown(3))


def test_leftovers_of_a_kill_before_the_first_checkpoint_are_not_used(tmp_path: Path) -> None:
    """Another machine, or a GPU, may collect other steps the second time."""
    save(tmp_path, 1, small.buffer([3], seed=1))
    (tmp_path / "epoch_00001.json").unlink()
    save(tmp_path, 1, small.buffer([3], seed=2))
    assert_same(restored(tmp_path)[1], small.buffer([3], seed=2))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("position", [0, 8, 100, -1])
def test_a_flipped_bit_in_the_weights_is_noticed(two: Path, position: int) -> None:
    flip(two / "epoch_00002.safetensors", position)
    assert "is damaged" in error_of(two)


def test_every_flipped_bit_in_the_head_is_noticed(two: Path) -> None:
    head = two / "epoch_00002.json"
    content = head.read_bytes()
    for position in range(len(content)):
        flip(head, position)
        with pytest.raises(UserError, match=r"delete .* to resume from the checkpoint before it"):
            restored(two)
        head.write_bytes(content)
    assert restored(two)[0] == 2


@pytest.mark.parametrize("name", ["epoch_00002.json", "epoch_00002.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_truncated_file_is_an_error_with_a_remedy_that_works(two: Path, name: str, kept: int) -> None:
    path = two / name
    path.write_bytes(path.read_bytes()[:kept])
    message = error_of(two)
    assert f"delete {two / 'epoch_00002.json'} to resume from the checkpoint before it" in message
    (two / "epoch_00002.json").unlink()
    assert restored(two)[0] == 1


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"checksum": "x"}'])
def test_a_head_of_another_shape_is_an_error(two: Path, content: str) -> None:
    (two / "epoch_00002.json").write_text(content)
    assert "delete" in error_of(two)


def test_a_checkpoint_of_another_configuration_is_refused(two: Path) -> None:
    with pytest.raises(UserError, match="belongs to another configuration"):
        CheckpointFolder(two, "f" * 12).latest()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_or_missing_shard_is_an_error(two: Path, damage: str) -> None:
    shard = sorted(two.glob("replay_*"))[0]
    if damage == "flip":
        flip(shard, -1)
    elif damage == "truncate":
        shard.write_bytes(shard.read_bytes()[:-20])
    else:
        shard.unlink()
    message = error_of(two)
    assert f"replay shard {shard} is {'missing' if damage == 'remove' else 'damaged'}" in message
    assert f"delete {two} to start again" in message


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_restored_optimiser_makes_the_same_next_steps(kind: Any) -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    twin = nn.Linear(3, 2)

    def update(target: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        target(torch.randn(4, 3, generator=small.generator(seed))).square().sum().backward()
        optimizer.step()

    optimizer = kind(module.parameters(), lr=0.1, fused=True)
    for seed in range(3):
        update(module, optimizer, seed)
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer).items()}
    assert len(saved) == 6  # step and two moments of two parameters
    twin.load_state_dict(module.state_dict())
    restored_optimizer = kind(twin.parameters(), lr=0.1, fused=True)
    load_optimizer(restored_optimizer, saved)
    for seed in range(3, 6):
        update(module, optimizer, seed)
        update(twin, restored_optimizer, seed)
    assert torch.equal(module.weight, twin.weight) and torch.equal(module.bias, twin.bias)
