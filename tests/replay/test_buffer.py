"""The replay buffer against a plain list of episodes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds.envs import ContinuousActions, EnvironmentSpec, GridSpec, ImageSpec, MultiDiscreteActions, VectorSpec
from tokenworlds.replay import ReplayBuffer

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
    return ReplayBuffer(small.picture_spec(3, 2, 2), capacity, small.CPU)


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
        for name, key in (("actions", "actions"), ("rewards", "rewards"), ("terminations", "ends")):
            assert torch.equal(getattr(segments, name)[0, t], expected[key])


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, capacity=st.integers(1, 5))
def test_growth_loses_nothing(lengths: list[int], capacity: int) -> None:
    grown, roomy = small.buffer(lengths, capacity=capacity), small.buffer(lengths)
    assert grown.capacity >= sum(lengths) == grown.num_steps
    for (key, ours), theirs in zip(grown.state()[0].items(), roomy.state()[0].values()):
        assert torch.equal(ours, theirs), key
    assert grown.state()[1] == roomy.state()[1]


def test_an_open_episode_is_continued() -> None:
    buffer = empty(capacity=2)
    extend(buffer, 0)
    assert buffer.num_episodes == 0 and buffer.open_episode() is None
    extend(buffer, 3)
    assert buffer.open_episode() == 0 and buffer.num_episodes == 1
    extend(buffer, 2, first=4, ends=[1])
    assert buffer.open_episode() is None and actions_of(buffer, 0) == [1, 2, 3, 4, 5]
    extend(buffer, 1, first=6)
    assert buffer.num_episodes == 2 and actions_of(buffer, -1) == [6]
    assert buffer.lengths.tolist() == [5, 1] and buffer.num_steps == 6 and buffer.capacity == 8  # doubled twice
    buffer.clear()
    assert (buffer.num_steps, buffer.num_episodes, buffer.open_episode(), len(buffer.lengths)) == (0, 0, None, 0)


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
    assert not buffer.segments(torch.tensor([1]), torch.tensor([0]), 3).terminations.any()  # it was closed


def test_rows_can_be_read_as_they_are() -> None:
    buffer = empty()
    extend(buffer, 4, ends=[3])
    read = buffer.read(torch.tensor([[3, 0, 1]]))
    assert read.actions.tolist() == [[3, 0, 1]] and read.mask.tolist() == [[True, False, True]]
    assert read.observations["image"][0, :, 0, 0, 0].tolist() == [3, 0, 1]
    assert not buffer.read(torch.tensor([[3]]), with_observations=False).observations


def test_return_of_an_episode_is_the_sum_of_its_raw_rewards() -> None:
    buffer = empty()
    extend(buffer, 3, ends=[2])
    extend(buffer, 2)
    extend(buffer, 1, first=10, stream=1)
    extend(buffer, 1, first=20)
    assert [buffer.episode_return(index) for index in (0, 1, -1)] == [3.0, 11.5, 5.0]


@settings(deadline=None, max_examples=30)
@given(data=st.data(), lengths=lengths_of_episodes)
def test_rows_saved_in_parts_are_restored(data: st.DataObject, lengths: list[int]) -> None:
    """As checkpoints do: shards of rows, the table last, into a buffer of another capacity."""
    source = small.buffer(lengths, is_open=data.draw(st.booleans()))
    cut = data.draw(st.integers(1, source.rows))
    head = {key: values[: cut - 1] for key, values in source.state()[0].items()}
    tail, table = source.state(cut)
    target = ReplayBuffer(small.picture_spec(), 1, small.CPU)
    target.load_rows(head, 1)
    target.load_rows(tail, cut)
    target.load_table(table)
    assert target.state()[1] == source.state()[1]
    for (key, ours), theirs in zip(target.state()[0].items(), source.state()[0].values()):
        assert torch.equal(ours, theirs), key
    assert torch.equal(target.lengths, source.lengths) and target.open_episode() == source.open_episode()
    target.extend({"image": small.frames(1)}, torch.tensor([1]), torch.tensor([0.0]), torch.tensor([True]))
    assert target.num_steps == source.num_steps + 1  # which the addition has left alone


def test_several_modalities_stay_together() -> None:
    """Whatever their types and sizes: rows of an odd number of bytes, of floats, of two bytes an entry."""
    modalities = {"image": ImageSpec(3, 1, 1), "vector": VectorSpec(3), "token_2d": GridSpec(1, 2, (5, 300))}
    buffer = ReplayBuffer(EnvironmentSpec(modalities, small.DISCRETE), 3, small.CPU)
    numbers = torch.arange(1, 6)
    given = {name: numbers.view(-1, *[1] * len(m.shape)).expand(-1, *m.shape) for name, m in modalities.items()}
    given["vector"] = given["vector"] - 0.25
    buffer.extend(given, numbers, numbers.float(), numbers == 5)
    found = buffer.segments(torch.tensor([0]), torch.tensor([2]), 4).observations
    for name, (dtype, shift) in {
        "image": (torch.uint8, 0),
        "vector": (torch.float32, 0.25),
        "token_2d": (torch.int16, 0),
    }.items():
        assert found[name].shape == (1, 4, *modalities[name].shape) and found[name].dtype == dtype
        for values in found[name][0].flatten(1).T.tolist():
            assert values == [3 - shift, 4 - shift, 5 - shift, 0]


@pytest.mark.parametrize(
    ("actions", "dtype"), [(ContinuousActions(3), torch.float32), (MultiDiscreteActions((4, 2)), torch.int64)]
)
def test_actions_of_several_numbers(actions: ContinuousActions | MultiDiscreteActions, dtype: torch.dtype) -> None:
    buffer = ReplayBuffer(small.picture_spec(1, 1, 1, actions=actions), 2, small.CPU)
    given = torch.arange(5 * actions.shape[0]).view(5, -1) / (8 if dtype.is_floating_point else 1)
    frames = torch.zeros(5, 1, 1, 1)
    buffer.extend({"image": frames}, given, torch.zeros(5), torch.arange(5) == 4, final={"image": frames[0]})
    found = buffer.segments(torch.tensor([0]), torch.tensor([-1]), 8).actions
    nothing = torch.zeros(1, *actions.shape)
    assert found.dtype == dtype and torch.equal(found[0].float(), torch.cat([nothing, given, nothing, nothing]).float())
    tensors, table = buffer.state()
    again = ReplayBuffer(small.picture_spec(1, 1, 1, actions=actions), 1, small.CPU)
    again.load_rows(tensors, 1)
    again.load_table(table)
    assert torch.equal(again.state()[0]["actions"], tensors["actions"])


def final(number: int) -> dict[str, Tensor]:
    return {"image": torch.full((3, 2, 2), number, dtype=torch.uint8)}


def test_a_final_observation_is_an_entry_of_its_own_behind_the_first_end() -> None:
    buffer = empty(capacity=2)
    flags = torch.tensor([0, 0, 1, 0, 1])
    data = steps(5)
    buffer.extend({"image": data["image"]}, data["actions"], data["rewards"], flags, final=final(99))
    entries = buffer.segments(torch.tensor([0]), torch.tensor([0]), 5)
    assert entries.observations["image"][0, :, 0, 0, 0].tolist() == [1, 2, 3, 99, 0]
    assert entries.actions[0].tolist() == [1, 2, 3, 0, 0] and entries.rewards[0].tolist() == [0.5, 1, 1.5, 0, 0]
    assert entries.terminations[0].tolist() == [0, 0, 1, 0, 0] and entries.mask[0].tolist() == [True] * 4 + [False]
    assert (buffer.num_steps, buffer.rows, buffer.lengths.tolist(), buffer.episode_steps(0)) == (3, 5, [4], 3)
    assert buffer.episode_return(0) == 3.0 and buffer.successors().tolist() == [0, 2, 3, 4, 0]


def test_a_final_observation_is_stored_when_the_episode_is_closed_and_not_before() -> None:
    buffer = empty()
    data = steps(2)
    whole = ({"image": data["image"]}, data["actions"], data["rewards"], torch.zeros(2))
    buffer.extend(*whole, final=final(8))
    assert buffer.num_steps == 2 == buffer.rows - 1 and buffer.open_episode() == 0
    buffer.extend(*whole, stream=1)
    buffer.extend(*whole, close=True, final=final(9))
    assert buffer.open_episode() is None and actions_of(buffer, 0) == [1, 2, 1, 2, 0]
    assert [buffer.episode_length(index) for index in (0, 1, -1)] == [5, 2, 2]
    assert [buffer.episode_steps(index) for index in (0, 1, -2)] == [4, 2, 4] and buffer.num_steps == 6


def test_memory_that_was_used_before_does_not_show_in_a_final_entry() -> None:
    buffer = empty()
    extend(buffer, 6)
    buffer.clear()
    data = steps(2)
    buffer.extend({"image": data["image"]}, data["actions"], data["rewards"], torch.ones(2), final=final(7))
    assert [values[-1].sum() for name, values in buffer.state()[0].items() if name != "observations.image"] == [0, 0, 0]
