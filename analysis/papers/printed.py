"""Numbers that papers print, and the same numbers from the raw scores of ``results/data``.

``printed.csv`` holds them as text, with the digits of the source, and says how each is known: *read* (in the paper, its
project page or a paper that repeats it), *recalled* (the table was not at hand), *computed* (by another program from
the same raw scores: ``ROUNDED`` is the only reason why they might differ). Those of Delta-IRIS are in ``secondary.csv``
and are *secondary*.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data.aggregates import PAIRED_SUITES
from analysis.data.defects import read_defects
from analysis.data.published import ATARI, CRAFTAX_MAXIMUM, DMC, raw_means
from analysis.data.scores import DATA, read_table
from analysis.data.secondary import SUBJECT
from analysis.draw.tables import NEEDS_RUNS, NOT_APPLICABLE
from analysis.papers.times import OWN_SETTINGS, read_times
from analysis.stats import metrics
from tokenworlds.errors import UserError, near_matches

COLUMNS = ("paper", "suite", "method", "quantity", "of", "printed", "tolerance", "known", "source", "reason")
KNOWN = ("read", "recalled", "computed", "secondary")
ROUNDED = "rounding errors of the stored scores hide ties, here they do not (R15-T-defects)."
CRAFTAX = "craftax"
TIMES = "epoch_times"

# Repetitions of the bounds that printed.csv holds tolerances for: those of the papers.
REPETITIONS_AGGREGATES, REPETITIONS_IMPROVEMENT = 50_000, 1_000


@dataclass(frozen=True)
class Number:
    """One printed number. ``of``: the task or the beaten method; ``tolerance``: Monte Carlo error of a bound."""

    paper: str
    suite: str
    method: str
    quantity: str
    of: str
    printed: str
    tolerance: float | None
    known: str
    source: str
    reason: str

    @property
    def value(self) -> float | None:
        """The number itself; None where N/A is printed."""
        return None if self.printed == NOT_APPLICABLE else float(self.printed)

    @property
    def half_unit(self) -> float:
        """Half a unit of the last printed digit."""
        return 0.5 * 10.0 ** -len(self.printed.partition(".")[2])


def read_printed(data: Path = DATA) -> list[Number]:
    """All of them: the file's in its order, then the secondary ones of Delta-IRIS."""
    frame = read_table(data / "printed.csv", COLUMNS)
    numbers = []
    for line, row in enumerate(frame[list(COLUMNS)].itertuples(index=False), start=2):
        fields = dict(zip(COLUMNS, row))
        if fields["known"] not in KNOWN:
            raise UserError(
                f"printed.csv line {line}: unknown kind {fields['known']!r}: {near_matches(fields['known'], KNOWN)}"
            )
        if not fields["source"].strip():
            raise UserError(f"printed.csv line {line}: the number has no source; say where it is printed.")
        if fields["known"] == "computed" and fields["reason"] not in ("", ROUNDED):
            raise UserError(
                f"printed.csv line {line}: another program computed this number from the same scores: nothing "
                "explains a difference; leave the reason empty."
            )
        numbers.append(Number(**fields | {"tolerance": float(fields["tolerance"]) if fields["tolerance"] else None}))
    return [*numbers, *_secondary(data)]


def _secondary(data: Path) -> list[Number]:
    """Aggregates and per-game means on Atari can be compared, with scores that are not the paper's own; of the other
    tables no raw scores exist."""
    reason = next(defect.note for defect in read_defects(data) if defect.effect == "quoted")
    frame = read_table(data / "secondary.csv", ["table", "method", "quantity", "env_steps", "value", "source"])
    numbers = []
    for row in frame.itertuples():
        on_atari = row.table == ATARI
        is_game = on_atari and row.quantity not in metrics.METRICS
        quantity, of = ("task_mean", row.quantity) if is_game else (row.quantity, row.env_steps)
        fields = (SUBJECT, ATARI if on_atari else row.table, row.method, quantity, of, row.value)
        numbers.append(Number(*fields, None, "secondary", row.source, reason if on_atari else ""))
    return numbers


def from_scores(number: Number, context: Context) -> float | None:
    """The number recomputed from raw scores; None where it is not applicable or there are no scores."""
    quantity, bound = number.quantity, "point"
    if quantity.endswith(("_low", "_high")):
        quantity, _, bound = quantity.rpartition("_")
    suite, method = context.suites.get(number.suite), number.method
    match quantity:
        case "improvement":
            return float(context.aggregates[PAIRED_SUITES[number.suite]][method][number.of][bound])
        case "task_mean":
            found = _raw_means().get((method, number.of))
            return None if found is None else float(found)
        case "percent_of_maximum":
            return 100.0 * float(_raw_means()[(method, number.of)]) / CRAFTAX_MAXIMUM
        case "raw_mean" | "raw_median":  # over tasks of the mean raw return
            assert suite is not None and number.suite == DMC
            means = np.nanmean(suite.raw[method], axis=0)
            return float(np.mean(means) if quantity == "raw_mean" else np.median(means))
        case "speed_up":  # seconds of imagination an epoch, of the slower method over the faster one's
            times = read_times().imagination
            return float(times[(number.of, OWN_SETTINGS)] / times[(method, OWN_SETTINGS)])
    if quantity not in metrics.METRICS:
        return None
    if bound != "point":
        value: float | None = context.aggregates[number.suite][method][quantity][bound]
        return value
    assert suite is not None
    scores = suite.scores[method]
    return None if len(scores) == 1 and quantity in NEEDS_RUNS else metrics.points(scores)[quantity]


@cache
def _raw_means() -> pd.Series:
    return raw_means()


def has_scores(number: Number, context: Context) -> bool:
    """Whether raw scores of this benchmark are published at all."""
    return number.suite in (*context.suites, CRAFTAX, TIMES)


def monte_carlo_factor(number: Number, context: Context) -> float:
    """Bounds from fewer repetitions than the papers' scatter more, by the root of the ratio."""
    if number.quantity.startswith("improvement"):
        return float(np.sqrt(max(1.0, REPETITIONS_IMPROVEMENT / context.options.repetitions_improvement)))
    return float(np.sqrt(max(1.0, REPETITIONS_AGGREGATES / context.options.repetitions_aggregates)))
