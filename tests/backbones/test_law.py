"""The contract of every backbone of the registry: steps are the parallel pass, query tokens are steps that leave the
state as it is, nothing attends to the future, memory is static."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds import backbones
from tokenworlds.backbones import memory
from tokenworlds.config import Attention, Backbone, Norm, Positions, SuffixAttention

BLOCK, BLOCKS = 3, 5
TOKENS = BLOCK * BLOCKS
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

SIMULUS = {"positions": Positions.rotary, "norm": Norm.post, "attention_bias": False}
FULL_SUFFIX = {"suffix_attention": SuffixAttention.full}
CAUSAL: dict[str, tuple[Backbone, dict[str, Any]]] = {name.name: (name, {}) for name in Backbone} | {
    "rotary": (Backbone.transformer, SIMULUS),
    "sinusoidal": (Backbone.transformer, SIMULUS | {"positions": Positions.sinusoidal}),
    "wired": (Backbone.cfc, {"sparsity": 0.5, "block_positions": False}),
    "shared_keys": (Backbone.llama, {"num_kv_heads": 1}),
    "memory_in_blocks": (Backbone.retnet, {"shortest_memory": 1.0, "longest_memory": 2.0, "memory_in_blocks": True}),
}
FULL: dict[str, tuple[Backbone, dict[str, Any]]] = {
    "full_suffix": (Backbone.transformer, FULL_SUFFIX),
    "full_suffix_rotary": (Backbone.transformer, SIMULUS | FULL_SUFFIX),
    "block_causal": (Backbone.transformer, {"attention": Attention.block_causal}),
}
VARIANTS = CAUSAL | FULL

every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_causal = pytest.mark.parametrize("variant", CAUSAL)
every_backbone = pytest.mark.parametrize("name", list(Backbone), ids=lambda name: name.name)
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def build(
    name: Backbone, dtype: torch.dtype = torch.float32, spare_blocks: int = 0, **changes: Any
) -> backbones.Backbone[Any]:
    """The changes are of the backbone's own section."""
    config = small.world_model_config(max_blocks=BLOCKS - spare_blocks)
    setattr(config, name.name, dataclasses.replace(getattr(config, name.name), **changes))
    backbone = backbones.build(name, config, BLOCK, spare_blocks=spare_blocks)
    return small.spread(backbone.to(dtype)).eval()


def build_variant(variant: str, dtype: torch.dtype = torch.float64, **more: Any) -> backbones.Backbone[Any]:
    name, changes = VARIANTS[variant]
    return build(name, dtype, **(changes | more))


def inputs(length: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(2, length, 8, generator=small.generator(seed), dtype=dtype)


def in_steps(backbone: backbones.Backbone[Any], x: Tensor, lengths: list[int]) -> Tensor:
    state, outputs = backbone.init_state(len(x)), []
    for part in x.split(lengths, dim=1):
        out, state = backbone.step(state, part)
        outputs.append(out)
    return torch.cat(outputs, dim=1)


def read(backbone: backbones.Backbone[Any], x: Tensor) -> Any:
    """The state after whole blocks."""
    state = backbone.init_state(len(x))
    for block in x.split(BLOCK, dim=1):
        _, state = backbone.step(state, block)
    return state


splits = st.lists(st.integers(1, TOKENS), min_size=1, max_size=TOKENS).map(
    lambda lengths: [n for i, n in enumerate(lengths) if sum(lengths[: i + 1]) <= TOKENS] or [1]
)


@every_causal
@every_dtype
@settings(deadline=None, max_examples=30)
@given(lengths=splits, seed=st.integers(0, 3))
@torch.no_grad()
def test_any_split_into_steps_equals_the_parallel_pass(
    variant: str, dtype: torch.dtype, lengths: list[int], seed: int
) -> None:
    backbone, x = build_variant(variant, dtype), inputs(sum(lengths), dtype, seed)
    atol = TOLERANCE[dtype]
    torch.testing.assert_close(in_steps(backbone, x, lengths), backbone.parallel(x), rtol=atol, atol=atol)


@every_causal
@pytest.mark.parametrize("changed", range(TOKENS))
@torch.no_grad()
def test_changing_a_token_changes_no_earlier_output_and_every_later_one(variant: str, changed: int) -> None:
    backbone, x = build_variant(variant), inputs(TOKENS, torch.float64)
    before = backbone.parallel(x)
    x[:, changed] = torch.linspace(-1, 1, 8)  # not a mere shift, which layer norms do not see
    differences = (backbone.parallel(x) - before).abs().amax(dim=(0, 2))
    assert not differences[:changed].any()
    assert differences[changed:].gt(1e-9).all()


@every_causal
@torch.no_grad()
def test_rows_of_a_batch_do_not_meet(variant: str) -> None:
    backbone, x = build_variant(variant), inputs(TOKENS, torch.float64)
    torch.testing.assert_close(backbone.parallel(x[1:]), backbone.parallel(x)[1:])
    torch.testing.assert_close(in_steps(backbone, x[1:, :7], [4, 1, 2]), backbone.parallel(x)[1:, :7])


@every_causal
@torch.no_grad()
def test_a_state_keeps_its_shapes(variant: str) -> None:
    backbone = build_variant(variant, torch.float32)
    state = backbone.init_state(2)
    shapes = [tensor.shape for tensor in memory.tensors(state)]
    assert shapes
    for _ in range(5):
        _, state = backbone.step(state, inputs(2))
        assert [tensor.shape for tensor in memory.tensors(state)] == shapes


@every_causal
@torch.no_grad()
def test_steps_with_half_the_digits_are_near_the_parallel_pass(variant: str) -> None:
    backbone, x = build_variant(variant, torch.float32), inputs(TOKENS)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        outputs = in_steps(backbone, x, [4, 1, 1, TOKENS - 6]).float()
    expected = backbone.parallel(x)
    assert (outputs - expected).abs().mean() < 0.03 * expected.abs().mean()


@every_causal
def test_a_new_state_knows_nothing_of_an_old_one(variant: str) -> None:
    backbone = build_variant(variant, torch.float32)
    with torch.no_grad():
        first = in_steps(backbone, inputs(6, seed=1), [3, 3])
        in_steps(backbone, inputs(TOKENS, seed=2), [TOKENS])
        assert torch.equal(in_steps(backbone, inputs(6, seed=1), [3, 3]), first)


@every_causal
def test_gradients_reach_every_parameter(variant: str) -> None:
    backbone = build_variant(variant, torch.float32)
    backbone.parallel(inputs(TOKENS)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in backbone.parameters())


# Query tokens, which read a state and leave it as it is


def queries(tokens: int, seed: int = 9) -> Tensor:
    """(B, T, K, D), all different."""
    return inputs(BLOCKS * tokens, torch.float64, seed).unflatten(1, (BLOCKS, tokens))


@every_variant
@pytest.mark.parametrize("tokens", range(1, BLOCK + 1))
@torch.no_grad()
def test_predictions_of_the_parallel_pass_are_steps_from_the_states_before_their_blocks(
    variant: str, tokens: int
) -> None:
    """Where query tokens attend to all, these are the steps of attention that is full inside a block."""
    backbone, x, query_tokens = build_variant(variant), inputs(TOKENS, torch.float64), queries(tokens)
    reader = backbone if variant in CAUSAL else build_variant(variant, attention=Attention.block_causal)
    last, predictions = backbone.parallel_and_query(x, query_tokens)
    torch.testing.assert_close(last, backbone.parallel(x)[:, BLOCK - 1 :: BLOCK])
    for block in range(BLOCKS):
        state = read(backbone, x[:, : block * BLOCK]) if block else backbone.init_state(len(x))
        torch.testing.assert_close(predictions[:, block], reader.step(state, query_tokens[:, block])[0])


@every_variant
@pytest.mark.parametrize("tokens", range(1, BLOCK + 1))
@torch.no_grad()
def test_predictions_after_a_block_are_those_of_the_parallel_pass_for_the_next(variant: str, tokens: int) -> None:
    backbone, x, query_tokens = build_variant(variant), inputs(TOKENS, torch.float64), queries(tokens)
    last, predictions = backbone.parallel_and_query(x, query_tokens)
    state = backbone.init_state(len(x))
    for block in range(BLOCKS - 1):
        here = slice(block * BLOCK, (block + 1) * BLOCK)
        out, predicted, state = backbone.step_and_query(state, x[:, here], query_tokens[:, block + 1])
        torch.testing.assert_close(out, last[:, block])
        torch.testing.assert_close(predicted, predictions[:, block + 1])
    torch.testing.assert_close(backbone.step(state, x[:, -BLOCK:])[0][:, -1], last[:, -1])


@every_causal
@torch.no_grad()
def test_a_spare_block_has_room_for_queries_after_the_last_block(variant: str) -> None:
    x, query_tokens = inputs(TOKENS, torch.float64), queries(BLOCK)
    expected = build_variant(variant).parallel_and_query(x, query_tokens)[1][:, -1]
    backbone = build_variant(variant, spare_blocks=1)
    assert backbone.max_tokens == TOKENS
    state = backbone.init_state(len(x))
    _, predictions, _ = backbone.step_and_query(state, x[:, :-BLOCK], query_tokens[:, -1])
    torch.testing.assert_close(predictions, expected)


def check_queries(backbone: backbones.Backbone[Any], before: list[int], count: int, tokens: int) -> None:
    """Read steps of these lengths, then query: as a step, and a step with the query tokens from a copy of its state."""
    x, query_tokens = inputs(TOKENS, torch.float64), inputs(tokens, torch.float64, seed=9)
    state, start = backbone.init_state(len(x)), sum(before)
    for part in x[:, :start].split(before, dim=1) if before else ():
        _, state = backbone.step(state, part)
    new, rest = x[:, start : start + count], x[:, start + count :]
    expected, after = backbone.step(copy.deepcopy(state), new)
    expected_predictions, _ = backbone.step(copy.deepcopy(after), query_tokens)
    last, predictions, state = backbone.step_and_query(state, new, query_tokens)
    torch.testing.assert_close(last, expected[:, -1])
    torch.testing.assert_close(predictions, expected_predictions)
    if rest.shape[1]:
        torch.testing.assert_close(backbone.step(state, rest)[0], backbone.step(after, rest)[0])


@every_causal
@settings(deadline=None, max_examples=30)
@given(lengths=splits, tokens=st.integers(1, TOKENS))
@torch.no_grad()
def test_query_tokens_are_a_step_that_leaves_the_state_as_it_is(variant: str, lengths: list[int], tokens: int) -> None:
    *before, count = lengths
    assume(tokens <= TOKENS - sum(lengths))
    check_queries(build_variant(variant), before, count, tokens)


@pytest.mark.parametrize("before", [[], [BLOCK], [2 * BLOCK]], ids=str)
@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("tokens", [1, BLOCK])
@torch.no_grad()
def test_block_causal_attention_hides_the_queries_from_their_own_block(
    before: list[int], count: int, tokens: int
) -> None:
    check_queries(build_variant("block_causal"), before, count, tokens)


@every_variant
@pytest.mark.parametrize("block", range(BLOCKS))
def test_predictions_depend_on_the_tokens_before_their_block_and_on_their_own_queries(variant: str, block: int) -> None:
    backbone = build_variant(variant)
    x, query_tokens = inputs(TOKENS, torch.float64).requires_grad_(), queries(2).requires_grad_()
    _, predictions = backbone.parallel_and_query(x, query_tokens)
    weights = inputs(2, torch.float64, seed=3)
    by_token, by_query = torch.autograd.grad(
        (predictions[:, block] * weights).sum(), [x, query_tokens], materialize_grads=True
    )
    sensitivity = by_token.abs().amax(dim=(0, 2))
    assert not sensitivity[block * BLOCK :].any()
    assert sensitivity[: block * BLOCK].gt(1e-9).all()
    owned = by_query.abs().amax(dim=(0, 2, 3))
    assert owned[block] > 1e-9 and not owned[torch.arange(BLOCKS) != block].any()


@every_variant
@torch.no_grad()
def test_query_tokens_attend_to_no_later_one_unless_attention_is_full(variant: str) -> None:
    backbone, x, query_tokens = build_variant(variant), inputs(TOKENS, torch.float64), queries(BLOCK)
    before = backbone.parallel_and_query(x, query_tokens)[1]
    query_tokens[:, :, 1] = torch.linspace(-1, 1, 8, dtype=torch.float64)
    differences = (backbone.parallel_and_query(x, query_tokens)[1] - before).abs().amax(dim=(0, 1, 3))
    assert differences[1:].gt(1e-9).all()
    assert bool(differences[0]) is (variant in FULL)


@every_backbone
def test_queries_that_do_not_fit_the_blocks_are_refused(name: Backbone) -> None:
    backbone = build(name)
    for tokens, shape in ((TOKENS - 1, (BLOCKS, 1)), (TOKENS, (BLOCKS - 1, 1)), (TOKENS, (BLOCKS, BLOCK + 1))):
        with pytest.raises(ValueError, match=f"blocks of {BLOCK} tokens"):
            backbone.parallel_and_query(inputs(tokens), torch.zeros(2, *shape, 8))


@pytest.mark.parametrize("attention", list(Attention), ids=lambda attention: attention.name)
def test_is_causal_says_whether_later_tokens_are_seen(attention: Attention) -> None:
    assert build(Backbone.transformer, attention=attention).is_causal is (attention is Attention.causal)
