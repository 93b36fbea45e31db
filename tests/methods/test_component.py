"""One component's updates: accumulation, clipping, means, modes; and the parameter groups of its optimiser."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tokenworlds import backbones
from tokenworlds.config import Backbone, ComponentTrainingConfig, Decay
from tokenworlds.losses import Losses
from tokenworlds.methods import optimisers
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.replay import Sampler
from tokenworlds.world_models.curiosity import Ensemble


@dataclass
class SquareLosses(Losses):
    square: Tensor
    shrink: Tensor


def config(**changes: Any) -> ComponentTrainingConfig:
    values: dict[str, Any] = {
        "batch_size": 4,
        "gradient_accumulation": 1,
        "max_grad_norm": 1e9,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "decay": Decay.linear,
        "start_after_epochs": 2,
        "stop_after_epochs": None,
        "updates_per_epoch": 3,
    }
    return ComponentTrainingConfig(**(values | changes))


class Epochs(Sampler):
    """Records the epochs for which it was restarted."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def refresh(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def rows(self) -> Tensor:
        raise AssertionError


def regression(batches: list[Tensor], **changes: Any) -> ComponentTrainer:
    """Fits a linear layer to the sums of the inputs, batch after batch; measures their mean."""
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    remaining = iter(batches)

    def losses() -> SquareLosses:
        x = next(remaining)
        error = module(x).squeeze(1) - x.sum(dim=1)
        shrink = 0.1 * module.weight.square().sum()
        return SquareLosses(square=error.square().mean(), shrink=shrink, measured={"input": x.mean()})

    return ComponentTrainer("regression", module, config(**changes), losses, Epochs())


def batches(count: int) -> list[Tensor]:
    return list(torch.randn(count, 4, 3, generator=small.generator()))


def test_accumulated_batches_have_the_mean_gradient() -> None:
    parts = batches(3)
    accumulated, at_once = regression(parts, gradient_accumulation=3), regression([torch.cat(parts)])
    one, other = accumulated.update(), at_once.update()
    for ours, theirs in zip(accumulated.module.parameters(), at_once.module.parameters()):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad)
        torch.testing.assert_close(ours, theirs)
    for name, value in other.items():
        torch.testing.assert_close(one[name], value)
    assert accumulated.updates == 1


def test_an_epoch_makes_its_updates_and_returns_the_means_over_them() -> None:
    parts = batches(3)
    component, again, ticks = regression(parts), regression(parts), []
    means = component.train(4, lambda: ticks.append(1))
    single = [again.update() for _ in range(3)]
    assert len(ticks) == component.updates == 3
    assert list(means) == ["loss_total", "loss_square", "loss_shrink", "input", "gradient_norm"]
    for name, value in means.items():
        torch.testing.assert_close(value, torch.stack([update[name] for update in single]).mean())
    torch.testing.assert_close(means["loss_total"], means["loss_square"] + means["loss_shrink"])
    torch.testing.assert_close(means["input"], torch.cat(parts).mean())
    assert not any(value.requires_grad for value in means.values())


def test_the_total_gradient_norm_is_clipped_and_reported_unclipped() -> None:
    component = regression([100 * part for part in batches(1)], max_grad_norm=0.5)
    reported = component.update()["gradient_norm"]
    norm = torch.cat([p.grad.flatten() for p in component.module.parameters() if p.grad is not None]).norm()
    assert reported > 10
    assert norm.item() == pytest.approx(0.5, rel=1e-4)


def test_the_component_is_in_training_mode_during_updates_only() -> None:
    component = regression(batches(3))
    component.module.eval()
    modes, prepared = [], []
    inner = component.losses

    def losses() -> Losses:
        modes.append(component.module.training)
        return inner()

    component.losses, component.prepare = losses, lambda updates: prepared.append((updates, component.module.training))
    component.train(4)
    assert modes == [True] * 3 and prepared == [(3, False)] and not component.module.training


@pytest.mark.parametrize(("first", "expected"), [(None, [3, 3, 3]), (5, [5, 3, 3])])
def test_the_first_epoch_of_the_run_may_have_its_own_number_of_updates(first: int | None, expected: list[int]) -> None:
    """Not a component's first: one that starts later never makes use of it."""
    component = regression(batches(11), start_after_epochs=0, updates_first_epoch=first)
    prepared: list[int] = []
    component.prepare = prepared.append
    assert [component.updates_in(epoch) for epoch in (1, 2, 3)] == expected
    for epoch in (1, 2, 3):
        component.train(epoch)
        assert component.updates == sum(expected[:epoch])
    assert prepared == expected
    late = regression(batches(3), start_after_epochs=1, updates_first_epoch=first)
    late.train(2)
    assert late.updates == 3


@pytest.mark.parametrize(("stop", "last"), [(None, [True, True, True]), (4, [True, True, False]), (2, [False] * 3)])
def test_a_component_is_trained_from_its_first_to_its_last_epoch(stop: int | None, last: list[bool]) -> None:
    component = regression([], stop_after_epochs=stop)
    assert [component.is_active(epoch) for epoch in (1, 2, 3, 4, 5)] == [False, False, *last]


# Optimisers


class Everything(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.embedding = nn.Embedding(4, 3)
        self.norm = nn.LayerNorm(3)
        self.convolution = nn.Conv2d(3, 3, 1)
        self.recurrent = nn.GRU(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_weight_decay_is_on_weights_of_linear_and_recurrent_layers_alone() -> None:
    decay, no_decay = optimisers.parameter_groups(Everything())
    assert decay == ["linear.weight", "recurrent.weight_hh_l0", "recurrent.weight_ih_l0"]
    assert no_decay == sorted(no_decay)
    assert set(no_decay) == {
        "linear.bias", "embedding.weight", "norm.weight", "norm.bias", "convolution.weight", "convolution.bias",
        "recurrent.bias_hh_l0", "recurrent.bias_ih_l0",
    }  # fmt: skip


@pytest.mark.parametrize(("weight_decay", "kind"), [(0.0, torch.optim.Adam), (0.01, torch.optim.AdamW)])
def test_the_kind_of_optimiser_follows_from_the_weight_decay(weight_decay: float, kind: type) -> None:
    optimizer = optimisers.build(Everything(), config(weight_decay=weight_decay))
    assert type(optimizer) is kind
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 11
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.1, (0.9, 0.999), 1e-8)
    assert [group["weight_decay"] for group in optimizer.param_groups] == ([0.01, 0.0] if weight_decay else [0.0])


def test_weight_decay_may_be_on_the_norms_of_heads() -> None:
    """But not of a backbone, whatever it is called; nor on biases, however they are stacked, or embeddings."""
    world_model = small.world_model_config()
    module = nn.ModuleDict(
        {
            "everything": Everything(),
            "trunk": backbones.build(Backbone.retnet, world_model, block_size=5),
            "ensemble": Ensemble(4, 3, 5),
        }
    )
    decay, no_decay = optimisers.parameter_groups(module, Decay.heads)
    assert not set(decay) & set(no_decay)
    ours = [name.partition(".")[2] for name in decay if not name.startswith("trunk")]
    assert ours == [
        "norm_weight", "weight1", "weight2",
        "convolution.weight", "linear.weight", "norm.weight", "recurrent.weight_hh_l0", "recurrent.weight_ih_l0",
    ]  # fmt: skip
    spared = [name for name in no_decay if "bias" not in name]
    assert spared == ["everything.embedding.weight"] + [
        f"trunk.layers.{layer}.{norm}.weight" for layer in range(2) for norm in ("norm1", "norm2")
    ]
    optimizer = optimisers.build(module, config(weight_decay=0.05, decay=Decay.heads))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(decay), len(no_decay)]


def test_the_fused_step_is_the_textbook_step() -> None:
    module = nn.Linear(2, 1)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = optimisers.build(module, config(weight_decay=0.5, learning_rate=0.01))
    module(torch.tensor([[1.0, -2.0]])).sum().backward()
    optimizer.step()
    sign = torch.tensor([[1.0, -1.0]])  # the first Adam step is lr * sign of the gradient
    torch.testing.assert_close(module.weight, before["weight"] * (1 - 0.01 * 0.5) - 0.01 * sign)
    torch.testing.assert_close(module.bias, before["bias"] - 0.01)
