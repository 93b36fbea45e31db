"""Which segments are drawn, and how often."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.config import Sampling
from tokenworlds.errors import UserError
from tokenworlds.replay import SAMPLERS, EpisodeSampler, SegmentSampler, sample_from_end, sample_from_start, traverse
from tokenworlds.replay.sampling import Anchor

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)
anchors = st.sampled_from(["start", "end"])


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, size=st.integers(1, 12), seed=st.integers(0, 99))
def test_segments_from_the_start_begin_with_a_real_step(lengths: list[int], size: int, seed: int) -> None:
    segments = sample_from_start(small.buffer(lengths), 16, size, small.generator(seed))
    assert segments.mask.shape == (16, size) and segments.mask[:, 0].all()
    assert (segments.mask[:, 1:] <= segments.mask[:, :-1]).all()  # padding on the right alone


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, size=st.integers(1, 12), seed=st.integers(0, 99))
def test_segments_from_the_end_finish_with_a_real_step(lengths: list[int], size: int, seed: int) -> None:
    segments = sample_from_end(small.buffer(lengths), 16, size, small.generator(seed))
    assert segments.mask.shape == (16, size) and segments.mask[:, -1].all()
    assert (segments.mask[:, 1:] >= segments.mask[:, :-1]).all()  # padding on the left alone


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, least=st.integers(1, 6), seed=st.integers(0, 99), anchor=anchors)
def test_a_least_number_of_real_steps_can_be_asked_for(
    lengths: list[int], least: int, seed: int, anchor: Anchor
) -> None:
    """Shorter episodes give all they have."""
    buffer = small.buffer(lengths)
    draw = {"start": sample_from_start, "end": sample_from_end}[anchor]
    segments = draw(buffer, 32, 9, small.generator(seed), least=least)
    episodes = torch.searchsorted(1 + buffer.lengths.cumsum(0), segments.rows.max(dim=1).values, right=True)
    assert (segments.mask.sum(dim=1) >= buffer.lengths[episodes].clamp(max=least)).all()


DRAWS = 20_000


def frequency_is(observed: torch.Tensor, probability: float) -> bool:
    """Within five standard deviations of a binomial: a wrong alarm once in two million tests (the seed is fixed)."""
    deviation = (DRAWS * probability * (1 - probability)) ** 0.5
    return abs(observed.sum().item() - DRAWS * probability) < 5 * deviation


def test_episodes_are_drawn_uniformly_whatever_their_length_and_steps_uniformly_within() -> None:
    lengths = [1, 4, 15]
    buffer = small.buffer(lengths)
    for rows in (
        sample_from_start(buffer, DRAWS, 3, small.generator()).rows[:, 0],
        sample_from_end(buffer, DRAWS, 3, small.generator()).rows[:, -1],
    ):
        for index, length in enumerate(lengths):
            first, _ = buffer.episode(index)
            assert frequency_is((rows >= first) & (rows < first + length), 1 / 3)
            for row in range(first, first + length):
                assert frequency_is(rows == row, 1 / 3 / length)


def test_every_stop_from_the_least_on_is_as_likely() -> None:
    buffer = small.buffer([2, 6])
    counts = sample_from_end(buffer, DRAWS, 6, small.generator(), least=3).mask.sum(dim=1)
    assert frequency_is(counts == 2, 1 / 2)
    for count in (3, 4, 5, 6):
        assert frequency_is(counts == count, 1 / 8)


def test_a_generator_decides_the_draw() -> None:
    buffer = small.buffer([5, 6])
    first = sample_from_start(buffer, 8, 3, small.generator(1)).rows
    assert torch.equal(sample_from_start(buffer, 8, 3, small.generator(1)).rows, first)
    assert not torch.equal(sample_from_start(buffer, 8, 3, small.generator(2)).rows, first)


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_the_sampler_of_episodes_is_the_two_functions(anchor: Anchor) -> None:
    buffer = small.buffer([5, 2, 8])
    sampler = EpisodeSampler(buffer, 6, 4, small.generator(3), anchor=anchor, context=2)
    draw, generator = {"start": sample_from_start, "end": sample_from_end}[anchor], small.generator(3)
    for _ in range(3):
        sampler.restart()
        assert torch.equal(sampler.draw().rows, draw(buffer, 6, 4, generator, least=3).rows)
    assert not sampler.draw(look=False).observations


def one_pass(sampler: SegmentSampler, count: int, batch: int) -> list[tuple[int, ...]]:
    """The rows of the segments of a whole pass, whose batches are all full but the last."""
    rows = []
    for start in range(0, count, batch):
        segments = sampler.draw(look=False)
        assert len(segments.rows) == min(batch, count - start)
        rows += segments.rows.tolist()
    return [tuple(row) for row in rows]


@settings(deadline=None, max_examples=60)
@given(
    lengths=lengths_of_episodes,
    context=st.integers(0, 4),
    size=st.integers(1, 12),
    batch=st.integers(1, 7),
    anchor=anchors,
    seed=st.integers(0, 99),
)
def test_a_pass_meets_every_segment_with_more_real_steps_than_the_context_exactly_once(
    lengths: list[int], context: int, size: int, batch: int, anchor: Anchor, seed: int
) -> None:
    buffer = small.buffer(lengths)
    expected = []
    for first, length in map(buffer.episode, range(len(lengths))):
        for i in range(max(0, length - context)):
            start = i if anchor == "start" else context + 1 + i - size
            expected.append(tuple(first + s if 0 <= s < length else 0 for s in range(start, start + size)))
    sampler = SegmentSampler(buffer, batch, size, small.generator(seed), anchor=anchor, context=context)
    if not expected:
        with pytest.raises(UserError, match=r"no stored episode is longer than the context of \d steps"):
            sampler.restart()
        return
    sampler.restart()
    everything = sampler.take(torch.arange(len(expected)))
    assert [tuple(row) for row in everything.rows.tolist()] == expected
    assert (everything.mask.sum(dim=1) >= min(context + 1, size)).all()
    assert torch.equal(everything.mask, everything.rows > 0)
    for _ in range(2):  # and again, in another order
        assert Counter(one_pass(sampler, len(expected), batch)) == Counter(expected)


def test_every_pass_has_a_new_order() -> None:
    sampler = SegmentSampler(small.buffer([40]), 40, 1, small.generator())
    orders = {tuple(sampler.draw().rows.flatten().tolist()) for _ in range(3)}
    sampler.restart()
    orders.add(tuple(sampler.draw().rows.flatten().tolist()))
    assert len(orders) == 4 and len({tuple(sorted(order)) for order in orders}) == 1


def test_all_orders_of_a_pass_are_as_likely() -> None:
    sampler = SegmentSampler(small.buffer([2, 1]), 3, 1, small.generator())
    orders = Counter(tuple(sampler.draw(look=False).rows.flatten().tolist()) for _ in range(1200))
    assert len(orders) == 6 and all(abs(count - 200) < 5 * (1200 * 1 / 6 * 5 / 6) ** 0.5 for count in orders.values())


def test_a_restart_sees_what_was_stored_meanwhile_and_nothing_else_does() -> None:
    buffer = small.buffer([4], capacity=20, is_open=True)
    sampler = SegmentSampler(buffer, 100, 3, small.generator(), context=2)
    sampler.restart()
    more = (torch.zeros(5, dtype=torch.int64), torch.zeros(5), torch.tensor([0, 1, 0, 0, 0]))
    buffer.extend({"image": small.frames(5)}, *more)  # the open episode ends after two more steps
    buffer.extend({"image": small.frames(5)}, *more[:2], torch.zeros(5))
    assert len(sampler.draw().mask) == len(sampler.draw().mask) == 2
    sampler.restart()
    assert len(sampler.draw().mask) == 4 + 3


def test_an_interrupted_pass_is_begun_anew_by_a_restart() -> None:
    sampler = SegmentSampler(small.buffer([7]), 3, 1, small.generator())
    assert [len(sampler.draw().mask) for _ in range(2)] == [3, 3]
    sampler.restart()
    assert [len(sampler.draw().mask) for _ in range(4)] == [3, 3, 1, 3]


@pytest.mark.parametrize("sampling", Sampling)
@pytest.mark.parametrize("anchor", ["start", "end"])
def test_drawing_waits_for_nothing(sampling: Sampling, anchor: Anchor) -> None:
    sampler = SAMPLERS[sampling](small.buffer([5, 1, 8]), 4, 6, small.generator(), anchor=anchor, context=2)
    sampler.restart()
    with without_synchronisation():
        for _ in range(5):  # into the second pass
            sampler.draw()


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, size=st.integers(1, 5), batch=st.integers(1, 4))
def test_traversal_meets_every_step_exactly_once_and_mixes_no_episodes(
    lengths: list[int], size: int, batch: int
) -> None:
    buffer = small.buffer(lengths)
    met: list[int] = []
    for segments in traverse(buffer, batch, size):
        assert 1 <= len(segments.mask) <= batch and segments.mask[:, 0].all()
        rows = segments.rows[segments.mask]
        met += rows.tolist()
        assert (
            sum(first <= rows.min() and rows.max() < first + n for first, n in map(buffer.episode, range(len(lengths))))
            == 1
        )
    assert met == list(range(1, sum(lengths) + 1))


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, size=st.integers(3, 6), batch=st.integers(1, 4), context=st.integers(0, 2))
def test_traversal_with_a_context_meets_every_step_behind_one_exactly_once(
    lengths: list[int], size: int, batch: int, context: int
) -> None:
    buffer = small.buffer(lengths)
    met: list[int] = []
    for segments in traverse(buffer, batch, size, context):
        behind = segments.mask[:, context:]
        assert behind.any(dim=1).all()  # no chunk without a step that counts
        met += segments.rows[:, context:][behind].tolist()
    expected = [first + step for first, n in map(buffer.episode, range(len(lengths))) for step in range(context, n)]
    assert met == expected
