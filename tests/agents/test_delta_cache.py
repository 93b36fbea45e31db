"""The cache of delta tokens of stored transitions: equal to the tokenizer's own, and never stale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.delta_cache import TransitionCache
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.tokenizers.pictures import to_float

MANY = 10**9


@pytest.fixture
def delta() -> DeltaAgent:
    return small.delta_agent()


SHARED = small.delta_agent()  # for those who do not change it


def extend(buffer: ReplayBuffer, count: int, stream: int = 0, is_end: bool = False) -> None:
    """Random steps, of which the last may end the stream's episode."""
    draws = small.generator(buffer.rows)
    buffer.extend(
        {"image": small.frames(count, seed=buffer.rows)},
        torch.randint(small.ACTIONS, (count,), generator=draws),
        torch.zeros(count),
        torch.arange(count) == (count - 1 if is_end else -1),
        stream=stream,
    )


def everywhere(buffer: ReplayBuffer, length: int = 4) -> Segments:
    """All segments with a real step: into episodes, inside them, out of them, and across short ones."""
    places = [(e, t) for e in range(buffer.num_episodes) for t in range(1 - length, buffer.episode_length(e))]
    return buffer.segments(*(torch.tensor(part) for part in zip(*places)), length)


def known(cache: TransitionCache, buffer: ReplayBuffer) -> Tensor:
    segments = everywhere(buffer)
    return cache.tokens(segments, to_float(segments.observations["image"]))


def assert_encodes(cache: TransitionCache, agent: DeltaAgent, buffer: ReplayBuffer) -> None:
    segments = everywhere(buffer)
    expected = agent.tokens(to_float(segments.observations["image"]), segments.actions[:, :-1])
    assert torch.equal(known(cache, buffer), expected)
    assert len(expected.unique()) > 3


@pytest.mark.parametrize("draws", [0, MANY], ids=["encoded at the draw", "encoded beforehand"])
def test_cached_transitions_are_those_of_the_segments(draws: int) -> None:
    """Also those into the first frame of an episode, out of the last one, and between two black ones."""
    buffer = small.buffer([5, 1, 8, 2], is_open=True)
    cache = TransitionCache(buffer, SHARED)
    cache.refresh(0, draws)
    assert_encodes(cache, SHARED, buffer)
    before, after = (everywhere(buffer).mask[:, steps] for steps in (slice(None, -1), slice(1, None)))
    assert {(bool(a), bool(b)) for a, b in zip(before.flatten(), after.flatten())} == {
        (False, False), (False, True), (True, False), (True, True),
    }  # fmt: skip


def test_open_episodes_of_several_environments_grow() -> None:
    """What led from the last stored frame into the black one then leads into the frame that came."""
    buffer = ReplayBuffer(small.picture_spec(), 4, small.CPU)
    cache = TransitionCache(buffer, SHARED)
    for stream, count, is_end in (
        (0, 3, False),
        (1, 2, False),
        (0, 1, False),
        (2, 6, True),
        (1, 3, True),
        (1, 1, False),
    ):
        extend(buffer, count, stream, is_end)
        cache.refresh(0, MANY)
        assert_encodes(cache, SHARED, buffer)
    lasts = [int(buffer.episode_rows(episode)[-1]) for episode in range(buffer.num_episodes)]
    black = cache._leaving[lasts].clone()
    extend(buffer, 2, stream=0)
    extend(buffer, 2, stream=1)
    cache.refresh(0, MANY)
    assert_encodes(cache, SHARED, buffer)
    is_open = [True, False, False, True]
    assert [not torch.equal(*pair) for pair in zip(cache._leaving[lasts], black)] == is_open


calls = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=12, deadline=None)
@given(calls=calls, refreshed=st.lists(st.sampled_from([None, 0, MANY]), min_size=6, max_size=6))
def test_transitions_are_never_stale_however_episodes_grow(
    calls: list[tuple[int, int, bool]], refreshed: list[int | None]
) -> None:
    """A cache that was filled bit by bit, emptied, or passed over holds the bits of one that is filled at once, as
    after a resume."""
    buffer = ReplayBuffer(small.picture_spec(), 8, small.CPU)
    gradual, at_once = TransitionCache(buffer, SHARED), TransitionCache(buffer, SHARED)
    for (stream, count, is_end), draws in zip(calls, refreshed):
        extend(buffer, count, stream, is_end)
        if draws is not None:
            gradual.refresh(3, draws)
    gradual.refresh(3, MANY)
    at_once.refresh(3, MANY)
    assert torch.equal(known(gradual, buffer), known(at_once, buffer))
    assert torch.equal(known(gradual, buffer), known(TransitionCache(buffer, SHARED), buffer))


def test_a_trained_tokenizer_is_asked_again_for_all_transitions(delta: DeltaAgent) -> None:
    buffer = small.buffer([5, 3])
    cache = TransitionCache(buffer, delta)
    cache.refresh(0, MANY)
    before = known(cache, buffer).clone()
    with torch.no_grad():
        delta.tokenizer.quantiser.project_in.weight.neg_()
    cache.refresh(0, MANY)
    assert torch.equal(known(cache, buffer), before)  # nobody has said so
    cache.refresh(1, MANY)
    assert not torch.equal(known(cache, buffer), before)
    assert_encodes(cache, delta, buffer)


def test_no_transition_is_encoded_twice(delta: DeltaAgent) -> None:
    buffer = small.buffer([5, 8], capacity=30, is_open=True)
    cache, encoded = TransitionCache(buffer, delta), small.calls_of(delta.tokenizer, "encode")
    for _ in range(3):
        cache.refresh(4, MANY)
        known(cache, buffer)
    count = sum(len(tokens) for _, tokens in encoded)
    assert count == buffer.rows + buffer.num_episodes  # out of every row, and into every episode
    encoded.clear()
    extend(buffer, 2)
    cache.refresh(4, MANY)
    count = sum(len(tokens) for _, tokens in encoded)
    assert count == 4  # the chunk of rows 12 to 15: the last old one leads somewhere now


@pytest.mark.parametrize(("more", "is_filled"), [(0, False), (1, True)])
def test_transitions_are_encoded_beforehand_if_more_are_drawn_than_there_are(
    delta: DeltaAgent, more: int, is_filled: bool
) -> None:
    buffer = small.buffer([5, 8])
    cache, encoded = TransitionCache(buffer, delta), small.calls_of(delta.tokenizer, "encode")
    cache.refresh(0, buffer.rows + more)
    assert bool(encoded) == is_filled
    encoded.clear()
    known(cache, buffer)
    assert bool(encoded) == (not is_filled)


def test_a_draw_of_cached_transitions_waits_for_nothing() -> None:
    buffer = small.buffer([5, 8])
    cache = TransitionCache(buffer, SHARED)
    segments = everywhere(buffer)
    for draws in (0, MANY):
        cache.refresh(0, draws)
        with without_synchronisation():
            tokens = cache.tokens(segments, to_float(segments.observations["image"]))
        assert not tokens.requires_grad
