"""The caches of what the frozen tokenizer makes of stored steps: equal to asking the tokenizer, and never stale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.agents import DeltaAgent, TokenAgent
from tokenworlds.agents.token_cache import PerceptionCache, TransitionCache
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.tokenizers.pictures import to_float

MANY = 10**9


@pytest.fixture
def agent() -> TokenAgent:
    return small.agent()


def direct(agent: TokenAgent, buffer: ReplayBuffer, rows: Tensor) -> tuple[Tensor, Tensor]:
    tokens = agent.encode(buffer.observations(rows.flatten()))
    return tokens.unflatten(0, rows.shape), agent.see(tokens).unflatten(0, rows.shape)


def assert_current(cache: PerceptionCache, agent: TokenAgent, buffer: ReplayBuffer) -> None:
    rows = torch.arange(buffer.rows).flip(0).unsqueeze(0)
    tokens, seen = direct(agent, buffer, rows)
    assert torch.equal(cache.tokens(rows), tokens)
    torch.testing.assert_close(cache.seen(rows), seen, rtol=0, atol=1e-4)  # other chunks, other rounding


@pytest.mark.parametrize("draws", [0, MANY], ids=["decoded at the draw", "decoded beforehand"])
@pytest.mark.parametrize("make", [small.agent, small.rem_agent, small.m3_agent])
def test_cached_perception_equals_direct_perception(make: Callable[[], TokenAgent], draws: int) -> None:
    agent, buffer = make(), small.buffer([5, 8], spec=small.mixed_spec())  # more than one chunk
    cache = PerceptionCache(buffer, agent)
    assert cache.chunk < buffer.rows
    cache.refresh_seen(0, draws)
    assert_current(cache, agent, buffer)


def test_observations_that_are_symbols_already_are_perceived_once() -> None:
    """Where nothing is learned, the tokenizer is never another one."""
    buffer, agent = small.buffer([5, 8], spec=small.mixed_spec()), small.m3_agent()
    cache = PerceptionCache(buffer, agent)
    cache.refresh_tokens(0)
    rows = torch.arange(buffer.rows)[None]
    for name in ("token", "token_2d"):
        where = agent.tokenizer.layout.symbols[name]
        stored = buffer.observations(rows.flatten())[name].flatten(1).long()
        assert torch.equal(cache.tokens(rows)[0, :, where], stored)


def test_padding_is_the_blank_frame(agent: TokenAgent) -> None:
    """Perceived in the same batch as in the cache: rounding depends on the size of a batch."""
    buffer = small.buffer([3])
    assert not buffer.observations(slice(0, 1))["image"].any()
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, MANY)
    tokens = agent.encode(buffer.observations(slice(0, buffer.rows)))
    assert torch.equal(cache.tokens(torch.tensor([[0]]))[0], tokens[:1])
    assert torch.equal(cache.seen(torch.tensor([[0]]))[0], agent.see(tokens)[:1])


def test_new_frames_are_perceived(agent: TokenAgent) -> None:
    buffer = small.buffer([5], capacity=5)
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, MANY)
    more = small.frames(9, seed=7)
    buffer.extend(
        {"image": more}, torch.zeros(9, dtype=torch.int64), torch.zeros(9), torch.zeros(9)
    )  # the buffer grows
    cache.refresh_seen(0, MANY)
    assert_current(cache, agent, buffer)


@pytest.mark.parametrize("draws", [0, MANY])
def test_a_trained_tokenizer_is_asked_again(agent: TokenAgent, draws: int) -> None:
    buffer = small.buffer([5])
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, draws)
    before = cache.tokens(torch.arange(buffer.rows)[None]).clone()
    with torch.no_grad():
        agent.tokenizer.part("image").embedding.weight.normal_(generator=small.generator(8))
    cache.refresh_seen(1, draws)
    assert not torch.equal(cache.tokens(torch.arange(buffer.rows)[None]), before)
    assert_current(cache, agent, buffer)


def test_nothing_is_computed_twice(agent: TokenAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, counts = small.buffer([5, 8]), {"encode": 0, "decode": 0}
    cache = PerceptionCache(buffer, agent)
    encode, decode = agent.tokenizer.encode, agent.decode

    def counted_encode(observations: dict[str, Tensor]) -> Tensor:
        counts["encode"] += len(observations["image"])
        return encode(observations)

    def counted_decode(tokens: Tensor) -> Tensor:
        counts["decode"] += len(tokens)
        return decode(tokens)

    monkeypatch.setattr(agent.tokenizer, "encode", counted_encode)
    monkeypatch.setattr(agent, "decode", counted_decode)
    for _ in range(3):
        cache.refresh_tokens(4)
        cache.refresh_seen(4, MANY)
        cache.seen(torch.zeros(2, 3, dtype=torch.int64))
    assert counts["encode"] == buffer.rows
    assert counts["decode"] <= buffer.rows + 1  # one for the shape


@pytest.mark.parametrize("first", range(1, 10))
def test_frames_added_later_are_perceived_as_if_all_had_been_there(agent: TokenAgent, first: int) -> None:
    """Bit for bit, wherever the chunks were cut: a resumed run perceives all at once."""
    buffer = small.buffer([first], capacity=30, is_open=True)
    gradual, at_once = PerceptionCache(buffer, agent), PerceptionCache(buffer, agent)
    for seed, count in enumerate((7, 1, 9)):
        gradual.refresh_seen(3, MANY)
        nothing = torch.zeros(count)
        buffer.extend({"image": small.frames(count, seed=seed)}, nothing.long(), nothing, nothing)
    gradual.refresh_seen(3, MANY)
    at_once.refresh_seen(3, MANY)
    rows = torch.arange(buffer.rows)[None]
    assert torch.equal(gradual.tokens(rows), at_once.tokens(rows))
    assert torch.equal(gradual.seen(rows), at_once.seen(rows))
    assert_current(gradual, agent, buffer)


def test_few_draws_do_not_decode_everything(agent: TokenAgent) -> None:
    buffer = small.buffer([5, 8])
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, draws=3)
    assert cache._seen is None


@pytest.mark.parametrize("make", [small.rem_agent, small.m3_agent])
def test_codes_are_looked_up_at_the_draw(make: Callable[[], TokenAgent]) -> None:
    """However many are drawn: all of them would take more memory than the frames."""
    buffer, agent = small.buffer([5, 8], spec=small.mixed_spec()), make()
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, MANY)
    assert cache._seen is None
    assert_current(cache, agent, buffer)


def test_no_frames_can_be_drawn(agent: TokenAgent) -> None:
    """A policy without burn-in."""
    buffer = small.buffer([5])
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, draws=0)
    assert cache.seen(torch.zeros(4, 0, dtype=torch.int64)).shape == (4, 0, 3, small.RESOLUTION, small.RESOLUTION)


def test_cached_frames_carry_no_gradient(agent: TokenAgent) -> None:
    buffer = small.buffer([5])
    cache = PerceptionCache(buffer, agent)
    for draws in (0, MANY):
        cache.refresh_seen(0, draws)
        assert not cache.seen(torch.ones(1, 2, dtype=torch.int64)).requires_grad


# Transitions


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


def counted(agent: DeltaAgent, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of transitions that are encoded from now on."""
    counts, encode = [], agent.tokenizer.encode

    def counting(frames: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        counts.append(len(frames))
        return encode(frames, actions, following)

    monkeypatch.setattr(agent.tokenizer, "encode", counting)
    return counts


def test_no_transition_is_encoded_twice(delta: DeltaAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = small.buffer([5, 8], capacity=30, is_open=True)
    cache, counts = TransitionCache(buffer, delta), counted(delta, monkeypatch)
    for _ in range(3):
        cache.refresh(4, MANY)
        known(cache, buffer)
    assert sum(counts) == buffer.rows + buffer.num_episodes  # out of every row, and into every episode
    counts.clear()
    extend(buffer, 2)
    cache.refresh(4, MANY)
    assert sum(counts) == 4  # the chunk of rows 12 to 15: the last old one leads somewhere now


@pytest.mark.parametrize(("more", "is_filled"), [(0, False), (1, True)])
def test_transitions_are_encoded_beforehand_if_more_are_drawn_than_there_are(
    delta: DeltaAgent, monkeypatch: pytest.MonkeyPatch, more: int, is_filled: bool
) -> None:
    buffer = small.buffer([5, 8])
    cache, counts = TransitionCache(buffer, delta), counted(delta, monkeypatch)
    cache.refresh(0, buffer.rows + more)
    assert bool(counts) == is_filled
    counts.clear()
    known(cache, buffer)
    assert bool(counts) == (not is_filled)


def test_a_draw_of_cached_transitions_waits_for_nothing() -> None:
    buffer = small.buffer([5, 8])
    cache = TransitionCache(buffer, SHARED)
    segments = everywhere(buffer)
    for draws in (0, MANY):
        cache.refresh(0, draws)
        with without_synchronisation():
            tokens = cache.tokens(segments, to_float(segments.observations["image"]))
        assert not tokens.requires_grad
