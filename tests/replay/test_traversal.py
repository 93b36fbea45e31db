"""What evaluation averages over: every step once."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tokenworlds.replay import ReplayBuffer, traverse, traverse_between, traverse_chunks

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def spans(lengths: list[int]) -> list[tuple[int, int]]:
    """First row and steps of every episode."""
    return [(1 + sum(lengths[:index]), length) for index, length in enumerate(lengths)]


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, size=st.integers(1, 6), batch=st.integers(1, 4), context=st.integers(0, 2))
def test_traversal_meets_every_step_behind_a_context_exactly_once_and_mixes_no_episodes(
    lengths: list[int], size: int, batch: int, context: int
) -> None:
    buffer = small.buffer(lengths)
    met: list[int] = []
    for segments in traverse(buffer, batch, size + context, context):
        behind, rows = segments.mask[:, context:], segments.rows[segments.mask]
        assert 1 <= len(behind) <= batch and behind.any(dim=1).all()  # no chunk without a step that counts
        assert sum(first <= rows.min() and rows.max() < first + n for first, n in spans(lengths)) == 1
        met += segments.rows[:, context:][behind].tolist()
    assert met == [first + step for first, n in spans(lengths) for step in range(context, n)]


def test_only_the_episodes_that_are_asked_for_are_traversed() -> None:
    buffer = small.buffer([4, 3, 5])
    for batches in (traverse(buffer, 9, 2, episodes=[2, 0]), traverse_chunks(buffer, 9, 2, [2, 0])):
        rows = [row for segments in batches for row in segments.rows.flatten().tolist() if row]
        assert rows[:4] == [8, 9, 10, 11] and rows[-4:] == [1, 2, 3, 4]


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
    assert not list(traverse_chunks(ReplayBuffer(small.picture_spec(3, 2, 2), 1, small.CPU), batch, size))


@settings(deadline=None, max_examples=60)
@given(lengths=lengths_of_episodes, before=st.integers(0, 3), more=st.integers(3, 6), batch=st.integers(1, 4))
def test_every_step_is_met_once_between_others(lengths: list[int], before: int, more: int, batch: int) -> None:
    """Of episodes of two steps or more; in every chunk with a real step behind one of those met."""
    buffer, met = small.buffer(lengths), []
    batches = list(traverse_between(buffer, batch, before + more, before))
    for rows, is_real in ((rows, rows > 0) for segments in batches for rows in segments.rows):
        assert (is_real[before:-1] & is_real[before + 1 :]).any()
        ((first, n),) = ((first, n) for first, n in spans(lengths) if first <= rows.max() < first + n)
        numbers = torch.arange(len(rows)) - int(is_real.int().argmax()) + int(rows[is_real][0])
        assert torch.equal(rows, torch.where((first <= numbers) & (numbers < first + n), numbers, 0))
        met += rows[before:-1][is_real[before:-1]].tolist()
    assert met == [first + step for first, n in spans(lengths) if n > 1 for step in range(n)]
    assert all(len(segments.rows) == batch for segments in batches[:-1])
