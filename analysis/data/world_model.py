"""The quality of world models, from the episodes that they were measured on (docs/metrics.md defines the measures)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.stats.bootstrap import PERCENTILES, draw_ragged_counts

KEYS = ["measure", "part", "predictor", "horizon"]
NO_HORIZON = 0  # of what is measured at none
CALIBRATION = ("_predicted", "_observed")  # ends of the names of measures that are means over steps
ROUNDING = (1 / 255) ** 2 / 12  # mean squared error by which rounding to 8 bits changes pixels in [0, 1]

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """How a measure is called and written."""

    title: str
    form: str
    is_high_good: bool = True


MEASURES = {
    "mse": Measure("PSNR (dB)", "{:.1f}"),
    "ssim": Measure("SSIM", "{:.3f}"),
    "perceptual": Measure("Perceptual distance", "{:.3f}", False),
    "symlog_error": Measure("Error (symlog)", "{:.3f}", False),
    "accuracy": Measure("Tokens right", "{:.1%}"),
    "reward_squared_error": Measure("Squared reward error", "{:.3g}", False),
    "reward_sum_error": Measure("Error of the reward sum", "{:.3g}", False),
    "end_error": Measure("End error", "{:.3g}", False),
    "end_within_2": Measure("Ends within 2 steps", "{:.0%}"),
}
"""Measures with a horizon. The squared error of pictures is shown as PSNR."""


def shown(measure: str, values: Values) -> Values:
    """The numbers that a mean over episodes is shown as: peak signal-to-noise ratio for a mean squared error, which
    cannot be told from a smaller one below that of rounding to 8 bits (58.9 dB); all others as they are."""
    return -10 * np.log10(np.maximum(values, ROUNDING)) if measure == "mse" else values


def summary(rows: pd.DataFrame, generator: np.random.Generator, repetitions: int) -> pd.DataFrame:
    """Value of every measure, part, predictor and horizon with its 95 % percentile interval over episodes.

    The value of a task is that of the mean over its runs of means over their episodes (of calibration: over their
    steps); several tasks are averaged. Episodes are resampled within each run, for all measures alike. Without an
    interval: a single episode, equal ones.

    Args:
        rows: of ``columns.WORLD_MODEL``, of one method, variant and scale.
    """
    is_counted, is_known = rows.measure.str.endswith(CALIBRATION), rows.value.notna()
    filled = rows.assign(
        horizon=rows.horizon.fillna(NO_HORIZON).astype(int),
        weight=rows["count"].where(is_counted, 1.0).where(is_known, 0.0),
    )
    both = filled.pivot(index=["task", "seed", "episode"], columns=KEYS, values=["value", "weight"])
    table, weights = both["value"], both["weight"].fillna(0.0)
    names = [str(name) for name in table.columns.get_level_values("measure")]
    tasks = [
        _task(part, weights.loc[part.index], names, generator, repetitions)
        for _, part in table.groupby(level="task", sort=True)
    ]
    points, replicates = (_mean(np.stack(parts)) for parts in zip(*tasks))
    low, high = _percentiles(replicates)
    has_spread = (table.notna().sum() > 1).to_numpy() & (high > low)
    found = table.columns.to_frame(index=False).assign(
        value=points[0],
        low=np.where(has_spread, low, np.nan),
        high=np.where(has_spread, high, np.nan),
        episodes=table.notna().sum().to_numpy(),
    )
    return found.sort_values(KEYS, ignore_index=True)


def _task(
    table: pd.DataFrame, weights: pd.DataFrame, names: list[str], generator: np.random.Generator, repetitions: int
) -> tuple[Values, Values]:
    """The value of every column of a task, shape (1, C), and its bootstrap replicates (R, C)."""
    runs = [
        (run.to_numpy(dtype=np.float64), weights.loc[run.index].to_numpy(dtype=np.float64))
        for _, run in table.groupby(level="seed", sort=True)
    ]
    sizes = np.array([len(run) for run, _ in runs])
    counts = draw_ragged_counts(generator, repetitions, sizes, int(sizes.max()))
    draws = [np.ones((1, size)) for size in sizes], [counts[:, m, :size] for m, size in enumerate(sizes)]
    means = (_mean(np.stack([_weighted(drawn, *run) for drawn, run in zip(some, runs)])) for some in draws)
    points, replicates = (np.stack([shown(*pair) for pair in zip(names, each.T)], axis=1) for each in means)
    return points, replicates


def _weighted(drawn: Values, values: Values, weights: Values) -> Values:
    """Means (R, C) of the rows of ``values`` (N, C) with these weights (N, C), 0 where a value is NaN; each row as
    often as it was drawn (R, N)."""
    total, number = drawn @ (np.nan_to_num(values) * weights), drawn @ weights
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def _mean(parts: Values) -> Values:
    """Mean over the first axis of what is not NaN; NaN where all is."""
    flat = parts.reshape(len(parts), -1)
    exist = (~np.isnan(flat)).astype(np.float64)
    return _weighted(np.ones((1, len(parts))), flat, exist).reshape(parts.shape[1:])


def _percentiles(replicates: Values) -> tuple[Values, Values]:
    """Bounds (C,) of the replicates (R, C) that are not NaN."""
    columns = [column[~np.isnan(column)] for column in replicates.T]
    bounds = [np.percentile(column, PERCENTILES) if len(column) else (np.nan, np.nan) for column in columns]
    low, high = np.array(bounds).T
    return low, high
