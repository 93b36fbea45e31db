"""Numbers that papers print, and the same numbers from the raw scores of ``results/data``.

``printed.csv`` holds them as text, with the digits of the source, and says how each is known: *read* (in the paper, its
project page or a paper that repeats it), *recalled* (the table was not at hand), *computed* (by another program from
the same raw scores; never with a reason why they might differ). Those of Delta-IRIS are in ``secondary.csv`` and are
*secondary*.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from analysis.context import Context
from analysis.data.aggregates import PAIRED_SUITES
from analysis.data.defects import read_defects
from analysis.data.published import ATARI, CRAFTAX_MAXIMUM, raw_means
from analysis.data.scores import DATA, read_table
from analysis.data.secondary import SUBJECT
from analysis.draw.tables import NEEDS_RUNS, NOT_APPLICABLE
from analysis.papers.times import OWN_SETTINGS, read_times
from analysis.stats import metrics
from tokenworlds.errors import UserError, near_matches

COLUMNS = ("paper", "suite", "method", "quantity", "of", "printed", "tolerance", "known", "source", "reason")
KNOWN = ("read", "recalled", "computed", "secondary")
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
    """All printed numbers: those of the file in its order, then the secondary ones of Delta-IRIS."""
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
        if fields["known"] == "computed" and fields["reason"]:
            raise UserError(
                f"printed.csv line {line}: another program computed this number from the same scores: nothing "
                "explains a difference; leave the reason empty."
            )
        numbers.append(Number(**fields | {"tolerance": float(fields["tolerance"]) if fields["tolerance"] else None}))
    return [*numbers, *_secondary(data)]


def _secondary(data: Path) -> list[Number]:
    """Secondary numbers: those on Atari can be compared, with scores that are not the paper's own; for the other tables
    there are no raw scores."""
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
    suite, method, of = number.suite, number.method, number.of
    quantity, _, bound = number.quantity.rpartition("_")
    if bound not in ("low", "high"):
        quantity, bound = number.quantity, "point"
    if quantity == "improvement":
        return float(context.aggregates[PAIRED_SUITES[suite]][method][of][bound])
    if quantity in metrics.METRICS and bound != "point":
        value: float | None = context.aggregates[suite][method][quantity][bound]
        return value
    if quantity in metrics.METRICS:
        scores = context.suites[suite].scores[method]
        return None if len(scores) == 1 and quantity in NEEDS_RUNS else metrics.points(scores)[quantity]
    match quantity:
        case "task_mean":
            return _raw_means().get((method, of))
        case "percent_of_maximum":
            return 100.0 * _raw_means()[method, of] / CRAFTAX_MAXIMUM
        case "raw_mean" | "raw_median":  # over tasks of the mean return
            statistic = np.mean if quantity == "raw_mean" else np.median
            return float(statistic(np.nanmean(context.suites[suite].raw[method], axis=0)))
        case "speed_up":  # seconds of imagination an epoch, of the slower method over the faster one's
            times = read_times().imagination
            return float(times[(of, OWN_SETTINGS)] / times[(method, OWN_SETTINGS)])
    return None


@cache
def _raw_means() -> dict[tuple[str, str], float]:
    return {key: float(mean) for key, mean in raw_means().items()}


def has_scores(number: Number, context: Context) -> bool:
    """Whether raw scores of this benchmark are published."""
    return number.suite in (*context.suites, CRAFTAX, TIMES)


def monte_carlo_factor(number: Number, context: Context) -> float:
    """Factor of the Monte Carlo error: root of the ratio of the papers' repetitions to ours, at least 1."""
    if number.quantity.startswith("improvement"):
        return math.sqrt(max(1.0, REPETITIONS_IMPROVEMENT / context.options.repetitions_improvement))
    return math.sqrt(max(1.0, REPETITIONS_AGGREGATES / context.options.repetitions_aggregates))
