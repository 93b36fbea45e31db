"""What only closed-form continuous-time cells have: their formula, their wiring, positions inside blocks."""

import pytest
import torch
from ncps.torch.wired_cfc_cell import WiredCfCCell
from ncps.wirings import AutoNCP
from torch import nn

from tests import small
from tests.backbones.test_law import BLOCK, build, inputs
from tokenworlds.backbones.cfc import CfCBackbone, CfCLayer
from tokenworlds.config import Backbone, CfCConfig


def layer(width: int, hidden: int, sparsity: float | None) -> CfCLayer:
    return CfCLayer(CfCConfig(num_layers=1, hidden_dim=hidden, sparsity=sparsity, dropout=0.0), width)


@torch.no_grad()
def test_a_cell_is_that_of_the_package_with_its_masks() -> None:
    """With copied weights, over tokens one after another."""
    width, hidden = 12, 9
    ours, wiring = small.spread(layer(width, hidden, sparsity=0.5)), AutoNCP(hidden + width, width, 0.5)
    ours.norm = nn.Identity()
    theirs = WiredCfCCell(width, wiring)
    for stage, cell in zip(ours.stages, theirs._layers):
        for part, name in (
            (stage.first, "ff1"),
            (stage.second, "ff2"),
            (stage.rate, "time_a"),
            (stage.shift, "time_b"),
        ):
            getattr(cell, name).load_state_dict(part.state_dict())
        assert torch.equal(stage.mask.float(), cell.sparsity_mask)
        assert 0.4 < stage.mask.float().mean() < 0.95
    x = torch.randn(3, 7, width, generator=small.generator())
    state, expected = torch.zeros(3, hidden + width), []
    for token in x.unbind(1):
        out, state = theirs(token, state, 1.0)
        expected.append(out)
    zeros = [torch.zeros(3, stage.size) for stage in ours.stages]
    found, after = ours(x, zeros, [stage.weights() for stage in ours.stages])
    torch.testing.assert_close(found, torch.stack(expected, dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat(after, dim=1), state, rtol=1e-5, atol=1e-5)


def test_a_layer_of_the_seed_study_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        cell = layer(2176, 1088, sparsity=0.5)
    assert sum(parameter.numel() for parameter in cell.stages.parameters()) == 32_021_668


def test_the_weights_of_absent_connections_are_not_learned() -> None:
    backbone = build(Backbone.cfc, sparsity=0.5)
    assert isinstance(backbone, CfCBackbone)
    backbone.parallel(inputs(6)).square().sum().backward()
    for stage in backbone.stages:
        assert stage.mask is not None and not stage.mask.all()
        for masked in (stage.first, stage.second):
            assert masked.weight.grad is not None and torch.equal(masked.weight.grad != 0, stage.mask)
        assert stage.rate.weight.grad is not None and stage.rate.weight.grad.all()


def test_matrices_are_drawn_as_xavier_uniform() -> None:
    backbone = build(Backbone.cfc, hidden_dim=60)
    backbone.initialise()
    assert isinstance(backbone, CfCBackbone)
    for stage in backbone.stages:
        bound = (6 / (stage.inputs + 2 * stage.size)) ** 0.5
        for linear in (stage.first, stage.second, stage.rate, stage.shift):
            assert 0.8 * bound < linear.weight.abs().max() <= bound


@pytest.mark.parametrize("lead", [0, 2])
@torch.no_grad()
def test_positions_are_those_inside_a_block(lead: int) -> None:
    """Whatever precedes the first block: blocks begin where a whole number of them is left."""
    config = CfCConfig(num_layers=1, hidden_dim=6, dropout=0.0)
    backbone = small.spread(CfCBackbone(config, 8, lead + 4 * BLOCK, BLOCK)).eval()
    assert backbone.positions is not None
    x, places = inputs(lead + 2 * BLOCK), (torch.arange(lead + 2 * BLOCK) - lead) % BLOCK
    expected = backbone.parallel(x)
    shift = backbone.positions.weight[places].clone()
    backbone.positions.weight.zero_()
    torch.testing.assert_close(backbone.parallel(x + shift), expected)


def test_states_are_not_rounded_by_autocast() -> None:
    backbone, x = build(Backbone.cfc), inputs(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = backbone.step(backbone.init_state(2), x)
    assert all(tensor.dtype == torch.float32 for tensor in state.hidden)
    torch.testing.assert_close(outputs.float(), backbone.parallel(x), rtol=0.02, atol=0.02)
