"""Scores that a benchmark defines over episodes; for training, collection and analysis, with no dependency."""

import math
from collections.abc import Iterable

# Limits of episodes in the published protocols: frames, steps, decisions, steps
WHOLE_EPISODES = {"atari": 108_000, "crafter": 10_000, "dmc": 500, "craftax": 10_000}
UNCUT_SCALES = ("paper", "small")  # where a file of an older version does not say it


def crafter_score(success_rates: Iterable[float]) -> float:
    """Crafter score in percent (Hafner 2021): exp(mean(ln(1 + s_i))) - 1, s_i the success rate of achievement i in
    percent."""
    logarithms = [math.log1p(rate) for rate in success_rates]
    return math.exp(sum(logarithms) / len(logarithms)) - 1


def is_cut(task: str, limit: float, scale: str) -> bool:
    """Whether episodes end sooner than in the published protocols: their scores are of another task.

    Args:
        limit: frames or steps after which they are cut; NaN where a file of an older version does not say, and the
            scale decides.
    """
    if math.isnan(limit):
        return scale not in UNCUT_SCALES
    return limit < WHOLE_EPISODES.get(task.partition("/")[0], 0)
