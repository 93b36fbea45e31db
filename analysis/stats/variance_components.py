"""Variance components of evaluation returns by the method of moments (analysis of variance).

Runs i of a task with n_i episodes each are a one-way layout with random effects: return = mean + run + episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Variances on one task: over episodes within a run, and over the true means of runs; NaN if not estimable."""

    mean: float
    runs: int
    episodes: int
    episode: float
    run: float

    @property
    def per_run(self) -> float:
        """Mean number of episodes of a run."""
        return self.episodes / self.runs

    @property
    def share(self) -> float:
        """Share of the variance of a run's score that more episodes would remove."""
        noise = self.episode / self.per_run
        return noise / (noise + self.run) if noise + self.run > 0 else np.nan


def components(runs: Sequence[Values]) -> Components:
    """Variance components from the returns of the episodes of each run, for unequal numbers of episodes.

    E(MSW) = episode, E(MSB) = episode + n0 run; negative estimates are 0. A single run gives no variance of runs, a
    single episode per run none of episodes.
    """
    sizes = np.array([len(run) for run in runs], dtype=np.float64)
    means = np.array([run.mean() for run in runs])
    total, count = float(sizes.sum()), len(runs)
    squares = sum(float(((run - run.mean()) ** 2).sum()) for run in runs)
    within = squares / (total - count) if total > count else np.nan
    between = np.nan
    if count > 1:
        grand = float(sizes @ means / total)
        typical = (total - float((sizes**2).sum()) / total) / (count - 1)
        between = _not_negative((float(sizes @ (means - grand) ** 2) / (count - 1) - within) / typical)
    return Components(float(means.mean()), count, int(total), within, between)


def between_tasks(tasks: Sequence[Components]) -> float:
    """Variance of the true means of the tasks: that of their estimates less the noise of runs and episodes."""
    means = np.array([task.mean for task in tasks])
    noise = [(task.run + task.episode / task.per_run) / task.runs for task in tasks]
    return _not_negative(float(means.var(ddof=1) - np.mean(noise)))


def pooled(tasks: Sequence[Components]) -> Components:
    """Components averaged over tasks, with all of their runs and episodes."""
    mean, episode, run = (
        float(np.mean([getattr(task, name) for task in tasks])) for name in ("mean", "episode", "run")
    )
    return Components(mean, sum(task.runs for task in tasks), sum(task.episodes for task in tasks), episode, run)


def _not_negative(variance: float) -> float:
    """The variance, at least 0; NaN stays NaN (``max`` would make it 0)."""
    return float(np.maximum(variance, 0.0))
