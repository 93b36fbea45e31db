"""What only the transformer has: the block-causal mask, the key/value cache and its limit."""

from __future__ import annotations

import pytest
import torch

from tests import small
from tests.backbones.test_law import BLOCK, BLOCKS, TOKENS, build, in_steps, inputs
from tokenworlds.config import Attention, Backbone


@torch.no_grad()
@pytest.mark.parametrize("changed", range(TOKENS))
def test_block_causal_attention_sees_its_whole_block_and_no_later_one(changed: int) -> None:
    backbone = build(Backbone.transformer, torch.float64, attention=Attention.block_causal)
    x = inputs(TOKENS, torch.float64)
    before = backbone.parallel(x)
    x[:, changed] = torch.linspace(-1, 1, 8)
    differences = (backbone.parallel(x) - before).abs().amax(dim=(0, 2))
    first_of_block = changed // BLOCK * BLOCK
    assert not differences[:first_of_block].any()
    assert differences[first_of_block:].gt(1e-9).all()


@torch.no_grad()
@pytest.mark.parametrize("blocks", [[1] * BLOCKS, [2, 3], [1, 4], [5], [3, 1, 1]], ids=str)
def test_block_causal_steps_of_whole_blocks_equal_the_parallel_pass(blocks: list[int]) -> None:
    backbone = build(Backbone.transformer, torch.float64, attention=Attention.block_causal)
    x = inputs(TOKENS, torch.float64)
    torch.testing.assert_close(in_steps(backbone, x, [BLOCK * n for n in blocks]), backbone.parallel(x))


@torch.no_grad()
def test_a_full_cache_refuses_another_token() -> None:
    backbone = build(Backbone.transformer)
    _, state = backbone.step(backbone.init_state(2), inputs(TOKENS - 1))
    _, state = backbone.step(state, inputs(1))  # exactly full
    with pytest.raises(ValueError, match=f"holds {TOKENS} tokens, {TOKENS} are read, {TOKENS + 1} are asked for"):
        backbone.step(state, inputs(1))


@torch.no_grad()
def test_the_cache_is_allocated_once() -> None:
    backbone = build(Backbone.transformer)
    state = backbone.init_state(2)
    addresses = state.keys.data_ptr(), state.values.data_ptr()
    for count in (3, 1, 1, 4):
        _, state = backbone.step(state, inputs(count))
        assert (state.keys.data_ptr(), state.values.data_ptr()) == addresses
    assert state.keys.shape == (2, 2, 2, TOKENS, 4)  # layers, batch, heads, tokens, width of a head
    assert not state.keys[:, :, :, state.length :].any()


def test_dropout_acts_in_training_only() -> None:
    backbone = build(Backbone.transformer, embed_dropout=0.5, residual_dropout=0.5, attention_dropout=0.5)
    x = inputs(TOKENS)
    assert torch.equal(backbone.parallel(x), backbone.parallel(x))
    backbone.train()
    assert not torch.equal(backbone.parallel(x), backbone.parallel(x))


@torch.no_grad()
def test_a_position_is_its_index_in_the_context() -> None:
    backbone = build(Backbone.transformer)
    same = inputs(1).expand(-1, 4, -1)
    outputs = backbone.parallel(same)
    assert not torch.allclose(outputs[:, 0], outputs[:, 1])
    backbone.positions.weight.data.zero_()
    outputs = backbone.parallel(same)
    torch.testing.assert_close(outputs[:, 0], outputs[:, 3])


def test_the_cache_takes_the_number_format_of_autocast() -> None:
    backbone = small.spread(build(Backbone.transformer))
    assert backbone.init_state(1).keys.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = backbone.init_state(1)
        assert state.keys.dtype == torch.bfloat16
        backbone.step(state, inputs(2)[:1])
