"""On a GPU every method computes what it computes on the host, and its updates wait for nothing.

``test_other_device`` proves on any machine that no tensor is on the wrong device; kernels and waits are met only here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tests.methods.support import build, configure, experience, train
from tests.methods.test_other_device import CASES, SPECS, TOKENIZERS, VARIANTS
from tokenworlds import methods
from tokenworlds.envs import EnvironmentSpec

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("without_tf32")]
Case = tuple[str, str | None, EnvironmentSpec | None, tuple[str, ...]]


def _case(method: str, name: str, seen: str) -> Case:
    variant = VARIANTS.get(name)
    return method, variant, SPECS[seen], () if variant else (f"model.backbone={name}",)


FOUND: dict[str, Case] = {
    **{"-".join(case): _case(*case) for case in CASES},
    **{name: ("delta_iris", name, None, ()) for name in ("consistency", "consistency-published-noise")},
    **{name: ("iris", None, None, settings) for name, settings in TOKENIZERS.items()},
}

LEARN_NO_TOKENS = {"m3-transformer-vector", "m3-retnet-vector"}
COMPARED = [("world_model", name) for name in FOUND]
COMPARED += [("tokenizer", name) for name in FOUND if name not in LEARN_NO_TOKENS]


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative to the length of what is expected."""
    return float((found.cpu() - expected).norm() / expected.norm().clamp(min=1e-12))


def losses_and_gradients(case: Case, component: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of a component on experience that it has not drawn: losses of the batches, and their gradient."""
    method, variant, seen, overrides = case
    agent, _ = build(method, *overrides, variant=variant, seen=seen, device=device)
    module: nn.Module = getattr(agent, component)
    for recurrent in (part for part in module.modules() if isinstance(part, nn.RNNBase)):
        recurrent.train()  # cuDNN has no gradient otherwise; they have no dropout of their own
    config = configure(method, *overrides, variant=variant)
    totals = [
        losses.total
        for losses in methods.get(method).held_out(config, agent, experience(config, seen, device), component)
    ]
    torch.stack(totals).sum().backward()
    gradients = [value.grad.flatten() for value in module.parameters() if value.grad is not None]
    return torch.stack(totals).detach(), torch.cat(gradients)


@pytest.mark.parametrize(("component", "name"), COMPARED)
def test_losses_and_gradients_are_those_of_the_host(component: str, name: str) -> None:
    here = losses_and_gradients(FOUND[name], component, small.CPU)
    there = losses_and_gradients(FOUND[name], component, torch.device("cuda"))
    assert distance(there[0], here[0]) < 1e-5
    assert distance(there[1], here[1]) < 1e-3


@pytest.fixture
def refusing_waits() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.usefixtures("refusing_waits")
@pytest.mark.parametrize("compile", ["auto", "off"])
@pytest.mark.parametrize("name", FOUND)
def test_updates_wait_for_nothing(name: str, compile: str) -> None:
    """From the draw of the segments to the optimiser's step; with imagination as a captured graph, and without."""
    method, variant, seen, overrides = FOUND[name]
    given = (*overrides, f"runtime.compile={compile}")
    _, components = build(method, *given, variant=variant, seen=seen, device=torch.device("cuda"))
    train(components)  # captures, and makes what is made once
    for component in components:
        component.module.train()
        torch.cuda.set_sync_debug_mode("error")
        component.update()
        torch.cuda.set_sync_debug_mode("default")
