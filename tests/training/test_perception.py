"""The cache of what the frozen tokenizer makes of stored frames: equal to asking the tokenizer, and never stale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.agent import Agent
from tokenworlds.replay import ReplayBuffer
from tokenworlds.training.perception import PerceptionCache

MANY = 10**9


@pytest.fixture
def agent() -> Agent:
    return small.agent()


def direct(agent: Agent, buffer: ReplayBuffer, rows: Tensor) -> tuple[Tensor, Tensor]:
    tokens = agent.encode(buffer.observations(rows.flatten()))
    return tokens.unflatten(0, rows.shape), agent.see(tokens).unflatten(0, rows.shape)


def assert_current(cache: PerceptionCache, agent: Agent, buffer: ReplayBuffer) -> None:
    rows = torch.arange(buffer.rows).flip(0).unsqueeze(0)
    tokens, seen = direct(agent, buffer, rows)
    assert torch.equal(cache.tokens(rows), tokens)
    torch.testing.assert_close(cache.seen(rows), seen, rtol=0, atol=1e-4)  # other chunks, other rounding


@pytest.mark.parametrize("draws", [0, MANY], ids=["decoded at the draw", "decoded beforehand"])
def test_cached_perception_equals_direct_perception(agent: Agent, draws: int) -> None:
    buffer = small.buffer([5, 8])  # more than one chunk
    cache = PerceptionCache(buffer, agent)
    assert cache.chunk < buffer.rows
    cache.refresh_seen(0, draws)
    assert_current(cache, agent, buffer)


def test_padding_is_the_blank_frame(agent: Agent) -> None:
    """Perceived in the same batch as in the cache: rounding depends on the size of a batch."""
    buffer = small.buffer([3])
    assert not buffer.observations(slice(0, 1))["image"].any()
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, MANY)
    tokens = agent.encode(buffer.observations(slice(0, buffer.rows)))
    assert torch.equal(cache.tokens(torch.tensor([[0]]))[0], tokens[:1])
    assert torch.equal(cache.seen(torch.tensor([[0]]))[0], agent.see(tokens)[:1])


def test_new_frames_are_perceived(agent: Agent) -> None:
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
def test_a_trained_tokenizer_is_asked_again(agent: Agent, draws: int) -> None:
    buffer = small.buffer([5])
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, draws)
    before = cache.tokens(torch.arange(buffer.rows)[None]).clone()
    with torch.no_grad():
        agent.tokenizer.part("image").embedding.weight.normal_(generator=small.generator(8))
    cache.refresh_seen(1, draws)
    assert not torch.equal(cache.tokens(torch.arange(buffer.rows)[None]), before)
    assert_current(cache, agent, buffer)


def test_nothing_is_computed_twice(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_frames_added_later_are_perceived_as_if_all_had_been_there(agent: Agent, first: int) -> None:
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


def test_few_draws_do_not_decode_everything(agent: Agent) -> None:
    buffer = small.buffer([5, 8])
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, draws=3)
    assert cache._seen is None


def test_codes_are_looked_up_at_the_draw() -> None:
    """However many are drawn: all of them would take more memory than the frames."""
    buffer, agent = small.buffer([5, 8]), small.rem_agent()
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, MANY)
    assert cache._seen is None
    assert_current(cache, agent, buffer)


def test_no_frames_can_be_drawn(agent: Agent) -> None:
    """A policy without burn-in."""
    buffer = small.buffer([5])
    cache = PerceptionCache(buffer, agent)
    cache.refresh_seen(0, draws=0)
    assert cache.seen(torch.zeros(4, 0, dtype=torch.int64)).shape == (4, 0, 3, small.RESOLUTION, small.RESOLUTION)


def test_cached_frames_carry_no_gradient(agent: Agent) -> None:
    buffer = small.buffer([5])
    cache = PerceptionCache(buffer, agent)
    for draws in (0, MANY):
        cache.refresh_seen(0, draws)
        assert not cache.seen(torch.ones(1, 2, dtype=torch.int64)).requires_grad
