"""What only the transformer has: masks, the key/value cache and its limit, ways to know positions, places of norms."""

import math

import pytest
import torch
from torch import nn

from tests import small
from tests.backbones.test_law import BLOCK, BLOCKS, SIMULUS, TOKENS, build, in_steps, inputs
from tokenworlds.backbones.transformer import rotate, waves
from tokenworlds.config import Attention, Backbone, Norm, Positions
from tokenworlds.errors import UserError


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


@pytest.mark.parametrize("changes", [{}, SIMULUS], ids=["learned", "rotary"])
def test_rows_of_a_cache_are_those_of_one_pass_under_autocast(changes: dict[str, object]) -> None:
    backbone, x = build(Backbone.transformer, **changes), inputs(TOKENS)
    with torch.no_grad():
        exact = backbone.parallel(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = in_steps(backbone, x, [BLOCK] * BLOCKS)
    assert (outputs - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_sines_and_cosines_alternate() -> None:
    backbone = build(Backbone.transformer, positions=Positions.sinusoidal)
    for position in range(TOKENS):
        for pair in range(4):
            angle = position / 10_000 ** (2 * pair / 8)
            found = backbone.positions.weight[position, 2 * pair : 2 * pair + 2]
            torch.testing.assert_close(found, torch.tensor([math.sin(angle), math.cos(angle)]))


def test_odd_widths_cannot_be_turned() -> None:
    with pytest.raises(UserError, match="even width"):
        build(Backbone.transformer, positions=Positions.rotary, num_heads=8)


@torch.no_grad()
def test_halves_of_the_channels_are_turned_by_their_positions() -> None:
    x, width = torch.randn(1, 1, 9, 6, generator=small.generator(), dtype=torch.float64), 6
    found = torch.view_as_complex(torch.stack(rotate(x, waves(9, width)).chunk(2, dim=-1), dim=-1))
    angles = torch.arange(9)[:, None] * 10_000 ** (-2 * torch.arange(3, dtype=torch.float64) / width)
    turns = torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(found, torch.complex(*x.chunk(2, dim=-1)) * turns, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_norms_behind_the_layers_standardise_the_outputs() -> None:
    backbone = build(Backbone.transformer, norm=Norm.post)
    last = backbone.blocks[-1].norm2
    nn.init.ones_(last.weight)
    nn.init.zeros_(last.bias)
    outputs = backbone.parallel(inputs(TOKENS))
    torch.testing.assert_close(outputs.mean(-1), torch.zeros(2, TOKENS), rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.var(-1, unbiased=False), torch.ones(2, TOKENS), rtol=1e-2, atol=0)


@pytest.mark.parametrize("norm", list(Norm), ids=lambda norm: norm.name)
def test_initial_weights_are_those_of_gpt_or_with_norms_behind_of_construction(norm: Norm) -> None:
    backbone = build(Backbone.transformer, norm=norm)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.initialise()
    is_kept = {torch.equal(before[key], value) for key, value in backbone.state_dict().items() if value.dim() == 2}
    assert is_kept == {norm is Norm.post}


@torch.no_grad()
def test_rotation_tells_distances_only() -> None:
    """Products of queries and keys stay as they are when all positions move."""
    x = torch.randn(2, 1, 1, 5, 8, generator=small.generator(), dtype=torch.float64)
    products = []
    for start in (0, 3):
        query, key = (rotate(part, waves(8, 8)[start : start + 5].double()) for part in x)
        products.append(query @ key.transpose(-1, -2))
    torch.testing.assert_close(*products, rtol=1e-6, atol=1e-6)
