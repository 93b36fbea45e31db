"""R3: differences of aggregates with intervals of the difference itself, instead of two intervals held side by side.

In every replicate both methods are resampled, each from a stream of its own, and the aggregates are subtracted. The
replicates of a method are drawn once and serve every pair it is in, and the ranks.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.comparisons import PAPERS_COMPARED, REM_ABLATIONS, Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.scores import Suite
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import AGGREGATES, TITLES, label_width
from analysis.draw.tables import Cell, header_marks, render
from analysis.item import Item
from analysis.options import Options
from analysis.stats import bootstrap, metrics
from analysis.stats.metrics import Matrix
from analysis.studies.games import brief_label, defects_of, opponents
from analysis.studies.samples import left_out

# A method of 100 runs costs twenty times as much to resample as one of five.
MANY_RUNS, MOST_REPETITIONS_OF_MANY = 20, 10_000
LOW_IS_GOOD = ("optimality_gap",)
ROW_INCHES = 0.27
# Agents of different papers that no paper compares.
FURTHER = {"Delta-IRIS": ("REM",), "M3": ("Delta-IRIS", "STORM", "DIAMOND")}

Replicates = dict[str, NDArray[np.float64]]


def replicates(context: Context, suite: str, method: str) -> Replicates:
    """Bootstrap replicates of every aggregate, each (R,); R is smaller for methods of many runs."""
    scores = context.suites[suite].scores[method]
    number = context.options.repetitions_aggregates
    if len(scores) > MANY_RUNS:
        number = min(number, MOST_REPETITIONS_OF_MANY)
    return _replicates(method, scores.tobytes(), scores.shape, context.options, number)


@lru_cache(maxsize=64)
def _replicates(method: str, values: bytes, shape: tuple[int, int], options: Options, number: int) -> Replicates:
    """The scores are a part of the key, so what is remembered can never belong to others."""
    scores: Matrix = np.frombuffer(values).reshape(shape)
    return bootstrap.aggregate_replicates(scores, options.generator("replicates", method), number)


def pairs(comparisons: Sequence[Comparison], context: Context) -> list[tuple[str, str]]:
    """The agent of each paper, and our complete runs of it, against what it is compared with and against later or
    earlier agents; several runs each."""
    scores = context.suites[comparisons[0].suite].scores
    return [pair for pair in _meetings(comparisons, context) if all(len(scores[name]) > 1 for name in pair)]


def _meetings(comparisons: Sequence[Comparison], context: Context) -> list[tuple[str, str]]:
    """Those with a single run included."""
    found = []
    for comparison in comparisons:
        ours = [name for name in comparison.ours(context) if naming.base_method(name) == comparison.subject]
        others = [*opponents(comparison, context), *_further(comparison, context)]
        found += [(comparison.subject, other) for other in others]
        found += [(own, other) for own in ours for other in others if not naming.is_ours(other)]
    return list(dict.fromkeys(found))


def _further(comparison: Comparison, context: Context) -> list[str]:
    """Published methods that the agent meets here and not in its paper."""
    names = FURTHER.get(comparison.subject, ())
    return [name for name in names if name in context.suites[comparison.suite].scores]


def _left_out(comparisons: Sequence[Comparison], context: Context) -> str:
    """Who is in a comparison and has a single run."""
    suite = comparisons[0].suite
    met = dict.fromkeys(name for pair in _meetings(comparisons, context) for name in pair)
    return left_out(context, [name for name in met if len(context.suites[suite].scores[name]) == 1], suite)


def difference(context: Context, suite: str, x: str, y: str) -> dict[str, dict[str, Any]]:
    """By aggregate: X minus Y with the 95 % interval, and the share of replicates in which X has more, and is better.

    Equal replicates count one half, so that the shares of (X, Y) and (Y, X) add up to one.
    """
    scores = context.suites[suite].scores
    points_x, points_y = metrics.points(scores[x]), metrics.points(scores[y])
    drawn_x, drawn_y = replicates(context, suite, x), replicates(context, suite, y)
    entries = {}
    for metric in AGGREGATES:
        number = min(len(drawn_x[metric]), len(drawn_y[metric]))
        deltas = drawn_x[metric][:number] - drawn_y[metric][:number]
        low, high = (float(bound) for bound in bootstrap.bounds(deltas))
        above = float((deltas > 0).mean() + 0.5 * (deltas == 0).mean())
        entries[metric] = {
            "difference": points_x[metric] - points_y[metric],
            "low": low,
            "high": high,
            "share_above_zero": above,
            "share_better": 1.0 - above if metric in LOW_IS_GOOD else above,
            "runs_x": len(scores[x]),
            "runs_y": len(scores[y]),
            "repetitions": number,
        }
    return entries


def differences(comparisons: Sequence[Comparison], context: Context) -> pd.DataFrame:
    """A row for each pair and aggregate; then again on the games without those in doubt, where a comparison is of such
    and there are runs of both."""
    return pd.DataFrame(
        [
            {"x": x, "y": y, "games": len(suite.tasks), "metric": metric, **entry}
            for suite in _suites(comparisons[0], context)
            for x, y in pairs(comparisons, context)
            if x in suite.scores and y in suite.scores
            for metric, entry in difference(context, suite.name, x, y).items()
        ]
    )


def _suites(comparison: Comparison, context: Context) -> list[Suite]:
    """The comparison's own, and the one without the games in doubt if there are such."""
    return [context.suites[name] for name in (comparison.suite, comparison.without) if name is not None]


def _defects(comparisons: Sequence[Comparison], context: Context) -> tuple[Defect, ...]:
    """Those of the comparisons, and of whom the agents meet here only."""
    tasks = context.suites[comparisons[0].suite].tasks
    further = [name for comparison in comparisons for name in _further(comparison, context)]
    return tuple(dict.fromkeys([*defects_of(comparisons, context), *context.defects_of(further, tasks)]))


def differences_table(comparisons: Sequence[Comparison], context: Context) -> Table:
    """R3-T-diff: for each pair and aggregate the difference, its interval and how often X was better."""
    numbers, defects = differences(comparisons, context), _defects(comparisons, context)
    tasks = {len(suite.tasks): suite.tasks for suite in _suites(comparisons[0], context)}
    several = len(tasks) > 1
    lines, rules, last = [], [], None
    for (games, x, y), rows in numbers.groupby(["games", "x", "y"], sort=False):
        if last not in (None, (games, x)):
            rules.append(len(lines))
        last = games, x
        names = [brief_label(name) + header_marks(name, defects) for name in (x, y)]
        marks = dict.fromkeys(each.mark for each in defects if each.tasks and each.concerns((x, y), tasks[games]))
        start = [*map(Cell, names), *([Cell(f"{games}{''.join(marks)}")] if several else [])]
        entries = rows.set_index("metric")
        lines.append([*start, *(cell for name in AGGREGATES for cell in _cells(entries.loc[name]))])
    headers = [
        "X",
        "Y",
        *(["Games"] if several else []),
        *(text for name in AGGREGATES for text in (f"{TITLES[name]}: X - Y", "X better")),
    ]
    caption = (
        f"{comparisons[0].heading(context)}: X minus Y with its 95 % interval, both methods resampled in every "
        f"replicate ({repetitions(numbers)}), and the share of the replicates in which X is better (of the optimality "
        f"gap: lower). Bold: the interval lies off zero.{_on_fewer(comparisons[0], context)}"
        f"{_left_out(comparisons, context)}"
    )
    return render(headers, lines, numbers, caption, text_columns=2, rules=rules, defects=defects)


def _on_fewer(comparison: Comparison, context: Context) -> str:
    if comparison.without is None:
        return ""
    games = len(context.suites[comparison.without].tasks)
    return f" Lines with {games} games are without {comparison.left_out(context)}."


def _cells(entry: "pd.Series[Any]") -> list[Cell]:
    clear = entry.low > 0 or entry.high < 0
    text = f"{entry.difference:+.3f} [{entry.low:+.3f}, {entry.high:+.3f}]"
    return [Cell(text, bold=bool(clear)), Cell(f"{entry.share_better:.3f}")]


def differences_figure(comparisons: Sequence[Comparison], context: Context) -> Drawing:
    """R3-F-diff: a row for each pair, a panel for each aggregate, a line at no difference."""
    numbers = differences(comparisons, context)
    rows = list(dict.fromkeys(zip(numbers.x, numbers.y)))
    places = _places([x for x, _ in rows])
    labels = [f"{brief_label(x)} − {brief_label(y)}" for x, y in rows]
    with style.house_style():
        size = (label_width(labels) + 1.75 * len(AGGREGATES), 0.9 + ROW_INCHES * (places[-1] + 1))
        figure, panels = plt.subplots(1, len(AGGREGATES), figsize=size, layout="constrained")
        for axes, metric in zip(panels, AGGREGATES):
            entries = numbers[numbers.metric == metric]
            _draw_panel(axes, entries, places)
            axes.set_title(TITLES[metric] + " ↓" * (metric in LOW_IS_GOOD))
            axes.set_yticks(places, labels if axes is panels[0] else [""] * len(rows))
            axes.set_ylim(places[-1] + 0.8, -0.8)  # first pair on top
        figure.supxlabel("Difference of human-normalised scores", fontsize=10)
    caption = (
        f"{comparisons[0].heading(context)}: aggregates of X minus those of Y; dots are point estimates, lines 95 % "
        f"intervals of the difference, both methods resampled in every replicate ({repetitions(numbers)}); hollow "
        "dots: the interval holds zero. Of the optimality gap less is better."
        f"{_left_out(comparisons, context)}"
    )
    return Drawing(figure, numbers, caption, _defects(comparisons, context))


def _draw_panel(axes: Axes, entries: pd.DataFrame, places: Sequence[float]) -> None:
    colours = [style.colour(x) for x in entries.x]
    fills = [
        colour if low > 0 or high < 0 else style.page() for colour, low, high in zip(colours, entries.low, entries.high)
    ]
    axes.hlines(places, entries.low, entries.high, colors=colours, linewidth=1.8)
    axes.scatter(entries.difference, places, s=26, c=fills, edgecolors=colours, linewidths=1.3, zorder=3)
    axes.axvline(0.0, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
    style.bar_panel(axes)


def _places(groups: Sequence[str]) -> list[float]:
    """Rows one below the other, with half a row between the agents."""
    gaps = np.cumsum([0, *(0.5 * (here != before) for before, here in pairwise(groups))])
    return [float(row + gap) for row, gap in enumerate(gaps)]


def repetitions(numbers: pd.DataFrame) -> str:
    """How many replicates there are, and where fewer."""
    most, fewest = numbers.repetitions.max(), numbers.repetitions.min()
    if most == fewest:
        return f"{most} repetitions"
    return f"{most} repetitions, {fewest} where a method has more than {MANY_RUNS} runs"


ITEMS = (
    Item(
        "R3-F-diff", "beyond", "figure", "Differences of aggregates", partial(differences_figure, PAPERS_COMPARED)
    ),
    Item(
        "R3-T-diff", "beyond", "table", "Differences of aggregates in numbers",
        partial(differences_table, PAPERS_COMPARED),
    ),
    Item(
        "R3-T-abl", "beyond", "table", "Differences of aggregates between REM and its ablations",
        partial(differences_table, (REM_ABLATIONS,)),
    ),
)  # fmt: skip
