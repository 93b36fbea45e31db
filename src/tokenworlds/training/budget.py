"""How much a run collects and stores, from its configuration alone: without torch, and before anything is made."""

from __future__ import annotations

import os

from tokenworlds.config import RunConfig


def steps_in(config: RunConfig, epoch: int) -> int:
    """Agent steps to collect in an epoch of collection; the first is number 1."""
    collection = config.collection.train
    first = collection.steps_first_epoch if epoch == 1 else None
    return first or collection.steps or 0


def replay_capacity(config: RunConfig) -> int:
    """Entries of the whole run: its steps, beyond which a collection may go by those of one vector step, and where
    final observations are stored one for each episode. How many there will be is not known: there is room for episodes
    of 16 steps on average (6 % more memory), and the buffer grows where they are shorter."""
    collection, epochs = config.collection.train, config.training.epochs
    last = min(collection.stop_after_epochs or epochs, epochs)
    steps = steps_in(config, 1) + (last - 1) * steps_in(config, 2) + collection.num_envs - 1
    return steps + (-(-steps // 16) if collection.final_observation else 0)


def physical_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
