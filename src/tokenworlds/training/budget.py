"""What a run collects, stores and does in each epoch, from its configuration; torch is imported on demand only."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tokenworlds.cli import STATUS_ERROR, STATUS_MEMORY
from tokenworlds.config import ReplayStorage, RunConfig, RuntimeConfig
from tokenworlds.errors import UserError
from tokenworlds.training.progress import Work

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tokenworlds.envs.spec import EnvironmentSpec
    from tokenworlds.methods.component import ComponentTrainer


ADAM = 4  # a trained weight's copies in memory: itself, its gradient, two moments


@dataclass(frozen=True)
class Schedule:
    """What happens in which epoch; the first is number 1."""

    config: RunConfig

    @property
    def epochs(self) -> int:
        return self.config.training.epochs

    def steps_in(self, epoch: int) -> int:
        """Agent steps to collect in an epoch of collection."""
        collection = self.config.collection.train
        first = collection.steps_first_epoch if epoch == 1 else None
        return first or collection.steps or 0

    def is_collected(self, epoch: int) -> bool:
        stop = self.config.collection.train.stop_after_epochs
        return epoch <= self.epochs and (stop is None or epoch <= stop)

    def is_random(self, epoch: int) -> bool:
        """Whether an epoch's actions are uniformly random: of the first, where it says so and no policy is loaded."""
        has_policy = self.config.initialization is not None and "actor_critic" in self.config.initialization.sources
        return epoch == 1 and not has_policy and self.config.collection.train.steps_first_epoch is not None

    def is_evaluated(self, epoch: int) -> bool:
        return epoch <= self.epochs and epoch % self.config.evaluation.every == 0

    def is_saved(self, epoch: int) -> bool:
        return epoch <= self.epochs and (epoch % self.config.runtime.checkpoint_every == 0 or epoch == self.epochs)

    @property
    def test_episodes(self) -> int:
        """Episodes of an evaluation during training."""
        return self.config.collection.test.episodes or 1

    def work(self, components: Sequence[ComponentTrainer]) -> dict[str, Work]:
        """Units of each kind of work in an epoch; the one after the last stands for the final evaluation. The random
        policy's final episodes are left out: they take no network."""

        def steps(is_random: bool, epoch: int) -> int:
            return self.steps_in(epoch) if self.is_collected(epoch) and self.is_random(epoch) == is_random else 0

        def updates(component: ComponentTrainer, epoch: int) -> int:
            return component.updates_in(epoch) if epoch <= self.epochs and component.is_active(epoch) else 0

        def episodes(epoch: int) -> int:
            final = self.config.evaluation.final_episodes
            return final if epoch > self.epochs else self.test_episodes * self.is_evaluated(epoch)

        return {
            "random collection": Work(partial(steps, True)),
            "collection": Work(partial(steps, False)),
            "test episodes": Work(episodes),
            "evaluation": Work(lambda epoch: epoch > self.epochs or self.is_evaluated(epoch)),
            "checkpoint": Work(self.is_saved, is_awaited=False),
            **{component.name: Work(partial(updates, component)) for component in components},
        }


def replay_capacity(config: RunConfig) -> int:
    """Replay entries of the whole run.

    These are its steps, which a collection may exceed by those of one vector step, and where final observations are
    stored one entry for each episode. Their number is not known: there is room for episodes of 16 steps on average (6 %
    more memory), and the buffer grows where they are shorter.
    """
    collection, epochs, schedule = config.collection.train, config.training.epochs, Schedule(config)
    last = min(collection.stop_after_epochs or epochs, epochs)
    steps = schedule.steps_in(1) + (last - 1) * schedule.steps_in(2) + collection.num_envs - 1
    return steps + (-(-steps // 16) if collection.final_observation else 0)


def replay_storage(
    runtime: RuntimeConfig, spec: EnvironmentSpec, capacity: int, agent: nn.Module, device: torch.device
) -> torch.device:
    """The device that stores that many observations.

    Raises:
        UserError: the host's memory is too small for them, or what the run may use of a GPU's for all that is known
            before training: the observations that it stores, weights, gradients and optimisers, but no activations.
    """
    import torch

    needed = capacity * sum(math.prod(part.shape) * part.dtype.itemsize for part in spec.observation.values())
    choice = runtime.replay
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        share = runtime.gpu_share * total
        if choice is ReplayStorage.auto:
            choice = ReplayStorage.host if needed > min(free, share) / 2 else ReplayStorage.device
        networks = sum(weight.nbytes * (ADAM if weight.requires_grad else 1) for weight in agent.parameters())
        replay = 0 if choice is ReplayStorage.host else needed
        if networks + replay > share:
            raise UserError(
                f"this run needs {networks / 1e9:.1f} GB of GPU memory for networks and optimisers, {replay / 1e9:.1f} "
                f"GB for its replay and more for activations, but may use {share / 1e9:.1f} of {total / 1e9:.1f} GB; "
                "raise runtime.gpu_share, choose runtime.replay=host, or use a larger GPU.",
                STATUS_MEMORY if runtime.gpu_share < 1 else STATUS_ERROR,
            )
    storage = torch.device("cpu") if choice is ReplayStorage.host else device
    memory = physical_memory()
    if storage.type == "cpu" and needed > memory:
        raise UserError(
            f"the {capacity} steps of this run need {needed / 1e9:.0f} GB of memory, this machine has "
            f"{memory / 1e9:.0f} GB; train on a larger one, or for fewer epochs (training.epochs)."
        )
    return storage


def physical_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
