"""What only the retentive network has: its three forms against the plain one, decays, initial weights, number
formats."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tests.backbones.test_law import BLOCK, BLOCKS, TOKENS, build, inputs, read
from tokenworlds.backbones.retnet import RetNetBackbone, RetNetLayer, multi_scale_retention
from tokenworlds.config import Backbone, RetNetConfig
from tokenworlds.errors import UserError
from tokenworlds.ops.retention import CHUNK, retain, retain_plainly

CONFIG = RetNetConfig(num_layers=2, num_heads=3, value_dim=18, hidden_dim=20, dropout=0.0)


def retnet(max_tokens: int, block_size: int, dtype: torch.dtype = torch.float64, **changes: Any) -> RetNetBackbone:
    """Width 12, heads of 4 (queries, keys) and 6 (values)."""
    config = dataclasses.replace(CONFIG, **changes)
    return small.spread(RetNetBackbone(config, 12, max_tokens, block_size).to(dtype)).eval()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=small.generator(seed), dtype=torch.float64)


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """Pairs of channels rotated by position times frequency, in real numbers."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * 10_000 ** -torch.linspace(0, 1, half, dtype=x.dtype)
    first, second = x[..., ::2], x[..., 1::2]
    pairs = (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin())
    return torch.stack(pairs, dim=-1).flatten(-2)


def decays_between(shortest: float, longest: float, heads: int) -> Tensor:
    """1 - 1/memory, the memories a geometric sequence."""
    share = torch.arange(heads, dtype=torch.float64) / max(heads - 1, 1)
    return 1 - 1 / (shortest ** (1 - share) * longest**share)


def plain_retention(
    layer: RetNetLayer, x: Tensor, positions: Tensor, seen: Tensor, memories: tuple[float, float]
) -> Tensor:
    """o = ((Q K^T) * D) V with one weight for every pair of tokens, D_nm = g^(n-m) where n sees m, else 0."""
    heads, width = layer.heads, x.shape[-1] // layer.heads
    qkv, gate = (part(x).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (layer.query_key_value, layer.gate))
    q, k, v = qkv.split([width, width, gate.shape[-1]], dim=-1)
    q, k = turned(q, positions), turned(k, positions) / math.sqrt(width)
    o = retain_plainly(q, k, v, decays_between(*memories, heads).to(x.dtype), positions, seen)
    o = (o - o.mean(-1, keepdim=True)) / (o.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    out: Tensor = layer.out((F.silu(gate) * o).transpose(1, 2).flatten(-2))
    return out


def plain(
    backbone: RetNetBackbone, x: Tensor, positions: Tensor, seen: Tensor, memories: tuple[float, float] = (32, 512)
) -> Tensor:
    for layer in backbone.layers:
        x = x + plain_retention(layer, layer.norm1(x), positions, seen, memories)
        x = x + layer.down(F.silu(layer.up(layer.norm2(x))))
    return x


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1, 150])
@pytest.mark.parametrize("block_size", [1, 5, 17, CHUNK + 6, 200])
@pytest.mark.parametrize("heads", [1, 3])
@torch.no_grad()
def test_chunks_equal_the_plain_parallel_form_whatever_the_block_size(heads: int, length: int, block_size: int) -> None:
    backbone, x = retnet(200, block_size, num_heads=heads), randn(2, length, 12)
    positions = torch.arange(length)
    expected = plain(backbone, x, positions, positions[:, None] >= positions)
    torch.testing.assert_close(backbone.parallel(x), expected, rtol=1e-10, atol=1e-10)
    state = backbone.init_state(2)
    for part, wanted in zip(x.split(length * 2 // 3 + 1, dim=1), expected.split(length * 2 // 3 + 1, dim=1)):
        out, state = backbone.step(state, part)
        torch.testing.assert_close(out, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("block_size", "tokens"), [(1, 1), (5, 1), (5, 4), (5, 5), (17, 16), (30, 24)])
@torch.no_grad()
def test_predictions_equal_the_plain_form_over_both_streams(block_size: int, tokens: int) -> None:
    blocks = 4
    backbone = retnet(blocks * block_size, block_size)
    x, query_tokens = randn(2, blocks * block_size, 12), randn(2, blocks, tokens, 12, seed=1)
    real = torch.arange(blocks * block_size)
    queried = real.view(blocks, block_size)[:, :tokens].flatten()
    position = torch.cat([real, queried])
    is_query = torch.arange(len(position)) >= len(real)
    block, causal = position // block_size, position[:, None] >= position
    seen = torch.where(
        is_query[:, None],
        torch.where(is_query, causal & (block[:, None] == block), block[:, None] > block),
        causal & ~is_query,
    )
    expected = plain(backbone, torch.cat([x, query_tokens.flatten(1, 2)], dim=1), position, seen)
    last, predictions = backbone.parallel_and_query(x, query_tokens)
    torch.testing.assert_close(last, expected[:, : len(real)][:, block_size - 1 :: block_size], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(predictions.flatten(1, 2), expected[:, len(real) :], rtol=1e-10, atol=1e-10)


def test_gradients_equal_those_of_the_plain_parallel_form() -> None:
    backbone, positions, weights = retnet(150, 5), torch.arange(150), randn(2, 150, 12, seed=5)
    other = copy.deepcopy(backbone)
    x, y = randn(2, 150, 12).requires_grad_(), randn(2, 150, 12).requires_grad_()
    (backbone.parallel(x) * weights).sum().backward()
    (plain(other, y, positions, positions[:, None] >= positions) * weights).sum().backward()
    assert x.grad is not None and y.grad is not None
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-8)
    for parameter, expected in zip(backbone.parameters(), other.parameters()):
        assert parameter.grad is not None and expected.grad is not None
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("shortest", "longest", "heads"), [(4, 16, 4), (2, 2, 3), (8, 40, 4), (1, 3, 1)])
@pytest.mark.parametrize("block_size", [7, 65])
def test_memories_in_blocks(shortest: float, longest: float, heads: int, block_size: int) -> None:
    changes = {"shortest_memory": shortest, "longest_memory": longest, "memory_in_blocks": True}
    config = dataclasses.replace(CONFIG, num_heads=heads, value_dim=24, **changes)
    backbone = RetNetBackbone(config, 24, 10, block_size).double()
    expected = decays_between(shortest * block_size, longest * block_size, heads)
    torch.testing.assert_close(backbone.tables.decays[:, 1], expected)
    torch.testing.assert_close(backbone.tables.decays[:, 5], expected**5)


SHORT = [  # block size, memories in blocks
    (30, 2.0, 2.0),
    (148, 2.0, 2.0),
    (148, 1.0, 4.0),
    (2, 1.0, 1.0),
    (148, 5 / 148, 9 / 148),
    (64, 2.1 / 64, 0.1),
]


@pytest.mark.parametrize(("block_size", "shortest", "longest"), SHORT)
def test_short_memories_are_as_accurate_as_the_plain_form(block_size: int, shortest: float, longest: float) -> None:
    """Outputs and gradients, in single precision; how large errors are depends on the weights that were drawn."""
    length = max(3, 200 // block_size) * block_size
    memories = {"shortest_memory": shortest, "longest_memory": longest, "memory_in_blocks": True}
    backbone = retnet(length, block_size, torch.float32, **memories)
    exact = copy.deepcopy(backbone).double()
    positions, tokens = torch.arange(length), (shortest * block_size, longest * block_size)

    def results(form: Callable[[Tensor], Tensor], dtype: torch.dtype) -> list[Tensor]:
        x, weights = (randn(2, length, 12, seed=seed).to(dtype) for seed in (0, 5))
        x.requires_grad_()
        outputs = form(x)
        (outputs * weights).sum().backward()
        assert x.grad is not None
        return [outputs.double(), x.grad.double()]

    def plainly(net: RetNetBackbone, dtype: torch.dtype) -> list[Tensor]:
        return results(lambda x: plain(net, x, positions, positions[:, None] >= positions, tokens), dtype)

    forms = results(backbone.parallel, torch.float32), plainly(backbone, torch.float32), plainly(exact, torch.float64)
    outputs, _, expected = (form[0] for form in forms)
    assert (outputs - expected).abs().max() < 2e-5 * expected.abs().max()
    for found, simple, exactly in zip(*forms):
        error, usual = (found - exactly).abs(), (simple - exactly).abs()
        assert error.mean() < 1.5 * usual.mean() and error.max() < 4 * usual.max()


@pytest.mark.parametrize(("block_size", "memory"), [(148, 3.0), (2, 1.0), (5, 0.5), (5, -1.0)])
def test_memories_that_are_too_short_for_a_block_are_refused(block_size: int, memory: float) -> None:
    with pytest.raises(UserError, match=f"too short for blocks of {block_size} tokens"):
        retnet(300, block_size, longest_memory=memory)


def test_tables_are_exact_after_any_conversion() -> None:
    converted = RetNetBackbone(CONFIG, 12, 30, 5).to(torch.bfloat16).double()
    direct = RetNetBackbone(CONFIG, 12, 30, 5).double()
    for name in ("rotations", "decays", "scales"):
        assert torch.equal(getattr(converted.tables, name), getattr(direct.tables, name))
    assert converted.to(torch.bfloat16).tables.decays.dtype == torch.float32
    assert not any(key.startswith("tables") for key in converted.state_dict())


@torch.no_grad()
def test_a_step_leaves_the_old_state_and_its_input_as_they_were() -> None:
    backbone, x = build(Backbone.retnet), inputs(TOKENS)
    state = read(backbone, x[:, :BLOCK])
    kept, given = copy.deepcopy(state), x.clone()
    backbone.step_and_query(state, x[:, :BLOCK], x[:, :2])
    backbone.step(state, x[:, :BLOCK])
    backbone.parallel(x)
    assert torch.equal(x, given)
    assert all(torch.equal(new, old) for new, old in zip(state.layers, kept.layers)) and state.length == kept.length


@torch.no_grad()
def test_query_tokens_are_the_same_as_one_chunk_and_in_two_steps() -> None:
    """The latter where one chunk would be too long for its decays."""
    backbone, x = build(Backbone.retnet), inputs(TOKENS)
    state, block, query_tokens = read(backbone, x[:, :BLOCK]), x[:, BLOCK : 2 * BLOCK], x[:, :BLOCK]
    steps = small.calls_of(backbone, "step")
    *one, after = backbone.step_and_query(state, block, query_tokens)
    assert steps == []
    backbone.tables.scales = backbone.tables.scales[:, : 2 * BLOCK - 1]
    *two, after_two = backbone.step_and_query(state, block, query_tokens)
    assert [x.shape[1] for (_, x), _ in steps] == [BLOCK, BLOCK]
    torch.testing.assert_close([*one, *after.layers], [*two, *after_two.layers])
    assert after.length == after_two.length


@pytest.mark.parametrize("heads", [1, 3])
def test_without_gradients_results_are_the_same_to_the_last_bit(heads: int) -> None:
    """There they are written over what is not read again."""
    backbone, x = retnet(TOKENS, BLOCK, num_heads=heads), randn(2, TOKENS, 12)
    query_tokens = x.unflatten(1, (-1, BLOCK))[:, :, :2]
    with torch.no_grad():
        without = (backbone.parallel(x), *backbone.parallel_and_query(x, query_tokens))
    found = (backbone.parallel(x), *backbone.parallel_and_query(x, query_tokens))
    assert all(torch.equal(a, b) and b.requires_grad for a, b in zip(without, found))


@pytest.mark.parametrize("heads", [1, 3])
def test_gradients_are_those_of_differences(heads: int) -> None:
    """Although queries and keys are turned where they lie."""
    backbone, query_tokens = retnet(2 * BLOCK, BLOCK, num_heads=heads, num_layers=1), randn(1, 2, 2, 12, seed=1)
    x = randn(1, 2 * BLOCK, 12).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: backbone.parallel_and_query(x, query_tokens), (x,))


@torch.no_grad()
def test_a_state_sees_optimiser_steps() -> None:
    backbone, x = build(Backbone.retnet), inputs(TOKENS)
    state = backbone.init_state(len(x))
    for parameter in backbone.parameters():
        parameter.mul_(1.1)
    found, wanted = backbone.step(state, x)[0], backbone.step(backbone.init_state(len(x)), x)[0]
    assert torch.equal(found, wanted)


@torch.no_grad()
def test_positions_beyond_the_last_are_refused() -> None:
    backbone, x = build(Backbone.retnet), inputs(TOKENS)
    _, state = backbone.step(backbone.init_state(2), x[:, : TOKENS - 1])
    _, full = backbone.step(state, x[:, -1:])
    for call in (lambda: backbone.step(full, x[:, :1]), lambda: backbone.step_and_query(state, x[:, :1], x[:, :1])):
        with pytest.raises(ValueError, match=f"are read, {TOKENS + 1} are asked for"):
            call()


def test_widths_that_heads_cannot_share_are_refused() -> None:
    for embed_dim, value_dim in ((9, 18), (12, 15)):
        with pytest.raises(ValueError, match="multiples of 2 num_heads"):
            RetNetBackbone(dataclasses.replace(CONFIG, value_dim=value_dim), embed_dim, 10, 5)


@pytest.mark.parametrize("is_identical", [True, False])
def test_layers_start_alike_only_if_asked_to(is_identical: bool) -> None:
    backbone = RetNetBackbone(CONFIG, 12, 10, 5)
    backbone.initialise()
    if is_identical:
        backbone.repeat_first_layer()
    first, second = (layer.state_dict() for layer in backbone.layers)
    for name, value in first.items():
        is_drawn = value.dim() == 2
        assert torch.equal(value, second[name]) is (is_identical or not is_drawn), name
    backbone.layers[0].out.bias.data.fill_(1)  # alike, not the same
    assert not backbone.layers[1].out.bias.any()


def test_every_matrix_starts_with_the_spread_of_its_own_shape() -> None:
    config = RetNetConfig(2, 4, value_dim=512, hidden_dim=96, dropout=0.0)
    backbone = RetNetBackbone(config, 128, 10, 5)
    backbone.initialise()
    for layer in backbone.layers:
        heads = layer.query_key_value.weight.unflatten(0, (4, -1))
        parts = [rows.flatten(0, 1) for rows in heads.split([32, 32, 128], dim=1)]
        for matrix in (*parts, *(module.weight for module in (layer.gate, layer.out, layer.up, layer.down))):
            assert matrix.std().item() == pytest.approx(math.sqrt(2 / sum(matrix.shape)), rel=0.03)
        for name, parameter in layer.named_parameters():
            assert not name.endswith("bias") or not parameter.any()


@torch.no_grad()
def test_autocast_does_not_touch_the_recurrence() -> None:
    """With projections that 8 bits hold exactly, states and mixed values have all bits of a float32."""
    backbone = retnet(TOKENS, BLOCK, torch.float32, num_layers=1)
    layer = backbone.layers[0]
    layer.query_key_value.weight.copy_(torch.eye(12).repeat(4, 1)[:42])
    layer.query_key_value.bias.zero_()
    x = torch.randint(-3, 4, (2, TOKENS, 12), generator=small.generator()).float()
    chunks, mixed = backbone._chunks(0, TOKENS, BLOCK), []

    def mix(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        mixed.extend(retain(q, k, v, chunks))
        return mixed[-2], mixed[-1]

    rows = x.flatten(0, 1)
    multi_scale_retention(rows, layer.tensors(), chunks.rotation, mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        multi_scale_retention(rows, layer.tensors(), chunks.rotation, mix)
    for exact, found in zip(mixed[:2], mixed[2:]):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact)


def test_outputs_and_states_under_autocast_are_near_the_exact_ones() -> None:
    backbone = retnet(TOKENS, BLOCK, torch.float32)
    x, query_tokens = randn(2, TOKENS, 12).float(), randn(2, BLOCKS, 2, 12, seed=1).float()
    expected, expected_predictions = backbone.parallel_and_query(x, query_tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, predictions = backbone.parallel_and_query(x, query_tokens)
        state = backbone.init_state(2)
        _, _, state = backbone.step_and_query(state, x[:, :BLOCK], query_tokens[:, 1])
    assert {layer.dtype for layer in state.layers} == {outputs.dtype, predictions.dtype} == {torch.float32}
    with torch.no_grad():
        _, exact = backbone.step(backbone.init_state(2), x[:, :BLOCK])
    for found, wanted in ((outputs, expected), (predictions, expected_predictions), *zip(state.layers, exact.layers)):
        error = (found - wanted).abs().mean() / wanted.abs().mean()
        assert 0 < error < 0.02  # some layers' products have 8 bits
    (outputs.sum() + predictions.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_dropout_acts_in_training_only_and_after_every_sublayer(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, x = retnet(TOKENS, BLOCK, dropout=0.5), randn(2, TOKENS, 12)
    outputs, dropout = backbone.parallel(x), backbone.layers[0].dropout
    assert torch.equal(backbone.parallel(x), outputs)
    dropout.train()
    assert not torch.equal(backbone.parallel(x), backbone.parallel(x))
    dropout.eval()
    assert torch.equal(backbone.parallel(x), outputs)
    dropout.train()
    widths = [6, 12, CONFIG.hidden_dim, 12]  # of a head, retention, hidden units, feed-forward
    for place in range(len(widths)):
        shares = iter([(float(i != place), width) for i, width in enumerate(widths)])

        def drop(given: Tensor, shares: Iterator[tuple[float, int]] = shares) -> Tensor:
            share, width = next(shares)
            assert given.shape[-1] == width
            return share * given

        monkeypatch.setattr(dropout, "forward", drop)
        assert not torch.equal(backbone.parallel(x), outputs)
        assert next(shares, None) is None


def test_heads_decay_from_1_32_to_1_512() -> None:
    backbone = RetNetBackbone(dataclasses.replace(CONFIG, num_heads=4, value_dim=16), 16, 10, 5)
    expected = torch.tensor([0.96875, 0.98760, 0.99508, 0.99805])
    torch.testing.assert_close(backbone.tables.decays[:, 1], expected, rtol=0, atol=5e-6)
