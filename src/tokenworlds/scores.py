"""Scores that a benchmark defines over episodes; for training, collection and analysis, with no dependency."""

import math
from collections.abc import Iterable


def crafter_score(success_rates: Iterable[float]) -> float:
    """Crafter score in percent (Hafner 2021): exp(mean(ln(1 + s_i))) - 1, s_i the success rate of achievement i in
    percent."""
    logarithms = [math.log1p(rate) for rate in success_rates]
    return math.exp(sum(logarithms) / len(logarithms)) - 1
