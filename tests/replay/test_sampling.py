"""Which segments are drawn, and how often."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.config import Sampling
from tokenworlds.errors import UserError
from tokenworlds.replay import SAMPLERS, EpisodeSampler, LeastUsedSampler, SegmentSampler, sample_from_end
from tokenworlds.replay.sampling import Anchor

lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)
anchors = st.sampled_from(["start", "end"])


def firsts(lengths: list[int]) -> list[int]:
    """The first row of every episode."""
    return [1 + sum(lengths[:index]) for index in range(len(lengths))]


@settings(deadline=None, max_examples=60)
@given(
    lengths=lengths_of_episodes,
    size=st.integers(1, 12),
    least=st.integers(1, 6),
    seed=st.integers(0, 99),
    anchor=anchors,
)
def test_segments_of_uniform_episodes_are_padded_on_the_side_that_has_no_anchor(
    lengths: list[int], size: int, least: int, seed: int, anchor: Anchor
) -> None:
    """And hold a least number of real steps; shorter episodes give all they have."""
    buffer = small.buffer(lengths)
    sampler = EpisodeSampler(buffer, 16, size, small.generator(seed), anchor=anchor, context=least - 1)
    sampler.refresh(1)
    segments = sampler.sample(with_observations=False)
    mask = segments.mask if anchor == "start" else segments.mask.flip(1)
    assert mask.shape == (16, size) and mask[:, 0].all() and (mask[:, 1:] <= mask[:, :-1]).all()
    available = buffer.lengths[episodes_of(segments.rows, lengths)].clamp(max=min(least, size))
    assert (mask.sum(dim=1) >= available).all() and not segments.observations


DRAWS = 20_000


def frequency_is(observed: torch.Tensor, probability: float) -> bool:
    """Within five standard deviations of a binomial: a wrong alarm once in two million tests (the seed is fixed)."""
    deviation = (DRAWS * probability * (1 - probability)) ** 0.5
    return abs(observed.sum().item() - DRAWS * probability) < 5 * deviation


@pytest.mark.parametrize(("anchor", "column"), [("start", 0), ("end", -1)])
def test_episodes_are_uniform_whatever_their_length_and_steps_uniform_within(anchor: Anchor, column: int) -> None:
    lengths = [1, 4, 15]
    rows = EpisodeSampler(small.buffer(lengths), DRAWS, 3, small.generator(), anchor=anchor).rows()[:, column]
    for first, length in zip(firsts(lengths), lengths):
        assert frequency_is((rows >= first) & (rows < first + length), 1 / 3)
        for row in range(first, first + length):
            assert frequency_is(rows == row, 1 / 3 / length)


def test_every_stop_from_the_least_on_is_as_likely() -> None:
    counts = sample_from_end(small.buffer([2, 6]), DRAWS, 6, small.generator(), least=3).mask.sum(dim=1)
    assert frequency_is(counts == 2, 1 / 2)
    for count in (3, 4, 5, 6):
        assert frequency_is(counts == count, 1 / 8)


def test_a_generator_decides_the_sample() -> None:
    first, again, other = (
        sample_from_end(small.buffer([5, 6]), 8, 3, small.generator(seed)).rows for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def one_pass(sampler: SegmentSampler, count: int, batch: int) -> list[tuple[int, ...]]:
    """The rows of the segments of a whole pass, whose batches are all full but the last."""
    rows = []
    for start in range(0, count, batch):
        found = sampler.rows()
        assert len(found) == min(batch, count - start)
        rows += found.tolist()
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
    rows = sampler.rows_of(torch.arange(len(expected)))
    assert [tuple(row) for row in rows.tolist()] == expected and ((rows > 0).sum(dim=1) > min(context, size - 1)).all()
    for _ in range(2):  # and again, in another order
        assert Counter(one_pass(sampler, len(expected), batch)) == Counter(expected)


def test_all_orders_of_a_pass_are_as_likely() -> None:
    sampler = SegmentSampler(small.buffer([2, 1]), 3, 1, small.generator())
    orders = Counter(tuple(sampler.rows().flatten().tolist()) for _ in range(1200))
    assert len(orders) == 6 and all(abs(count - 200) < 5 * (1200 * 1 / 6 * 5 / 6) ** 0.5 for count in orders.values())


def test_a_restart_sees_what_was_stored_meanwhile_and_nothing_else_does() -> None:
    buffer = small.buffer([4], capacity=20, is_open=True)
    sampler = SegmentSampler(buffer, 100, 3, small.generator(), context=2)
    sampler.refresh(1)
    more = (torch.zeros(5, dtype=torch.int64), torch.zeros(5), torch.tensor([0, 1, 0, 0, 0]))
    buffer.extend({"image": small.frames(5)}, *more)  # the open episode ends after two more steps
    buffer.extend({"image": small.frames(5)}, *more[:2], torch.zeros(5))
    assert len(sampler.rows()) == len(sampler.rows()) == 2
    sampler.refresh(1)
    assert len(sampler.rows()) == 4 + 3


def test_an_interrupted_pass_is_begun_anew_in_another_order() -> None:
    sampler = SegmentSampler(small.buffer([40]), 15, 1, small.generator())
    interrupted = sampler.rows()
    sampler.refresh(1)
    batches = [sampler.rows() for _ in range(4)]
    assert [len(batch) for batch in batches] == [15, 15, 10, 15]
    assert len({tuple(batch.flatten().tolist()) for batch in (interrupted, batches[0], batches[3])}) == 3


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
            found = sampler.rows().flatten().tolist()
            assert len(found) == batch
            counts.update(found)
        met = [counts[row] for row in range(1, sum(lengths) + 1)]
        assert sum(met) == counts.total() and max(met) - min(met) <= 1


def test_dropping_the_last_batch_changes_no_other() -> None:
    plain, dropping = (
        SegmentSampler(small.buffer([10]), 4, 1, small.generator(), drop_last=drop_last) for drop_last in (False, True)
    )
    for _ in range(2):
        assert torch.equal(plain.rows(), dropping.rows())
    assert [len(sampler.rows()) for sampler in (plain, dropping)] == [2, 4]


@pytest.mark.parametrize("sampling", Sampling)
@pytest.mark.parametrize("anchor", ["start", "end"])
def test_sampling_waits_for_nothing(sampling: Sampling, anchor: Anchor) -> None:
    sampler = SAMPLERS[sampling](small.buffer([5, 1, 8]), 4, 6, small.generator(), anchor=anchor, context=2)
    sampler.refresh(1)
    with without_synchronisation():
        for _ in range(5):  # into the second pass
            sampler.sample()
            sampler.update_priorities(torch.ones(4))
    assert sampler.state() == {}  # without counters there is nothing to save
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
    rows = least_used([3], DRAWS, 2).rows()
    for pair, chance in {(0, 1): 1 / 6, (1, 2): 2 / 6, (2, 3): 2 / 6, (3, 0): 1 / 6}.items():
        assert frequency_is((rows == torch.tensor(pair)).all(dim=1), chance)


def test_segments_anchored_at_the_end_stop_at_the_last_step() -> None:
    """Of an episode of 3 steps, 3 long: the stop is the step or one or two behind it, but not behind the episode."""
    rows = least_used([3], DRAWS, 3, "end").rows()
    for triple, chance in {(0, 0, 1): 1 / 9, (0, 1, 2): 2 / 9, (1, 2, 3): 6 / 9}.items():
        assert frequency_is((rows == torch.tensor(triple)).all(dim=1), chance)


@pytest.mark.parametrize("exponent", [1.0, 5.0])
def test_episodes_are_drawn_by_how_rarely_they_were_used_whatever_their_length(exponent: float) -> None:
    lengths, uses = [1, 9, 4, 2], torch.tensor([0, 2, 4, 1])
    sampler = least_used(lengths, DRAWS, 3, exponent=exponent)
    sampler.load_state({"uses": uses})
    weights = (1 / (1 + uses.double())) ** exponent
    torch.testing.assert_close(sampler.weights(), weights, rtol=1e-12, atol=0)
    episodes = episodes_of(sampler.rows(), lengths)
    for index, chance in enumerate((weights / weights.sum()).tolist()):
        assert frequency_is(episodes == index, chance)


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
            expected += episodes_of(sampler.rows(), lengths).bincount(minlength=len(lengths))
            assert torch.equal(sampler.uses, expected)  # twice in a batch counts twice


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
        assert torch.equal(resumed.rows(), sampler.rows())
    assert torch.equal(resumed.uses, sampler.uses) and not torch.equal(saved["uses"], sampler.uses)


@pytest.mark.parametrize("anchor", ["start", "end"])
def test_drawing_the_least_used_waits_for_nothing(anchor: Anchor) -> None:
    sampler = least_used([5, 1, 8], anchor=anchor, exponent=5.0)
    sampler.refresh(2)
    with without_synchronisation():
        for _ in range(3):
            sampler.sample()
