"""Which environments of a lock-step group have finished in this round."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RUNNING, FINISHED_NOW, FINISHED_EARLIER = 0, 1, 2


class DoneTracker:
    """A state per environment: 0 running, 1 finished in this step, 2 finished earlier; s <- clip(2 s + end, 0, 2)."""

    def __init__(self, num_envs: int) -> None:
        self.states: NDArray[np.int64] = np.zeros(num_envs, dtype=np.int64)

    def reset(self) -> None:
        """A new round: all environments run."""
        self.states = np.zeros_like(self.states)

    def update(self, ends: ArrayLike) -> None:
        """Take in the end flags (N,) of one step."""
        self.states = np.clip(2 * self.states + np.asarray(ends, dtype=np.int64), RUNNING, FINISHED_EARLIER)

    @property
    def num_finished(self) -> int:
        return int((self.states != RUNNING).sum())

    @property
    def running(self) -> NDArray[np.bool_]:
        """(N,) environments that have not finished."""
        return np.asarray(self.states == RUNNING)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(N,) environments whose last step counts: those that had not finished before it."""
        return np.asarray(self.states <= FINISHED_NOW)

    @property
    def num_counted(self) -> int:
        """Environment steps to count for the last step of the group."""
        return int(self.counted.sum())

    def is_round_over(self, ratio: float = 1.0) -> bool:
        """Whether the share of finished environments has reached ``ratio``."""
        return self.num_finished >= ratio * len(self.states)
