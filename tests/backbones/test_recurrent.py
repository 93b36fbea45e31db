"""What only LSTM and GRU have: the state that torch's cells carry, and queries as one batch."""

import pytest
import torch

from tests.backbones.test_law import BLOCKS, TOKENS, build, inputs
from tokenworlds import backbones
from tokenworlds.config import Backbone

recurrent = pytest.mark.parametrize("name", [Backbone.lstm, Backbone.gru], ids=lambda name: name.name)


@recurrent
@torch.no_grad()
def test_queries_in_one_batch_equal_one_after_another(name: Backbone) -> None:
    backbone, x = build(name, torch.float64), inputs(TOKENS, torch.float64)
    query_tokens = inputs(BLOCKS * 2, torch.float64, seed=1).unflatten(1, (BLOCKS, 2))
    expected = backbones.Backbone.parallel_and_query(backbone, x, query_tokens)
    for found, wanted in zip(backbone.parallel_and_query(x, query_tokens), expected):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("name", "count"), [(Backbone.lstm, 2), (Backbone.gru, 1)], ids=["lstm", "gru"])
def test_a_state_is_what_the_cell_carries(name: Backbone, count: int) -> None:
    backbone = build(name)
    state = backbone.init_state(5)
    assert [tensor.shape for tensor in state] == [(2, 5, 6)] * count
    assert not any(tensor.any() for tensor in state)


@recurrent
def test_states_are_not_rounded_by_autocast(name: Backbone) -> None:
    backbone, x = build(name), inputs(TOKENS)
    expected = backbone.parallel(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = backbone.step(backbone.init_state(2), x)
        _, predictions = backbone.parallel_and_query(x, inputs(BLOCKS).unflatten(1, (BLOCKS, 1)))
    assert all(tensor.dtype == torch.float32 for tensor in state)
    assert (outputs.float() - expected).abs().mean() < 0.02 * expected.abs().mean()
    (outputs.float().sum() + predictions.float().sum()).backward()
