"""The contract of every backbone of the registry: steps are the parallel pass, nothing sees the future, memory is
static."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds import backbones
from tokenworlds.config import Attention, Backbone

BLOCK, BLOCKS = 3, 5
TOKENS = BLOCK * BLOCKS
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

every_backbone = pytest.mark.parametrize("name", list(Backbone), ids=lambda name: name.name)
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def build(name: Backbone, dtype: torch.dtype = torch.float32, **changes: Any) -> backbones.Backbone[Any]:
    config = small.world_model_config(max_blocks=BLOCKS, **changes)
    return small.spread(backbones.build(name, config, BLOCK).to(dtype)).eval()


def inputs(length: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(2, length, 8, generator=small.generator(seed), dtype=dtype)


def in_steps(backbone: backbones.Backbone[Any], x: Tensor, lengths: list[int]) -> Tensor:
    state, outputs = backbone.init_state(len(x)), []
    for part in x.split(lengths, dim=1):
        out, state = backbone.step(state, part)
        outputs.append(out)
    return torch.cat(outputs, dim=1)


splits = st.lists(st.integers(1, TOKENS), min_size=1, max_size=TOKENS).map(
    lambda lengths: [n for i, n in enumerate(lengths) if sum(lengths[: i + 1]) <= TOKENS] or [1]
)


@every_backbone
@every_dtype
@settings(deadline=None, max_examples=30)
@given(lengths=splits, seed=st.integers(0, 3))
@torch.no_grad()
def test_any_split_into_steps_equals_the_parallel_pass(
    name: Backbone, dtype: torch.dtype, lengths: list[int], seed: int
) -> None:
    backbone, x = build(name, dtype), inputs(sum(lengths), dtype, seed)
    atol = TOLERANCE[dtype]
    torch.testing.assert_close(in_steps(backbone, x, lengths), backbone.parallel(x), rtol=atol, atol=atol)


@every_backbone
@torch.no_grad()
def test_one_token_at_a_time_equals_the_parallel_pass(name: Backbone) -> None:
    backbone, x = build(name, torch.float64), inputs(TOKENS, torch.float64)
    torch.testing.assert_close(in_steps(backbone, x, [1] * TOKENS), backbone.parallel(x))


@every_backbone
@pytest.mark.parametrize("changed", range(TOKENS))
@torch.no_grad()
def test_changing_a_token_changes_no_earlier_output_and_every_later_one(name: Backbone, changed: int) -> None:
    backbone, x = build(name, torch.float64), inputs(TOKENS, torch.float64)
    before = backbone.parallel(x)
    x[:, changed] = torch.linspace(-1, 1, 8)  # not a mere shift, which layer norms do not see
    differences = (backbone.parallel(x) - before).abs().amax(dim=(0, 2))
    assert not differences[:changed].any()
    assert differences[changed:].gt(1e-9).all()


@every_backbone
@torch.no_grad()
def test_a_prefix_gives_the_prefix_of_the_outputs(name: Backbone) -> None:
    backbone, x = build(name, torch.float64), inputs(TOKENS, torch.float64)
    torch.testing.assert_close(backbone.parallel(x[:, :7]), backbone.parallel(x)[:, :7])


@every_backbone
@torch.no_grad()
def test_rows_of_a_batch_do_not_meet(name: Backbone) -> None:
    backbone, x = build(name, torch.float64), inputs(TOKENS, torch.float64)
    torch.testing.assert_close(backbone.parallel(x[1:]), backbone.parallel(x)[1:])
    torch.testing.assert_close(in_steps(backbone, x[1:, :7], [4, 1, 2]), backbone.parallel(x)[1:, :7])


def memory(state: Any) -> list[Tensor]:
    """The tensors of a state, however it is built."""
    if isinstance(state, Tensor):
        return [state]
    if dataclasses.is_dataclass(state):
        state = [getattr(state, field.name) for field in dataclasses.fields(state)]
    if isinstance(state, dict):
        state = list(state.values())
    return [tensor for part in state for tensor in memory(part)] if isinstance(state, list | tuple) else []


@every_backbone
@torch.no_grad()
def test_a_state_keeps_its_shapes(name: Backbone) -> None:
    backbone = build(name)
    state = backbone.init_state(2)
    shapes = [tensor.shape for tensor in memory(state)]
    assert shapes
    for _ in range(5):
        _, state = backbone.step(state, inputs(2))
        assert [tensor.shape for tensor in memory(state)] == shapes


@every_backbone
def test_a_new_state_knows_nothing_of_an_old_one(name: Backbone) -> None:
    backbone = build(name)
    with torch.no_grad():
        first = in_steps(backbone, inputs(6, seed=1), [3, 3])
        in_steps(backbone, inputs(TOKENS, seed=2), [TOKENS])
        assert torch.equal(in_steps(backbone, inputs(6, seed=1), [3, 3]), first)


@every_backbone
def test_gradients_reach_every_parameter(name: Backbone) -> None:
    backbone = build(name)
    backbone.parallel(inputs(TOKENS)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in backbone.parameters())


def test_an_unknown_backbone_cannot_be_built_silently() -> None:
    """Every name of the configuration has a backbone behind it."""
    for name in Backbone:
        assert isinstance(build(name), backbones.Backbone)


@pytest.mark.parametrize("attention", list(Attention), ids=lambda attention: attention.name)
def test_is_causal_says_whether_later_tokens_are_seen(attention: Attention) -> None:
    assert build(Backbone.transformer, attention=attention).is_causal is (attention is Attention.causal)
