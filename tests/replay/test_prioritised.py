"""Segments by their losses: which there are, how often each is drawn, and where losses go."""

import itertools
from collections import Counter
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.replay.test_priorities import chi_square_holds, sequences
from tests.replay.test_table import Piece, pieces
from tests.synchronisation import without_synchronisation
from tokenworlds.errors import UserError
from tokenworlds.replay import PrioritisedSampler, ReplayBuffer, SegmentSampler


def sampler_of(
    buffer: ReplayBuffer,
    count: int = 4,
    length: int = 1,
    *,
    context: int = 0,
    uniform_fraction: float = 0.7,
    lag: int = 0,
    seed: int = 0,
    is_ready: bool = True,
) -> PrioritisedSampler:
    sampler = PrioritisedSampler(
        buffer, count, length, small.generator(seed), context=context, uniform_fraction=uniform_fraction, lag=lag
    )
    if is_ready:
        sampler.refresh(1)
    return sampler


def rows(sampler: PrioritisedSampler) -> list[int]:
    """The first rows of a batch's segments."""
    return cast(list[int], sampler.rows()[:, 0].tolist())


def drawn(sampler: PrioritisedSampler) -> list[int]:
    """The numbers of a batch's segments, without reading them: for those who draw very often."""
    return cast(list[int], sampler._choose().tolist())


def set_priorities(sampler: PrioritisedSampler, numbers: list[int], values: list[float]) -> None:
    sampler._latest = torch.tensor(numbers)
    sampler.update_priorities(torch.tensor(values))


def extend(buffer: ReplayBuffer, piece: Piece) -> None:
    nothing = torch.zeros(piece.steps)
    images = torch.zeros(piece.steps, 3, 2, 2)
    buffer.extend({"image": images}, nothing, nothing, nothing, stream=piece.stream, close=piece.is_last)


@settings(deadline=None, max_examples=60)
@given(script=pieces, context=st.integers(0, 3), length=st.integers(1, 6))
def test_segments_are_those_of_the_plain_sampler(script: list[Piece], context: int, length: int) -> None:
    """However many episodes grow at a time, and whenever it is told."""
    buffer = ReplayBuffer(small.picture_spec(3, 2, 2), 1, small.CPU)
    gradual = sampler_of(buffer, 2, length, context=context, is_ready=False)
    for piece in script:
        extend(buffer, piece)
        if max(buffer.lengths.tolist()) > context:
            gradual.refresh(1)
    if max(buffer.lengths.tolist()) <= context:
        with pytest.raises(UserError, match=f"no stored episode is longer than the context of {context} steps"):
            gradual.refresh(1)
        return
    plain = SegmentSampler(buffer, 2, length, small.generator(), context=context)
    plain.refresh(1)
    expected = plain.rows_of(torch.arange(int(plain._stops[-1]))).tolist()
    assert sorted(gradual.rows_of(gradual._segments).tolist()) == sorted(expected)
    assert (gradual.priorities() == 10).all()


def test_segments_keep_their_priorities_while_episodes_grow() -> None:
    buffer = ReplayBuffer(small.picture_spec(3, 2, 2), 1, small.CPU)
    for stream in (0, 1):
        extend(buffer, Piece(4, stream, False))  # rows 1-4 and 5-8
    sampler = sampler_of(buffer, context=1)
    assert sampler._segments.tolist() == [1, 2, 3, 5, 6, 7]
    set_priorities(sampler, [1, 3, 5, 7], [0.5, 1.5, 2.5, 3.5])
    assert sampler.priorities().tolist() == [0.5, 10, 1.5, 2.5, 10, 3.5]
    extend(buffer, Piece(2, 1, True))  # rows 9-10 behind 8
    extend(buffer, Piece(2, 0, False))  # rows 11-12 behind 4
    assert sampler.priorities().tolist() == [0.5, 10, 1.5, 2.5, 10, 3.5]  # until it is told
    sampler.refresh(2)
    assert sampler._segments.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert sampler.priorities().tolist() == [0.5, 10, 1.5, 10, 2.5, 10, 3.5, 10, 10, 10]
    assert sampler.rows_of(torch.tensor([4, 8])).tolist() == [[4], [8]]


@pytest.mark.parametrize(("fraction", "count", "expected"), [(0.7, 32, 10), (0.7, 10, 3), (1.0, 4, 0), (0.0, 4, 4)])
def test_the_share_that_is_drawn_by_priority_is_rounded_up(fraction: float, count: int, expected: int) -> None:
    assert sampler_of(flat(count), count, uniform_fraction=fraction)._by_priority == expected


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40) | st.integers(500, 600),
    count=st.integers(1, 9),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_batches_are_full_and_without_repeats_unless_there_are_too_few(
    n: int, count: int, fraction: float, seed: int
) -> None:
    sampler = sampler_of(flat(n), count, uniform_fraction=fraction, seed=seed)
    for _ in range(5):
        found = rows(sampler)
        assert len(found) == count and set(found) <= set(range(1, n + 1))
        assert len(set(found)) == count or n < count
        sampler.update_priorities(torch.rand(count, generator=small.generator(seed)))


def flat(count: int) -> ReplayBuffer:
    """As ``frames``, with pictures of one pixel."""
    buffer = ReplayBuffer(small.picture_spec(1, 1, 1), count, small.CPU)
    extend_flat(buffer, count)
    return buffer


def batches(weights: list[float], by_priority: int, uniformly: int) -> dict[tuple[int, ...], float]:
    """The probabilities of all sets of rows."""
    chances: Counter[tuple[int, ...]] = Counter()
    for first, chance in sequences(weights, by_priority).items():
        left = sorted(set(range(len(weights))) - set(first))
        choices = list(itertools.combinations(left, uniformly))
        for others in choices:
            chances[tuple(sorted(1 + item for item in first + others))] += chance / len(choices)
    return chances


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_every_batch_is_as_likely_as_it_should_be(fraction: float) -> None:
    weights = [4.0, 1.0, 2.0, 0.5, 1.5, 0.1]
    sampler = sampler_of(flat(6), uniform_fraction=fraction)
    set_priorities(sampler, [1, 2, 3, 4, 5, 6], torch.tensor(weights).log().tolist())
    counts = Counter(tuple(sorted(drawn(sampler))) for _ in range(1000))
    uniformly = round(4 * fraction)
    assert chi_square_holds(counts, batches(weights, 4 - uniformly, uniformly))


def test_the_uniform_part_of_many_segments_leaves_out_what_is_taken() -> None:
    """One segment is drawn by priority for certain, the other one is any of the rest."""
    sampler = sampler_of(flat(130), 2, uniform_fraction=0.5)
    set_priorities(sampler, [77], [200.0])
    counts = Counter(tuple(row for row in drawn(sampler) if row != 77) for _ in range(1000))
    assert chi_square_holds(counts, {(row,): 1 / 129 for row in range(1, 131) if row != 77})


def test_few_segments_are_drawn_with_replacement() -> None:
    weights = torch.tensor([3.0, 1.0])
    sampler = sampler_of(flat(2), uniform_fraction=0.5)
    set_priorities(sampler, [1, 2], weights.log().tolist())
    counts = Counter((drawn(sampler).count(1),) for _ in range(1000))
    two, any_two = ({0: (1 - p) ** 2, 1: 2 * p * (1 - p), 2: p**2} for p in (0.75, 0.5))
    chances: Counter[tuple[int, ...]] = Counter()
    for some, others in itertools.product(two, any_two):
        chances[(some + others,)] += two[some] * any_two[others]
    assert chi_square_holds(counts, chances)


@pytest.mark.parametrize("n", [5, 600])
def test_batches_are_shuffled(n: int) -> None:
    """What is drawn by priority stands anywhere: every part of a batch is alike."""
    sampler = sampler_of(flat(n))
    set_priorities(sampler, [3], [200.0])
    counts = Counter((drawn(sampler).index(3),) for _ in range(500))
    assert chi_square_holds(counts, {(place,): 1 / 4 for place in range(4)})


def test_new_segments_come_first() -> None:
    """Losses are far below 10: nearly all of the share by priority was never drawn."""
    sampler, met = sampler_of(flat(200), 10), set()
    for _ in range(60):
        found = set(rows(sampler))
        met |= found
        sampler.update_priorities(torch.ones(10))
    assert len(met) == 200


def test_losses_become_the_priorities_of_the_segments_drawn_last() -> None:
    sampler = sampler_of(flat(50))
    for number in range(5):
        found, losses = rows(sampler), torch.arange(4) / 8 + number
        sampler.update_priorities(losses.requires_grad_())
        assert sampler.priorities()[torch.tensor(found) - 1].tolist() == losses.tolist()
    found = rows(sampler)
    before = sampler.priorities()
    sampler.refresh(2)  # an update without losses changes nothing
    assert torch.equal(sampler.priorities(), before) and found


@pytest.mark.parametrize("lag", [1, 4])
def test_a_lag_gives_losses_to_a_later_batch(lag: int) -> None:
    sampler = sampler_of(flat(100), lag=lag)
    drawn, written = [], []
    for number in range(12):
        drawn.append(set(rows(sampler)))
        sampler.update_priorities(torch.full((4,), -1.0 - number))
        written.append(set((torch.nonzero(sampler.priorities() == -1 - number).flatten() + 1).tolist()))
    assert written[:-lag] == drawn[lag:]
    sampler.refresh(2)  # a new epoch: what was drawn ahead is forgotten
    assert not sampler._ahead


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("n", [3, 20, 400])
def test_saved_priorities_and_generator_continue_the_draws(lag: int, n: int) -> None:
    def train(sampler: PrioritisedSampler) -> list[list[int]]:
        found = []
        for _ in range(6):
            found.append(rows(sampler))
            sampler.update_priorities(torch.arange(4) / 4.0 + found[-1][0])
        return found

    buffer = flat(n)
    sampler = sampler_of(buffer, lag=lag)
    train(sampler)
    saved, state = ({key: value.clone() for key, value in sampler.state().items()}, sampler.generator.get_state())
    assert len(saved["priorities"]) == buffer.rows
    resumed = sampler_of(buffer, lag=lag, seed=5, is_ready=False)
    resumed.load_state(saved)
    resumed.generator.set_state(state)
    extend_flat(buffer, 5)
    for some in (sampler, resumed):
        some.refresh(2)
    assert torch.equal(sampler.priorities(), resumed.priorities())
    assert train(sampler) == train(resumed)
    assert torch.equal(sampler.priorities(), resumed.priorities())


def extend_flat(buffer: ReplayBuffer, count: int) -> None:
    nothing: Tensor = torch.zeros(count)
    buffer.extend({"image": nothing.view(-1, 1, 1, 1)}, nothing, nothing, nothing)


def test_a_sampler_that_was_never_used_is_saved_and_resumed() -> None:
    """Before the world model starts to train, there is nothing in it, whatever is stored."""
    buffer = flat(300)
    fresh, resumed = sampler_of(buffer, is_ready=False), sampler_of(buffer, is_ready=False)
    resumed.load_state(fresh.state())
    resumed.refresh(1)
    assert resumed.priorities().tolist() == [10] * 300


@pytest.mark.parametrize("n", [2, 40, 400])
@pytest.mark.parametrize("lag", [0, 3])
def test_drawing_and_feedback_wait_for_nothing(n: int, lag: int) -> None:
    sampler = sampler_of(flat(n), length=3, lag=lag)
    with without_synchronisation():
        for _ in range(3):
            sampler.sample()
            sampler.update_priorities(torch.rand(4, generator=small.generator()))
