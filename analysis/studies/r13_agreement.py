"""R13: every number that a paper prints against ours from the raw scores, with a machine-readable verdict."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import MARK, Defect
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT, ATARI, DMC, STORM_PRINTED
from analysis.draw.artefacts import Table
from analysis.draw.tables import NOT_APPLICABLE, Cell, render
from analysis.item import Item
from analysis.papers.printed import CRAFTAX, KNOWN, Number, from_scores, has_scores, monte_carlo_factor, read_printed
from analysis.stats import metrics

AGREES, WITHIN, DIFFERS, NO_SCORES = "agrees", "within Monte Carlo error", "differs", "no raw scores"
KNOWN_REASON = "differs for a known reason"
# Binary fractions miss decimal ones by their last bit: 0.5005 is as near to 0.500 as to 0.501.
SLACK = 1.0 + 1e-9

PAPERS = {
    "IRIS": "IRIS, abstract and Table 1",
    "REM": "REM, abstract and Atari table",
    "Delta-IRIS": "Delta-IRIS, as quoted elsewhere",
    "M3": "M3 / Simulus, project page",
    "DIAMOND": "DIAMOND, Table 1",
    "rliable": "Other programs, same scores",
}
FOUR_PAPERS = ("IRIS", "REM", "Delta-IRIS", "M3")
SUITES = {
    ATARI: "26 games",
    STORM_PRINTED: "Freeway set to 33.5",
    ABLATIONS: "8 games",
    ABLATIONS_WITHOUT_DEFECT: "7 games without RoadRunner",
    DMC: "DMC",
    CRAFTAX: "Craftax",
}
TITLES = {
    "superhuman": "superhuman games", "mean": "mean", "median": "median", "iqm": "IQM",
    "optimality_gap": "optimality gap", "task_mean": "mean score", "raw_mean": "mean return",
    "raw_median": "median return", "percent_of_maximum": "% of the maximum", "speed_up": "times faster than",
}  # fmt: skip
BOUNDS = {"_low": ", lower bound", "_high": ", upper bound"}


@dataclass(frozen=True)
class Compared:
    """A printed number, ours, and the verdict on the two."""

    number: Number
    ours: float | None
    verdict: str
    defect: Defect | None = None  # the reason of a difference, if one is stated beside the number

    @property
    def kind(self) -> str:
        """Verdict without its reason."""
        return KNOWN_REASON if self.defect is not None else self.verdict

    @property
    def difference(self) -> float | None:
        """Ours minus the printed one."""
        printed = self.number.value
        return None if printed is None or self.ours is None else self.ours - printed


def verdict(printed: str, half_unit: float, ours: float | None, tolerance: float | None = None) -> str:
    """Whether two numbers agree to half a unit of the last printed digit, borders included.

    A bound of an interval has a Monte Carlo error of its own, ``tolerance``, and needs to lie within that only. ``N/A``
    agrees with a number that does not exist.
    """
    if printed == NOT_APPLICABLE or ours is None:
        return AGREES if printed == NOT_APPLICABLE and ours is None else DIFFERS
    distance = abs(ours - float(printed))
    if tolerance is not None:
        return WITHIN if distance <= tolerance * SLACK else DIFFERS
    return AGREES if distance <= half_unit * SLACK else DIFFERS


def compare(context: Context) -> list[Compared]:
    """Every printed number with its verdict."""
    return [compare_number(number, context) for number in read_printed()]


def compare_number(number: Number, context: Context) -> Compared:
    """One printed number with its verdict: a known reason of a difference must be stated beside this very number."""
    if not has_scores(number, context):
        return Compared(number, None, NO_SCORES)
    ours = from_scores(number, context)
    tolerance = None if number.tolerance is None else number.tolerance * monte_carlo_factor(number, context)
    found = verdict(number.printed, number.half_unit, ours, tolerance)
    if found != DIFFERS or not number.reason:
        return Compared(number, ours, found)
    return Compared(number, ours, f"{DIFFERS}: {number.reason}", Defect("remark", (number.method,), (), number.reason))


def agreement_table(context: Context) -> Table:
    """R13-T-agreement: number by number; in long lists that agree, only their count."""
    entries = compare(context)
    lines: list[list[Cell | str]] = []
    rules = []
    for paper in PAPERS:
        rules.append(len(lines))
        own = [entry for entry in entries if entry.number.paper == paper]
        lines += [_line(entry) for entry in own if _noun(entry) is None]
        lines += _counts([entry for entry in own if _noun(entry) is not None])
    caption = (
        "Numbers that papers print and ours from the raw scores. Agrees: within half a unit of the last printed digit; "
        "bounds of intervals: within their Monte Carlo error. Recalled: the table was not at hand; secondary: quoted "
        "elsewhere; computed: by rliable or numpy from the same scores. Where nothing differs, means per task, bounds "
        "and computed aggregates are counted in a line; all are in the CSV. "
        f"{MARK}: the known reason stands below."
    )
    headers = ["Printed in", "Method", "Number", "Known", "Printed", "Ours", "Difference", "Verdict"]
    return render(headers, lines, _numbers(entries), caption, 4, rules[1:], _reasons(entries))


def _reasons(entries: Sequence[Compared]) -> tuple[Defect, ...]:
    return tuple(dict.fromkeys(entry.defect for entry in entries if entry.defect is not None))


def _noun(entry: Compared) -> str | None:
    """Name under which a number is counted if nothing differs; None if it has a line of its own."""
    number = entry.number
    if entry.kind == NO_SCORES:
        return "other"
    if entry.kind not in (AGREES, WITHIN):
        return None
    if number.quantity.endswith(tuple(BOUNDS)):
        return "bounds of 95 % intervals"
    if number.known == "computed":
        return "aggregates" if number.quantity in metrics.METRICS and number.suite != STORM_PRINTED else None
    return f"means per task, {SUITES[number.suite]}" if number.quantity == "task_mean" else None


def _counts(entries: Sequence[Compared]) -> list[list[Cell | str]]:
    """A line for each method (for all together where numbers are computed), noun and verdict."""
    groups: dict[tuple[str, str, str], list[Number]] = defaultdict(list)
    for entry in entries:
        method = "all" if entry.number.known == "computed" else naming.shown(entry.number.method)
        groups[method, str(_noun(entry)), entry.verdict].append(entry.number)
    return [
        [PAPERS[found[0].paper], method, f"{noun}: {len(found)}", found[0].known, "", "", "", verdict]
        for (method, noun, verdict), found in groups.items()
    ]


def _line(entry: Compared) -> list[Cell | str]:
    number = entry.number
    # One digit more than printed, so that rounding shows; games are counted.
    digits = 0 if number.quantity == "superhuman" else len(number.printed.partition(".")[2]) + 1
    ours = NOT_APPLICABLE if entry.ours is None else f"{entry.ours:.{digits}f}"
    difference = "" if entry.difference is None else f"{round(entry.difference, digits) + 0.0:+.{digits}f}"
    found = Cell(entry.verdict if entry.defect is None else f"{DIFFERS}{MARK}", entry.kind == DIFFERS)
    texts = [PAPERS[number.paper], naming.shown(number.method), title(number), number.known]
    return [*texts, number.printed, ours, difference, found]


def title(number: Number) -> str:
    """``improvement`` of SPR -> ``P(IRIS > SPR)``; ``iqm_low`` -> ``IQM, lower bound``; the suite, unless all games."""
    suffix = next((suffix for suffix in BOUNDS if number.quantity.endswith(suffix)), "")
    quantity, of = number.quantity.removesuffix(suffix), naming.shown(number.of)
    if quantity == "improvement":
        text = f"P({naming.shown(number.method)} > {of})"
    else:
        text = TITLES.get(quantity, quantity.replace("_", " "))
        text += f" {of}" if quantity == "speed_up" else f" on {number.of}" if number.of else ""
    suite = "" if number.of or number.suite == ATARI else f", {SUITES.get(number.suite, number.suite)}"
    return text + BOUNDS.get(suffix, "") + suite


def _numbers(entries: Sequence[Compared]) -> pd.DataFrame:
    """A row for each number; ``kind`` is one of five verdicts, ``verdict`` adds the reason."""
    copied = ("paper", "suite", "method", "quantity", "of", "known", "printed")
    return pd.DataFrame(
        {name: getattr(entry.number, name) for name in copied}
        | {"ours": entry.ours, "difference": entry.difference, "half_unit": entry.number.half_unit}
        | {"tolerance": entry.number.tolerance, "verdict": entry.verdict, "kind": entry.kind}
        | {"source": entry.number.source}
        for entry in entries
    )


def summary_table(context: Context) -> Table:
    """R13-T-summary: how many numbers agree; printed ones by paper, apart from those that other programs computed."""
    entries = compare(context)
    printed = [entry for entry in entries if entry.number.known != "computed"]
    lines = [
        *_sources(entries, FOUR_PAPERS),
        ("The four papers", "", [entry for entry in entries if entry.number.paper in FOUR_PAPERS]),
        *_sources(entries, ("DIAMOND",)),
        ("All printed", "", printed),
    ]
    recomputed = _sources(entries, ("rliable",))
    kinds = (AGREES, WITHIN, KNOWN_REASON, DIFFERS, NO_SCORES)
    frame = pd.DataFrame(
        {"origin": origin, "known": known, "numbers": len(own)}
        | {kind: sum(entry.kind == kind for entry in own) for kind in kinds}
        for origin, known, own in (*lines, *recomputed)
    )
    caption = (
        "Numbers that papers print, and below the line those that rliable or numpy computed from the same raw scores, "
        "against what our analysis gives: how many agree within printing error, how many bounds of intervals lie "
        "within Monte Carlo error, and how many differ, for a known reason or for none that we know. Recalled: the "
        "table was not at hand; secondary: quoted elsewhere. Without raw scores nothing can be compared."
    )
    headers = ["Printed in", "Known", "Numbers", *(kind[0].upper() + kind[1:] for kind in kinds)]
    cells = [list(map(str, row)) for row in frame.itertuples(index=False)]
    return render(headers, cells, frame, caption, 2, [len(lines)], _reasons(entries))


def _sources(entries: Sequence[Compared], papers: Sequence[str]) -> list[tuple[str, str, list[Compared]]]:
    """Title, ``known`` and numbers for each paper and way in which its numbers are known."""
    return [
        (PAPERS[paper], known, own)
        for paper in papers
        for known in KNOWN
        if (own := [entry for entry in entries if (entry.number.paper, entry.number.known) == (paper, known)])
    ]


ITEMS = (
    Item("R13-T-summary", "beyond", "table", "Printed numbers and ours: how many agree", summary_table),
    Item("R13-T-agreement", "beyond", "table", "Printed numbers and ours, one by one", agreement_table),
)
