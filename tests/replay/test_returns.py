"""Discounted returns of stored steps, frames before stored ones, and the steps that may be sampled."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.errors import UserError
from tokenworlds.replay import EpisodeSampler, EvaluationBuffer, ReplayBuffer, SegmentSampler
from tokenworlds.replay.companions import Companions
from tokenworlds.replay.previous import PreviousFrames
from tokenworlds.replay.returns import FinishedSteps, Returns

GAMMA = 0.5


def extend(buffer: ReplayBuffer, rewards: list[float], stream: int = 0, is_end: bool = False) -> None:
    count = len(rewards)
    ends = torch.zeros(count, dtype=torch.bool)
    ends[-1] = is_end
    numbers = torch.arange(buffer.rows, buffer.rows + count)
    frames = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, small.RESOLUTION, small.RESOLUTION)
    buffer.extend({"image": frames}, torch.zeros(count).long(), torch.tensor(rewards), ends, stream=stream)


def returns_of(buffer: ReplayBuffer, returns: Returns, index: int) -> list[float]:
    return returns.of(buffer.episode_rows(index)).tolist()


def empty() -> ReplayBuffer:
    return ReplayBuffer(small.picture_spec(), 50, small.CPU)


def test_a_lost_life_cuts_the_return() -> None:
    """A game of two lives: rewards of the second are no part of the first one's returns."""
    buffer = empty()
    extend(buffer, [1.0, 0.0, 4.0], is_end=True)
    extend(buffer, [8.0, 2.0], is_end=True)
    returns = Returns(buffer, gamma=GAMMA, unfinished=0)
    assert returns_of(buffer, returns, 0) == [1 + 4 / 4, 4 / 2, 4]
    assert returns_of(buffer, returns, 1) == [8 + 2 / 2, 2]


def test_returns_of_a_test_game_are_those_of_training() -> None:
    """Of clipped rewards, up to the end of a life; the buffer keeps the score."""
    buffer = EvaluationBuffer(small.picture_spec(), 50, small.CPU)
    rewards, signs, lives = [5.0, 0.0, -7.0, 9.0], [1.0, 0.0, -1.0, 2.0], [False, False, True, True]
    ends = torch.tensor([False, False, False, True])
    trained = [torch.tensor(signs), torch.tensor(lives)]
    actions = torch.zeros(4).long()
    buffer.extend({"image": small.frames(4)}, actions, torch.tensor(rewards), ends, trained=trained)
    assert returns_of(buffer, Returns(buffer, gamma=GAMMA, unfinished=0), 0) == [1 - 1 / 4, -1 / 2, -1, 2]
    stored = buffer.segments(torch.tensor([0]), torch.tensor([0]), 4)
    assert stored.rewards.tolist() == [rewards] and stored.terminations.tolist() == [[0, 0, 0, 1]]
    assert buffer.episode_return(0) == sum(rewards) and buffer.num_episodes == 1


def test_returns_are_computed_anew_when_an_episode_grows_also_between_others() -> None:
    buffer = empty()
    returns = Returns(buffer, gamma=GAMMA, unfinished=0)
    extend(buffer, [1.0, 2.0])
    assert returns_of(buffer, returns, 0) == [2, 2]
    extend(buffer, [100.0], stream=1)
    extend(buffer, [4.0], is_end=True)
    assert returns_of(buffer, returns, 0) == [3, 4, 4] and returns_of(buffer, returns, 1) == [100]


def test_a_final_observation_has_no_return() -> None:
    buffer = empty()
    frames = small.frames(2)
    final = {"image": frames[0]}
    buffer.extend({"image": frames}, torch.zeros(2).long(), torch.tensor([1.0, 2.0]), torch.tensor([0, 1]), final=final)
    assert returns_of(buffer, Returns(buffer, gamma=GAMMA, unfinished=0), 0) == [2, 2, 0]


@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40), min_size=1, max_size=4))
def test_returns_are_discounted_sums_of_what_follows(episodes: list[list[float]]) -> None:
    buffer = ReplayBuffer(small.picture_spec(), 200, small.CPU)
    for rewards in episodes:
        extend(buffer, rewards, is_end=True)
    returns = Returns(buffer, gamma=0.9, unfinished=0)
    for index, rewards in enumerate(episodes):
        expected = [sum(0.9**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]
        assert returns_of(buffer, returns, index) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("sampler", [EpisodeSampler, SegmentSampler])
def test_the_last_steps_of_running_episodes_alone_are_not_sampled(sampler: type[EpisodeSampler]) -> None:
    """Rows 1-3 run on, 4-5 have ended, 6-10 run on, 11 and 12 run on, too, and are too few."""
    buffer = empty()
    for stream, (count, is_end) in enumerate([(3, False), (2, True), (5, False), (2, False)]):
        extend(buffer, [0.0] * count, stream=stream, is_end=is_end)
    steps = Companions(buffer, {"image": {"returns": lambda one, _: Returns(one, gamma=GAMMA, unfinished=2)}}).steps
    drawn = sampler(steps, 200, 1, small.generator())
    drawn.refresh(1)
    assert set(drawn.rows().flatten().tolist()) == {1, 4, 5, 6, 7, 8}
    extend(buffer, [0.0], stream=0, is_end=True)
    drawn.refresh(2)
    assert set(drawn.rows().flatten().tolist()) == {1, 2, 3, 4, 5, 6, 7, 8, 13}


def test_steps_without_any_return_are_refused_in_a_sentence() -> None:
    buffer = empty()
    extend(buffer, [0.0] * 4)
    with pytest.raises(UserError, match="all episodes still run, and have at most 4 steps; collect for more epochs"):
        FinishedSteps(Returns(buffer, gamma=GAMMA, unfinished=4)).settle()
    assert FinishedSteps(Returns(buffer, gamma=GAMMA, unfinished=3)).num_episodes == 1


def test_a_refreshed_sampler_has_computed_all_returns() -> None:
    """No update has to, and to wait for it."""
    buffer = small.buffer([4, 5])
    companions = Companions(buffer, {"image": {"returns": lambda one, _: Returns(one, gamma=0.9, unfinished=0)}})
    sampler = EpisodeSampler(companions.steps, 3, 1, small.generator())
    sampler.refresh(1)
    with without_synchronisation():
        assert companions.of(sampler.rows().squeeze(1))["image"]["returns"].shape == (3,)


def test_the_frame_before_is_of_the_same_episode() -> None:
    """The first frame of an episode precedes itself; chunks of episodes may be interleaved."""
    buffer = empty()
    extend(buffer, [0.0] * 2, stream=0)
    extend(buffer, [0.0] * 2, stream=1)
    extend(buffer, [0.0], stream=0)
    before = PreviousFrames(buffer, "image").of(torch.tensor([1, 2, 3, 4, 5]))
    assert before[:, 0, 0, 0].tolist() == [1, 1, 3, 3, 2]


def test_companions_are_grouped_by_modality_and_wait_for_nothing() -> None:
    buffer = small.buffer([4, 5])
    companions = Companions(
        buffer, {"image": {"previous": PreviousFrames, "returns": lambda one, _: Returns(one, gamma=0.9, unfinished=3)}}
    )
    rows = torch.tensor([1, 6])
    companions.of(rows)
    with without_synchronisation():
        given = companions.of(rows)
    assert given.keys() == {"image"} and given["image"].keys() == {"previous", "returns"}
    assert given["image"]["returns"].shape == (2,) and given["image"]["previous"].dtype == torch.uint8


def test_without_needs_the_buffer_itself_is_sampled() -> None:
    buffer = small.buffer([4])
    companions = Companions(buffer, {})
    assert companions.steps is buffer and companions.of(torch.tensor([1])) == {}
