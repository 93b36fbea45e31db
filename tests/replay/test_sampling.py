"""Which segments are drawn, and how often."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tokenworlds.replay import sample_from_end, sample_from_start, traverse

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


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


def test_a_generator_decides_the_draw() -> None:
    buffer = small.buffer([5, 6])
    first = sample_from_start(buffer, 8, 3, small.generator(1)).rows
    assert torch.equal(sample_from_start(buffer, 8, 3, small.generator(1)).rows, first)
    assert not torch.equal(sample_from_start(buffer, 8, 3, small.generator(2)).rows, first)


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
