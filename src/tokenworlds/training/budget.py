"""What a run collects, stores and does in each epoch, from its configuration alone: without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tokenworlds.config import RunConfig


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
        """Whether an epoch's actions are uniformly random."""
        return epoch == 1 and self.config.collection.train.steps_first_epoch is not None

    def is_evaluated(self, epoch: int) -> bool:
        return epoch <= self.epochs and epoch % self.config.evaluation.every == 0

    def is_saved(self, epoch: int) -> bool:
        return epoch <= self.epochs and (epoch % self.config.runtime.checkpoint_every == 0 or epoch == self.epochs)

    @property
    def test_episodes(self) -> int:
        """Episodes of an evaluation during training."""
        return self.config.collection.test.episodes or 1


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


def physical_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
