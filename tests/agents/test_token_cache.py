"""The cache of tokens of stored observations: equal to the tokenizer's own, and never stale."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.agents.token import TokenAgent
from tokenworlds.agents.token_cache import TokenCache
from tokenworlds.replay import ReplayBuffer

MANY = 10**9


@pytest.fixture
def agent() -> TokenAgent:
    return small.agent()


def direct(agent: TokenAgent, buffer: ReplayBuffer, rows: Tensor) -> tuple[Tensor, Tensor]:
    tokens = agent.encode(buffer.observations(rows.flatten()))
    return tokens.unflatten(0, rows.shape), agent.policy_input(tokens).unflatten(0, rows.shape)


def assert_current(cache: TokenCache, agent: TokenAgent, buffer: ReplayBuffer) -> None:
    rows = torch.arange(buffer.rows).flip(0).unsqueeze(0)
    tokens, seen = direct(agent, buffer, rows)
    assert torch.equal(cache.tokens(rows), tokens)
    torch.testing.assert_close(cache.policy_inputs(rows), seen, rtol=0, atol=1e-4)  # other chunks, other rounding


@pytest.mark.parametrize("draws", [0, MANY], ids=["decoded at the draw", "decoded beforehand"])
@pytest.mark.parametrize("make", [small.agent, small.rem_agent, small.m3_agent])
def test_cached_tokens_are_the_tokenizers(make: Callable[[], TokenAgent], draws: int) -> None:
    agent, buffer = make(), small.buffer([5, 8], spec=small.mixed_spec())  # more than one chunk
    cache = TokenCache(buffer, agent)
    assert cache.chunk < buffer.rows
    cache.refresh_inputs(0, draws)
    assert_current(cache, agent, buffer)
    assert (cache._inputs is None) == (draws == 0 or make is not small.agent)  # codes are looked up at the draw
    assert not cache.policy_inputs(torch.ones(1, 2, dtype=torch.int64)).requires_grad


def test_observations_that_are_symbols_already_are_encoded_once() -> None:
    """Where nothing is learned, the tokenizer is never another one."""
    buffer, agent = small.buffer([5, 8], spec=small.mixed_spec()), small.m3_agent()
    cache = TokenCache(buffer, agent)
    cache.refresh_tokens(0)
    rows = torch.arange(buffer.rows)[None]
    for name in ("token", "token_2d"):
        where = agent.tokenizer.layout.symbols[name]
        stored = buffer.observations(rows.flatten())[name].flatten(1).long()
        assert torch.equal(cache.tokens(rows)[0, :, where], stored)


def test_padding_is_the_blank_frame(agent: TokenAgent) -> None:
    """Encoded in the same batch as in the cache: rounding depends on the size of a batch."""
    buffer = small.buffer([3])
    assert not buffer.observations(slice(0, 1))["image"].any()
    cache = TokenCache(buffer, agent)
    cache.refresh_inputs(0, MANY)
    tokens = agent.encode(buffer.observations(slice(0, buffer.rows)))
    assert torch.equal(cache.tokens(torch.tensor([[0]]))[0], tokens[:1])
    assert torch.equal(cache.policy_inputs(torch.tensor([[0]]))[0], agent.policy_input(tokens)[:1])


@pytest.mark.parametrize("draws", [0, MANY])
def test_a_trained_tokenizer_is_asked_again(agent: TokenAgent, draws: int) -> None:
    buffer = small.buffer([5])
    cache = TokenCache(buffer, agent)
    cache.refresh_inputs(0, draws)
    before = cache.tokens(torch.arange(buffer.rows)[None]).clone()
    with torch.no_grad():
        agent.tokenizer.part("image").embedding.weight.normal_(generator=small.generator(8))
    cache.refresh_inputs(1, draws)
    assert not torch.equal(cache.tokens(torch.arange(buffer.rows)[None]), before)
    assert_current(cache, agent, buffer)


def test_nothing_is_computed_twice(agent: TokenAgent) -> None:
    buffer = small.buffer([5, 8])
    cache = TokenCache(buffer, agent)
    encoded, decoded = small.calls_of(agent.tokenizer, "encode"), small.calls_of(agent, "decode")
    for _ in range(3):
        cache.refresh_tokens(4)
        cache.refresh_inputs(4, MANY)
        cache.policy_inputs(torch.zeros(2, 3, dtype=torch.int64))
    assert sum(len(tokens) for _, tokens in encoded) == buffer.rows
    assert sum(len(tokens) for (tokens,), _ in decoded) <= buffer.rows + 1  # one for the shape


@pytest.mark.parametrize("first", (1, 3, 4, 8))
def test_frames_added_later_are_encoded_as_if_all_had_been_there(agent: TokenAgent, first: int) -> None:
    """Bit for bit, wherever the chunks were cut: a resumed run encodes all at once."""
    buffer = small.buffer([first], capacity=30, is_open=True)
    gradual, at_once = TokenCache(buffer, agent), TokenCache(buffer, agent)
    for seed, count in enumerate((7, 1, 9)):
        gradual.refresh_inputs(3, MANY)
        nothing = torch.zeros(count)
        buffer.extend({"image": small.frames(count, seed=seed)}, nothing.long(), nothing, nothing)
    gradual.refresh_inputs(3, MANY)
    at_once.refresh_inputs(3, MANY)
    rows = torch.arange(buffer.rows)[None]
    assert torch.equal(gradual.tokens(rows), at_once.tokens(rows))
    assert torch.equal(gradual.policy_inputs(rows), at_once.policy_inputs(rows))
    assert_current(gradual, agent, buffer)


def test_no_frames_can_be_drawn(agent: TokenAgent) -> None:
    """A policy without burn-in."""
    buffer = small.buffer([5])
    cache = TokenCache(buffer, agent)
    cache.refresh_inputs(0, draws=0)
    assert cache.policy_inputs(torch.zeros(4, 0, dtype=torch.int64)).shape == (
        4,
        0,
        3,
        small.RESOLUTION,
        small.RESOLUTION,
    )
