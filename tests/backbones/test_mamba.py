"""What only the selective state space model has: its scan in chunks, its initial step sizes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tests.backbones.test_law import TOKENS, build, inputs
from tokenworlds.backbones.mamba import MambaBackbone, MambaLayer, selective_scan
from tokenworlds.config import Backbone, MambaConfig


def token_by_token(
    u: Tensor, step: Tensor, write: Tensor, read: Tensor, decay: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence as the paper writes it."""
    outputs = []
    for t in range(u.shape[1]):
        d = F.softplus(step[:, t, None])
        h = (d * decay).exp() * h + d * u[:, t, None] * write[:, t, :, None]
        outputs.append((h * read[:, t, :, None]).sum(dim=1))
    return torch.stack(outputs, dim=1), h


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 340])
@torch.no_grad()
def test_the_scan_in_chunks_is_the_recurrence(count: int) -> None:
    draws = small.generator()
    channels, states = 6, 4
    u, step = torch.randn(2, 3, count, channels, generator=draws)
    write, read = torch.randn(2, 3, count, states, generator=draws)
    decay, before = (
        -torch.rand(states, channels, generator=draws) * 8,
        torch.randn(3, states, channels, generator=draws),
    )
    arguments = (u, step - 2, write, read, decay, before)
    for found, wanted in zip(selective_scan(*arguments), token_by_token(*arguments)):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_gradients_of_the_scan_are_those_of_the_recurrence(count: int) -> None:
    """Of every argument, from the outputs and from the last state."""
    draws = small.generator()
    shapes = [(2, count, 3), (2, count, 3), (2, count, 4), (2, count, 4), (4, 3), (2, 4, 3)]
    arguments = [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes]
    arguments[4] = -arguments[4].abs()
    for part in arguments:
        part.requires_grad_()
    weights = torch.randn(2, count, 3, generator=draws, dtype=torch.float64), torch.randn(2, 4, 3, generator=draws)
    found, wanted = (
        torch.autograd.grad(sum((out * w).sum() for out, w in zip(scan(*arguments), weights)), arguments)
        for scan in (selective_scan, token_by_token)
    )
    for ours, theirs in zip(found, wanted):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("length", [340])
@torch.no_grad()
def test_many_layers_in_single_steps_are_the_parallel_pass(length: int) -> None:
    """At float32, with initial weights."""
    backbone = MambaBackbone(MambaConfig(6, 2, 8, 4, 2), 32, length, 17)
    backbone.initialise()
    x = torch.randn(2, length, 32, generator=small.generator())
    state, outputs = backbone.init_state(2), []
    for token in x.split(1, dim=1):
        out, state = backbone.step(state, token)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), backbone.parallel(x), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_recurrence() -> None:
    """Also where the states are computed again instead of kept."""
    backbone = build(Backbone.mamba, torch.float64)
    x = inputs(TOKENS, torch.float64).requires_grad_()
    (parallel,) = torch.autograd.grad(backbone.parallel(x).square().sum(), x)
    state, outputs = backbone.init_state(2), []
    for token in x.split(1, dim=1):
        out, state = backbone.step(state, token)
        outputs.append(out)
    (in_steps,) = torch.autograd.grad(torch.cat(outputs, dim=1).square().sum(), x)
    torch.testing.assert_close(parallel, in_steps)


def test_initial_step_sizes_and_decays_are_the_published_ones() -> None:
    layer = MambaLayer(MambaConfig(1, 2, 4, 4, 2), 64)
    layer.initialise(layers=4)
    steps = F.softplus(layer.step_size.bias)
    assert 1e-3 <= steps.min() < 3e-3 and 3e-2 < steps.max() <= 0.1
    torch.testing.assert_close(layer.log_decay.exp(), torch.arange(1.0, 5)[:, None].expand(4, 128))
    assert layer.output.weight.abs().max() <= 128**-0.5 / 2  # torch's bound, over the root of four layers


def test_states_are_not_rounded_by_autocast() -> None:
    backbone, x = build(Backbone.mamba), inputs(TOKENS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = backbone.step(backbone.init_state(2), x)
    assert all(tensor.dtype == torch.float32 for tensor in (*state.inputs, *state.states))
    assert (outputs - backbone.parallel(x)).abs().mean() < 0.03 * outputs.abs().mean()
    outputs.float().sum().backward()
