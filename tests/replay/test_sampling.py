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
from tokenworlds.replay import (
    SAMPLERS,
    EpisodeSampler,
    LeastUsedSampler,
    SegmentSampler,
    sample_from_end,
    sample_from_start,
)
from tokenworlds.replay.sampling import Anchor

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)
anchors = st.sampled_from(["start", "end"])


def firsts(lengths: list[int]) -> list[int]:
    """The first row of every episode."""
    return [1 + sum(lengths[:index]) for index in range(len(lengths))]


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
        for first, length in zip(firsts(lengths), lengths):
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
        sampler.refresh(1)
        assert torch.equal(sampler.sample().rows, draw(buffer, 6, 4, generator, least=3).rows)
    assert not sampler.sample(with_observations=False).observations


def one_pass(sampler: SegmentSampler, count: int, batch: int) -> list[tuple[int, ...]]:
    """The rows of the segments of a whole pass, whose batches are all full but the last."""
    rows = []
    for start in range(0, count, batch):
        segments = sampler.sample(with_observations=False)
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
    for first, length in zip(firsts(lengths), lengths):
        for i in range(max(0, length - context)):
            start = i if anchor == "start" else context + 1 + i - size
            expected.append(tuple(first + s if 0 <= s < length else 0 for s in range(start, start + size)))
    sampler = SegmentSampler(buffer, batch, size, small.generator(seed), anchor=anchor, context=context)
    if not expected:
        with pytest.raises(UserError, match=r"no stored episode is longer than the context of \d steps"):
            sampler.refresh(1)
        return
    sampler.refresh(1)
    everything = sampler.take(torch.arange(len(expected)))
    assert [tuple(row) for row in everything.rows.tolist()] == expected
    assert (everything.mask.sum(dim=1) >= min(context + 1, size)).all()
    assert torch.equal(everything.mask, everything.rows > 0)
    for _ in range(2):  # and again, in another order
        assert Counter(one_pass(sampler, len(expected), batch)) == Counter(expected)


def test_every_pass_has_a_new_order() -> None:
    sampler = SegmentSampler(small.buffer([40]), 40, 1, small.generator())
    orders = {tuple(sampler.sample().rows.flatten().tolist()) for _ in range(3)}
    sampler.refresh(1)
    orders.add(tuple(sampler.sample().rows.flatten().tolist()))
    assert len(orders) == 4 and len({tuple(sorted(order)) for order in orders}) == 1


def test_all_orders_of_a_pass_are_as_likely() -> None:
    sampler = SegmentSampler(small.buffer([2, 1]), 3, 1, small.generator())
    orders = Counter(tuple(sampler.sample(with_observations=False).rows.flatten().tolist()) for _ in range(1200))
    assert len(orders) == 6 and all(abs(count - 200) < 5 * (1200 * 1 / 6 * 5 / 6) ** 0.5 for count in orders.values())


def test_a_restart_sees_what_was_stored_meanwhile_and_nothing_else_does() -> None:
    buffer = small.buffer([4], capacity=20, is_open=True)
    sampler = SegmentSampler(buffer, 100, 3, small.generator(), context=2)
    sampler.refresh(1)
    more = (torch.zeros(5, dtype=torch.int64), torch.zeros(5), torch.tensor([0, 1, 0, 0, 0]))
    buffer.extend({"image": small.frames(5)}, *more)  # the open episode ends after two more steps
    buffer.extend({"image": small.frames(5)}, *more[:2], torch.zeros(5))
    assert len(sampler.sample().mask) == len(sampler.sample().mask) == 2
    sampler.refresh(1)
    assert len(sampler.sample().mask) == 4 + 3


def test_an_interrupted_pass_is_begun_anew_by_a_restart() -> None:
    sampler = SegmentSampler(small.buffer([7]), 3, 1, small.generator())
    assert [len(sampler.sample().mask) for _ in range(2)] == [3, 3]
    sampler.refresh(1)
    assert [len(sampler.sample().mask) for _ in range(4)] == [3, 3, 1, 3]


@settings(deadline=None, max_examples=40)
@given(lengths=lengths_of_episodes, batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_all_batches_are_full_where_the_last_one_of_a_pass_is_dropped(
    lengths: list[int], batch: int, seed: int
) -> None:
    """A pass over fewer segments than a batch meets each of them as often as any other, or once more."""
    sampler = SegmentSampler(small.buffer(lengths), batch, 1, small.generator(seed), drop_last=True)
    sampler.refresh(1)
    for _ in range(3):
        counts: Counter[int] = Counter()
        for _ in range(max(1, sum(lengths) // batch)):
            found = sampler.sample(with_observations=False).rows.flatten().tolist()
            assert len(found) == batch
            counts.update(found)
        met = [counts[row] for row in range(1, sum(lengths) + 1)]
        assert sum(met) == counts.total() and max(met) - min(met) <= 1


def test_dropping_the_last_batch_changes_no_other() -> None:
    plain, dropping = (
        SegmentSampler(small.buffer([10]), 4, 1, small.generator(), drop_last=drop_last) for drop_last in (False, True)
    )
    for _ in range(2):
        assert torch.equal(plain.sample().rows, dropping.sample().rows)
    assert [len(sampler.sample().rows) for sampler in (plain, dropping)] == [2, 4]


@pytest.mark.parametrize("sampling", Sampling)
@pytest.mark.parametrize("anchor", ["start", "end"])
def test_drawing_waits_for_nothing(sampling: Sampling, anchor: Anchor) -> None:
    sampler = SAMPLERS[sampling](small.buffer([5, 1, 8]), 4, 6, small.generator(), anchor=anchor, context=2)
    sampler.refresh(1)
    with without_synchronisation():
        for _ in range(5):  # into the second pass
            sampler.sample()


@pytest.mark.parametrize("sampling", Sampling)
def test_samplers_without_counters_have_nothing_to_save(sampling: Sampling) -> None:
    sampler = SAMPLERS[sampling](small.buffer([5, 1]), 4, 6, small.generator())
    sampler.refresh(2)
    sampler.sample()
    sampler.update_priorities(torch.ones(4))
    assert sampler.state() == {}
    sampler.load_state({})


def least_used(
    lengths: list[int], count: int = 8, length: int = 5, anchor: Anchor = "start", exponent: float = 1.0, seed: int = 0
) -> LeastUsedSampler:
    buffer = small.buffer(lengths)
    return LeastUsedSampler(buffer, count, length, small.generator(seed), anchor=anchor, exponent=exponent)


def episodes_of(rows: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The episode of every segment (B, T)."""
    return torch.searchsorted(torch.tensor(firsts(lengths)), rows.amax(dim=1), right=True) - 1


@settings(deadline=None, max_examples=60)
@given(lengths=lengths_of_episodes, size=st.integers(1, 12), seed=st.integers(0, 99), anchor=anchors)
def test_segments_of_the_least_used_are_padded_where_they_leave_the_episode(
    lengths: list[int], size: int, seed: int, anchor: Anchor
) -> None:
    segments = least_used(lengths, 16, size, anchor, seed=seed).sample()
    assert segments.mask.shape == (16, size) and segments.mask.any(dim=1).all()
    rises = segments.mask[:, 1:].int() - segments.mask[:, :-1].int()
    assert ((rises == 1).sum(dim=1) <= 1).all() and ((rises == -1).sum(dim=1) <= 1).all()  # real steps are together
    assert (segments.rows[:, 1:] - segments.rows[:, :-1])[segments.mask[:, 1:] & segments.mask[:, :-1]].eq(1).all()
    if anchor == "end":
        assert segments.mask[:, -1].all()
    for row, mask, episode in zip(segments.rows, segments.mask, episodes_of(segments.rows, lengths)):
        first, last = firsts(lengths)[episode], firsts(lengths)[episode] + lengths[episode] - 1
        real = row[mask]
        assert first <= real[0] and real[-1] <= last
        if mask[0] and not mask[-1]:
            assert real[-1] == last  # padding on the right: the episode is over
        if mask[-1] and not mask[0]:
            assert real[0] == first


def test_every_place_around_every_step_is_as_likely() -> None:
    """Of an episode of 3 steps: the step uniform, and the segment of 2 that begins at it or before it."""
    rows = least_used([3], DRAWS, 2).sample(with_observations=False).rows
    for pair, chance in {(0, 1): 1 / 6, (1, 2): 2 / 6, (2, 3): 2 / 6, (3, 0): 1 / 6}.items():
        assert frequency_is((rows == torch.tensor(pair)).all(dim=1), chance)


def test_segments_anchored_at_the_end_stop_at_the_last_step() -> None:
    """Of an episode of 3 steps, 3 long: the stop is the step or one or two behind it, but not behind the episode."""
    rows = least_used([3], DRAWS, 3, "end").sample(with_observations=False).rows
    for triple, chance in {(0, 0, 1): 1 / 9, (0, 1, 2): 2 / 9, (1, 2, 3): 6 / 9}.items():
        assert frequency_is((rows == torch.tensor(triple)).all(dim=1), chance)


@pytest.mark.parametrize("exponent", [1.0, 5.0])
def test_episodes_are_drawn_by_how_rarely_they_were_used_whatever_their_length(exponent: float) -> None:
    lengths, uses = [1, 9, 4, 2], torch.tensor([0, 2, 4, 1])
    sampler = least_used(lengths, DRAWS, 3, exponent=exponent)
    sampler.load_state({"uses": uses})
    weights = (1 / (1 + uses.double())) ** exponent
    torch.testing.assert_close(sampler.weights(), weights, rtol=1e-12, atol=0)
    episodes = episodes_of(sampler.sample(with_observations=False).rows, lengths)
    for index, chance in enumerate((weights / weights.sum()).tolist()):
        assert frequency_is(episodes == index, chance)


def test_all_episodes_are_as_likely_before_they_are_used() -> None:
    lengths = [1, 9, 4, 2]
    observed = episodes_of(
        least_used(lengths, DRAWS, 3, exponent=5.0).sample(with_observations=False).rows, lengths
    ).bincount()
    expected = DRAWS / len(lengths)
    assert ((observed - expected) ** 2 / expected).sum() < 16.3  # chi square of 3 degrees of freedom: 1 in 1000


@settings(deadline=None, max_examples=30)
@given(lengths=lengths_of_episodes, count=st.integers(1, 9), seed=st.integers(0, 99))
def test_uses_are_counted_from_the_second_epoch_on(lengths: list[int], count: int, seed: int) -> None:
    sampler = least_used(lengths, count, 3, seed=seed)
    sampler.refresh(1)
    for _ in range(3):
        sampler.sample()
    assert not sampler.uses.any() and len(sampler.uses) == len(lengths)
    expected = torch.zeros(len(lengths), dtype=torch.int64)
    for epoch in (2, 3):
        sampler.refresh(epoch)
        for _ in range(3):
            expected += episodes_of(sampler.sample().rows, lengths).bincount(minlength=len(lengths))
            assert torch.equal(sampler.uses, expected)  # twice in a batch counts twice


def test_the_least_used_episodes_catch_up() -> None:
    sampler = least_used([3] * 10, 4, 3, exponent=5.0)
    sampler.refresh(2)
    for _ in range(200):
        sampler.sample(with_observations=False)
    assert sampler.uses.sum() == 800 and sampler.uses.max() - sampler.uses.min() < 20  # about 80 each


def test_new_episodes_are_unused_and_a_growing_one_keeps_its_counter() -> None:
    buffer = small.buffer([4, 3], capacity=20, is_open=True)
    sampler = LeastUsedSampler(buffer, 6, 3, small.generator(), anchor="start", exponent=5.0)
    sampler.refresh(2)
    sampler.sample()
    before = sampler.uses.tolist()
    nothing = torch.zeros(2)
    buffer.extend({"image": small.frames(2)}, nothing.long(), nothing, torch.tensor([0, 1]))
    buffer.extend({"image": small.frames(2)}, nothing.long(), nothing, nothing)
    assert sampler.uses.tolist() == [*before, 0] and sum(before) == 6
    sampler.sample()
    assert sampler.uses.sum() == 12


def test_saved_counters_and_generator_continue_the_draws() -> None:
    sampler = least_used([4, 3, 6], exponent=5.0)
    sampler.refresh(2)
    sampler.sample()
    resumed = least_used([4, 3, 6], exponent=5.0, seed=1)
    saved = {name: value.clone() for name, value in sampler.state().items()}
    resumed.load_state(saved)
    resumed.generator.set_state(sampler.generator.get_state())
    resumed.refresh(3)
    for _ in range(4):
        assert torch.equal(resumed.sample().rows, sampler.sample().rows)
    assert torch.equal(resumed.uses, sampler.uses) and not torch.equal(saved["uses"], sampler.uses)


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_drawing_the_least_used_waits_for_nothing(anchor: Anchor) -> None:
    sampler = least_used([5, 1, 8], anchor=anchor, exponent=5.0)
    sampler.refresh(2)
    with without_synchronisation():
        for _ in range(3):
            sampler.sample()
