"""Training of one component within an epoch: the same loop for tokenizer, world model and actor-critic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from tokenworlds.config import ComponentTrainingConfig
from tokenworlds.losses import Losses
from tokenworlds.methods import optimisers


class Memory(Protocol):
    """State of a component's losses beyond its weights, for a checkpoint."""

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, tensors: dict[str, Tensor]) -> None: ...


class Data(Memory, Protocol):
    """Where batches come from; ``refresh`` precedes the updates of that epoch of the run."""

    def refresh(self, epoch: int) -> None: ...


@dataclass
class ComponentTrainer:
    """A component, its data, and its schedule.

    ``losses`` takes a batch from ``sampler`` and computes its losses; ``prepare`` runs before the first update of an
    epoch, with the number of updates.
    """

    name: str
    module: nn.Module
    config: ComponentTrainingConfig
    losses: Callable[[], Losses]
    sampler: Data
    prepare: Callable[[int], None] = lambda updates: None
    memory: Memory | None = None
    spent: Callable[[], dict[str, int]] = dict  # entries of the run's budget, by name
    optimizer: torch.optim.Optimizer = field(init=False)
    updates: int = 0

    def __post_init__(self) -> None:
        self.optimizer = optimisers.build(self.module, self.config)
        self._parameters = optimisers.clipped(self.optimizer)

    def is_active(self, epoch: int) -> bool:
        stop = self.config.stop_after_epochs
        return epoch > self.config.start_after_epochs and (stop is None or epoch <= stop)

    def updates_in(self, epoch: int) -> int:
        """Optimiser steps in an epoch of the run; the first is number 1."""
        first = self.config.updates_first_epoch
        return first if epoch == 1 and first is not None else self.config.updates_per_epoch

    def train(self, epoch: int, tick: Callable[[], None] = lambda: None) -> dict[str, Tensor]:
        """One epoch's updates. Returns means over them as device scalars: nothing here waits for the device."""
        count = self.updates_in(epoch)
        self.prepare(count)
        self.sampler.refresh(epoch)
        self.module.train()
        sums: dict[str, Tensor] = {}
        for _ in range(count):
            for name, value in self.update().items():
                sums[name] = sums[name] + value if name in sums else value.clone()
            tick()
        self.module.eval()
        return {name: value / count for name, value in sums.items()}

    def update(self) -> dict[str, Tensor]:
        """One optimiser step over ``gradient_accumulation`` batches; their mean losses."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for _ in range(self.config.gradient_accumulation):
            losses = self.losses()
            (losses.total / self.config.gradient_accumulation).backward()
            named = {f"loss_{name}": value for name, value in {"total": losses.total, **losses.named()}.items()}
            for name, value in (named | losses.measured).items():
                share = value.detach() / self.config.gradient_accumulation
                sums[name] = sums.get(name, torch.zeros_like(share)) + share
        sums["gradient_norm"] = nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm).detach()
        self.optimizer.step()
        self.updates += 1
        return sums
