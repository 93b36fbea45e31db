"""Many samples of runs at once: how they are drawn from a score matrix, and the point estimates of each.

Shapes: S samples, M tasks, N runs. Unlike in a score matrix (N, M), runs are the last axis, and tasks are drawn
independently of each other: rows of the matrix are not runs across tasks.
"""

import numpy as np
from numpy.typing import NDArray

from analysis.stats import bootstrap, metrics
from analysis.stats.metrics import Matrix

METRICS = ("mean", "median", "iqm", "optimality_gap")
BLOCK_VALUES = 2**20  # drawn values a block

Values = NDArray[np.float64]
Samples = NDArray[np.float64]  # (S, M, N)


def points(metric: str, samples: Samples) -> Values:
    """One of ``METRICS`` for every sample, shape (S,)."""
    match metric:
        case "mean":
            return np.asarray(samples.mean(axis=(1, 2)))
        case "median":
            return np.asarray(np.median(samples.mean(axis=2), axis=1))
        case "iqm":
            ordered = np.sort(samples.reshape(len(samples), -1), axis=1)
            drop = metrics.trimmed_count(ordered.shape[1])
            return np.asarray(ordered[:, drop : ordered.shape[1] - drop].mean(axis=1))
        case "optimality_gap":
            return np.asarray(1.0 - np.minimum(samples, 1.0).mean(axis=(1, 2)))
        case _:
            raise ValueError(f"no points of metric {metric!r} here")


def draw_with_replacement(scores: Matrix, generator: np.random.Generator, samples: int, runs: int) -> Samples:
    """Independent runs of every task from the population ``scores``, as a new experiment would have them."""
    drawn = generator.integers(0, len(scores), size=(samples, scores.shape[1], runs))
    return np.take_along_axis(scores.T[None], drawn, axis=2)


def draw_subsets(scores: Matrix, generator: np.random.Generator, samples: int, runs: int) -> Samples:
    """Different runs of every task (without replacement), as a smaller experiment would have published them."""
    order = np.argsort(generator.random((samples, *scores.T.shape)), axis=2)[:, :, :runs]
    return np.take_along_axis(scores.T[None], order, axis=2)


def task_replicates(scores: Matrix, generator: np.random.Generator, repetitions: int) -> dict[str, Values]:
    """Bootstrap replicates (R,) of ``METRICS`` over tasks and runs: M tasks with replacement, and N runs of each.

    A task drawn twice gets two draws of runs (rliable's ``task_bootstrap``).
    """
    runs, tasks = scores.shape
    parts: list[dict[str, Values]] = []
    for size in bootstrap.blocks(repetitions, scores.size, BLOCK_VALUES):
        chosen = generator.integers(0, tasks, size=(size, tasks, 1))
        drawn = scores.T[chosen, generator.integers(0, runs, size=(size, tasks, runs))]
        parts.append({metric: points(metric, drawn) for metric in METRICS})
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}
