"""The replay buffer against a plain list of episodes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds.replay import ReplayBuffer, Segments

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def steps(count: int, first: int = 1) -> dict[str, Tensor]:
    """Steps that can be told apart: the n-th has the value n everywhere."""
    numbers = torch.arange(first, first + count)
    return {
        "image": numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2),
        "actions": numbers,
        "rewards": numbers.float() / 2,
    }


def extend(
    buffer: ReplayBuffer,
    count: int,
    first: int = 1,
    ends: list[int] | None = None,
    close: bool = False,
    stream: int = 0,
) -> None:
    flags = torch.zeros(count, dtype=torch.bool)
    flags[ends or []] = True
    data = steps(count, first)
    buffer.extend({"image": data["image"]}, data["actions"], data["rewards"], flags, close=close, stream=stream)


def empty(capacity: int = 50) -> ReplayBuffer:
    return ReplayBuffer({"image": (3, 2, 2)}, capacity, small.CPU)


def actions_of(buffer: ReplayBuffer, index: int) -> list[int]:
    segment = buffer.segments(torch.tensor([index]), torch.tensor([0]), buffer.episode_length(index))
    return segment.actions[0].tolist()


@settings(deadline=None, max_examples=60)
@given(data=st.data(), lengths=lengths_of_episodes, size=st.integers(1, 12))
def test_segments_are_slices_padded_with_zeros(data: st.DataObject, lengths: list[int], size: int) -> None:
    buffer = small.buffer(lengths)
    index = data.draw(st.integers(0, len(lengths) - 1))
    start = data.draw(st.integers(-size - 2, lengths[index] + 2))
    segments = buffer.segments(torch.tensor([index, 0]), torch.tensor([start, 0]), size)
    first, length = sum(lengths[:index]) + 1, lengths[index]
    stored, _ = buffer.state()
    for t in range(size):
        is_real = 0 <= start + t < length
        row = first + start + t - 1  # state() leaves out the blank row
        expected = {key: values[row] if is_real else torch.zeros_like(values[0]) for key, values in stored.items()}
        assert segments.mask[0, t] == is_real
        assert segments.rows[0, t] == (row + 1 if is_real else 0)
        assert torch.equal(segments.observations["image"][0, t], expected["observations.image"])
        for name in ("actions", "rewards", "ends"):
            assert torch.equal(getattr(segments, name)[0, t], expected[name])


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, capacity=st.integers(1, 5))
def test_growth_loses_nothing(lengths: list[int], capacity: int) -> None:
    grown, roomy = small.buffer(lengths, capacity=capacity), small.buffer(lengths)
    assert grown.capacity >= sum(lengths) == grown.num_steps
    for (key, ours), theirs in zip(grown.state()[0].items(), roomy.state()[0].values()):
        assert torch.equal(ours, theirs), key
    assert grown.state()[1] == roomy.state()[1]


def test_growth_doubles() -> None:
    buffer = empty(capacity=4)
    extend(buffer, 5)
    assert buffer.capacity == 8
    extend(buffer, 20, first=6)
    assert buffer.capacity == 25


def test_an_open_episode_is_continued() -> None:
    buffer = empty()
    extend(buffer, 3)
    assert buffer.open_episode() == 0 and buffer.num_episodes == 1
    extend(buffer, 2, first=4, ends=[1])
    assert buffer.open_episode() is None and actions_of(buffer, 0) == [1, 2, 3, 4, 5]
    extend(buffer, 1, first=6)
    assert buffer.num_episodes == 2 and actions_of(buffer, -1) == [6]
    assert buffer.lengths.tolist() == [5, 1] and buffer.num_steps == 6


def test_an_episode_is_cut_right_after_its_first_end() -> None:
    buffer = empty()
    extend(buffer, 6, ends=[2, 4])
    assert actions_of(buffer, 0) == [1, 2, 3] and buffer.num_steps == 3
    extend(buffer, 4)
    extend(buffer, 4, first=5, ends=[0, 3])
    assert actions_of(buffer, 1) == [1, 2, 3, 4, 5] and buffer.open_episode() is None


def test_streams_run_an_episode_each() -> None:
    buffer = empty()
    extend(buffer, 2, stream=0)
    extend(buffer, 1, first=10, stream=3)
    extend(buffer, 2, first=3, stream=0, ends=[1])
    assert (buffer.open_episode(0), buffer.open_episode(3), buffer.open_episode(1)) == (None, 1, None)
    extend(buffer, 1, first=20, stream=0)
    extend(buffer, 2, first=11, stream=3, close=True)
    assert [actions_of(buffer, index) for index in range(3)] == [[1, 2, 3, 4], [10, 11, 12], [20]]
    assert (buffer.open_episode(0), buffer.open_episode(3)) == (2, None)


def test_rows_can_be_read_as_they_are() -> None:
    buffer = empty()
    extend(buffer, 4, ends=[3])
    read = buffer.read(torch.tensor([[3, 0, 1]]))
    assert read.actions.tolist() == [[3, 0, 1]] and read.mask.tolist() == [[True, False, True]]
    assert read.observations["image"][0, :, 0, 0, 0].tolist() == [3, 0, 1]
    assert not buffer.read(torch.tensor([[3]]), look=False).observations


def test_close_ends_an_episode_without_an_end_flag() -> None:
    buffer = empty()
    extend(buffer, 3, close=True)
    extend(buffer, 2)
    assert buffer.num_episodes == 2
    assert not buffer.segments(torch.tensor([0]), torch.tensor([0]), 3).ends.any()


def test_extending_by_nothing_changes_nothing() -> None:
    buffer = empty()
    extend(buffer, 0)
    assert buffer.num_episodes == 0 and buffer.open_episode() is None


def test_return_of_an_episode_is_the_sum_of_its_raw_rewards() -> None:
    buffer = empty()
    extend(buffer, 3, ends=[2])
    extend(buffer, 2)
    extend(buffer, 1, first=10, stream=1)
    extend(buffer, 1, first=20)
    assert [buffer.episode_return(index) for index in (0, 1, -1)] == [3.0, 11.5, 5.0]


def test_clear_forgets_all_episodes() -> None:
    buffer = small.buffer([3, 4])
    buffer.clear()
    assert (buffer.num_steps, buffer.num_episodes, buffer.open_episode(), len(buffer.lengths)) == (0, 0, None, 0)
    extend_like = small.buffer([2])
    assert extend_like.num_steps == 2


def test_types_are_the_smallest_that_hold_the_data() -> None:
    segments: Segments = small.buffer([3]).segments(torch.tensor([0]), torch.tensor([0]), 2)
    assert segments.observations["image"].dtype == segments.ends.dtype == torch.uint8
    assert (segments.actions.dtype, segments.rewards.dtype) == (torch.int64, torch.float32)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), lengths=lengths_of_episodes)
def test_rows_saved_in_parts_are_restored(data: st.DataObject, lengths: list[int]) -> None:
    """As checkpoints do: shards of rows, the table last, into a buffer of another capacity."""
    source = small.buffer(lengths, is_open=data.draw(st.booleans()))
    cut = data.draw(st.integers(1, source.rows))
    head = {key: values[: cut - 1] for key, values in source.state()[0].items()}
    tail, table = source.state(cut)
    target = ReplayBuffer({"image": (3, small.RESOLUTION, small.RESOLUTION)}, 1, small.CPU)
    target.load_rows(head, 1)
    target.load_rows(tail, cut)
    target.load_table(table)
    assert target.state()[1] == source.state()[1]
    for (key, ours), theirs in zip(target.state()[0].items(), source.state()[0].values()):
        assert torch.equal(ours, theirs), key
    assert torch.equal(target.lengths, source.lengths) and target.open_episode() == source.open_episode()


def test_a_restored_buffer_goes_on_independently() -> None:
    source = small.buffer([3, 2], is_open=True)
    target = small.buffer([1])
    target.load_rows(source.state()[0], 1)
    target.load_table(source.state()[1])
    target.extend({"image": small.frames(1)}, torch.tensor([1]), torch.tensor([0.0]), torch.tensor([True]))
    assert target.lengths.tolist() == [3, 3] and source.lengths.tolist() == [3, 2]


def test_the_blank_row_stays_blank() -> None:
    buffer = small.buffer([5, 5], capacity=2)
    assert not buffer.observations(slice(0, 1))["image"].any()


@pytest.mark.parametrize("modalities", [("left", "right")])
def test_several_modalities_stay_together(modalities: tuple[str, str]) -> None:
    buffer = ReplayBuffer({"left": (1, 2, 2), "right": (4,)}, 3, small.CPU)
    numbers = torch.arange(1, 6, dtype=torch.uint8)
    observations = {"left": numbers[:, None, None, None].expand(-1, 1, 2, 2), "right": numbers[:, None].expand(-1, 4)}
    buffer.extend(observations, numbers.long(), numbers.float(), numbers == 5)
    segments = buffer.segments(torch.tensor([0]), torch.tensor([2]), 4)
    assert segments.observations["left"][0, :, 0, 0, 0].tolist() == [3, 4, 5, 0]
    assert segments.observations["right"][0, :, 3].tolist() == [3, 4, 5, 0]
