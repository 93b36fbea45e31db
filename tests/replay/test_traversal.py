"""What evaluation averages over: every step once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tokenworlds.replay import ReplayBuffer, traverse, traverse_chunks

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def spans(lengths: list[int]) -> list[tuple[int, int]]:
    """First row and steps of every episode."""
    return [(1 + sum(lengths[:index]), length) for index, length in enumerate(lengths)]


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
        assert sum(first <= rows.min() and rows.max() < first + n for first, n in spans(lengths)) == 1
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
    expected = [first + step for first, n in spans(lengths) for step in range(context, n)]
    assert met == expected


@settings(deadline=None, max_examples=60)
@given(lengths=lengths_of_episodes, size=st.integers(2, 5), batch=st.integers(1, 4))
def test_chunks_with_a_transition_are_met_in_full_batches(lengths: list[int], size: int, batch: int) -> None:
    expected = []
    for first, n in spans(lengths):
        for start in range(0, n, size):
            rows = list(range(first + start, first + min(n, start + size)))
            if len(rows) >= 2:
                expected.append(rows + [0] * (size - len(rows)))
    batches = list(traverse_chunks(small.buffer(lengths), batch, size))
    assert [row for segments in batches for row in segments.rows.tolist()] == expected
    assert all(len(segments.rows) == batch for segments in batches[:-1])


def test_an_empty_buffer_has_no_chunks() -> None:
    assert not list(traverse_chunks(ReplayBuffer(small.picture_spec(3, 2, 2), 1, small.CPU), 2, 3))
