"""R3: differences of aggregates with intervals of the difference itself.

In every replicate both methods are resampled, each from a stream of its own, and the aggregates are subtracted. The
replicates of a method are drawn once and serve all of its pairs, and the ranks.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import chain, pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.comparisons import PAPERS_COMPARED, REM_ABLATIONS, Comparison, together
from analysis.context import Context
from analysis.data.defects import Defect
from analysis.data.scores import Suite
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import AGGREGATES, TITLES, draw_points, is_trusted, label_width
from analysis.draw.tables import Cell, header_marks, render
from analysis.errors import require
from analysis.item import Item
from analysis.options import Options
from analysis.stats import bootstrap, metrics
from analysis.stats.metrics import Matrix
from analysis.studies.methods import brief_label, left_out
from analysis.studies.r02_games import defects_of

# A method of 100 runs costs twenty times as much to resample as one of five.
MANY_RUNS, MOST_REPETITIONS_OF_MANY = 20, 10_000
LOW_IS_GOOD = ("optimality_gap",)
ROW_INCHES = 0.27
FURTHER = {"Delta-IRIS": ("REM",), "M3": ("Delta-IRIS", "STORM", "DIAMOND")}  # pairs that no paper compares

Comparisons = Sequence[Comparison]
Replicates = dict[str, NDArray[np.float64]]


def replicates(context: Context, suite: str, method: str) -> Replicates:
    """Bootstrap replicates of every aggregate, each (R,); R is smaller for methods of many runs."""
    scores, number = context.suites[suite].scores[method], context.options.repetitions_aggregates
    if len(scores) > MANY_RUNS:
        number = min(number, MOST_REPETITIONS_OF_MANY)
    return _replicates(method, scores.tobytes(), scores.shape, context.options, number)


@lru_cache(maxsize=64)
def _replicates(method: str, values: bytes, shape: tuple[int, int], options: Options, number: int) -> Replicates:
    """Replicates of a score matrix given as bytes, so that it is a part of the cache's key."""
    scores: Matrix = np.frombuffer(values).reshape(shape)
    return bootstrap.aggregate_replicates(scores, options.generator("replicates", method), number)


def pairs(comparisons: Comparisons, context: Context) -> list[tuple[str, str]]:
    """Each paper's agent, and our complete runs of it, against its opponents and agents of other papers; methods with
    several runs only."""
    scores = context.suites[comparisons[0].suite].scores
    return [pair for pair in _all_pairs(comparisons, context) if all(len(scores[name]) > 1 for name in pair)]


def _all_pairs(comparisons: Comparisons, context: Context) -> list[tuple[str, str]]:
    """The pairs, those of methods with a single run included."""
    found = chain(*(comparison.pairs(context, _further(comparison, context)) for comparison in comparisons))
    return list(dict.fromkeys(found))


def _further(comparison: Comparison, context: Context) -> list[str]:
    """Published methods that the agent is compared with here and not in its paper."""
    names = FURTHER.get(comparison.subject, ()) if comparison.further is None else ()
    return [name for name in names if name in context.suites[comparison.suite].scores]


def _left_out(comparisons: Comparisons, context: Context) -> str:
    """The end of a caption that names the methods with a single run."""
    suite = comparisons[0].suite
    methods = dict.fromkeys(name for pair in _all_pairs(comparisons, context) for name in pair)
    return left_out(context, [name for name in methods if len(context.suites[suite].scores[name]) == 1], suite)


def difference(context: Context, suite: str, x: str, y: str) -> dict[str, dict[str, Any]]:
    """X minus Y of each aggregate with the 95 % interval, and the share of replicates in which X is above, and better.

    Equal replicates count one half, so that the shares of (X, Y) and (Y, X) add up to one.
    """
    scores_x, scores_y = (context.suites[suite].scores[name] for name in (x, y))
    points_x, points_y = metrics.points(scores_x), metrics.points(scores_y)
    drawn_x, drawn_y = replicates(context, suite, x), replicates(context, suite, y)
    entries = {}
    for metric in AGGREGATES:
        number = min(len(drawn_x[metric]), len(drawn_y[metric]))
        deltas = drawn_x[metric][:number] - drawn_y[metric][:number]
        low, high = (float(bound) for bound in bootstrap.bounds(deltas))
        above = float((deltas > metrics.TIE).mean() + 0.5 * (np.abs(deltas) <= metrics.TIE).mean())
        entries[metric] = {
            "difference": points_x[metric] - points_y[metric],
            "low": low,
            "high": high,
            "share_above_zero": above,
            "share_better": 1.0 - above if metric in LOW_IS_GOOD else above,
            "runs_x": len(scores_x),
            "runs_y": len(scores_y),
            "repetitions": number,
        }
    return entries


def differences(comparisons: Comparisons, context: Context) -> pd.DataFrame:
    """A row for each pair and aggregate, on all games and then without the games in doubt, if there are such."""
    rows = [
        {"x": x, "y": y, "games": len(suite.tasks), "metric": metric, **entry}
        for suite in _suites(comparisons[0], context)
        for x, y in pairs(comparisons, context)
        if x in suite.scores and y in suite.scores
        for metric, entry in difference(context, suite.name, x, y).items()
    ]
    require(rows, "no pair of methods with several runs each: name another --subject or other --baselines")
    return pd.DataFrame(rows).assign(clear=lambda frame: (frame.low > 0) | (frame.high < 0))


def _suites(comparison: Comparison, context: Context) -> list[Suite]:
    """The suite of the comparison, and the one without the games in doubt, if there is one."""
    return [context.suites[name] for name in (comparison.suite, comparison.without) if name is not None]


def _defects(comparisons: Comparisons, context: Context) -> tuple[Defect, ...]:
    """Known defects of the comparisons, and of the methods added to them here."""
    tasks = context.suites[comparisons[0].suite].tasks
    further = [name for comparison in comparisons for name in _further(comparison, context)]
    return tuple(dict.fromkeys([*defects_of(comparisons, context), *context.defects_of(further, tasks)]))


def differences_table(comparisons: Comparisons, context: Context) -> Table:
    """R3-T-diff: difference, its interval and the share of replicates in which X is better, by pair and aggregate."""
    comparisons = together(comparisons, context)
    numbers, defects = differences(comparisons, context), _defects(comparisons, context)
    tasks = {len(suite.tasks): suite.tasks for suite in _suites(comparisons[0], context)}
    several = len(tasks) > 1
    lines: list[list[Cell | str]] = []
    rules, last = [], None
    for (games, x, y), rows in numbers.groupby(["games", "x", "y"], sort=False):
        if last not in (None, (games, x)):
            rules.append(len(lines))
        last = games, x
        names = [brief_label(name) + header_marks(name, defects) for name in (x, y)]
        marks = dict.fromkeys(each.mark for each in defects if each.tasks and each.concerns((x, y), tasks[games]))
        lines.append([*names, *([f"{games}{''.join(marks)}"] if several else [])])
        for entry in rows.itertuples():
            text = f"{entry.difference:+.3f} [{entry.low:+.3f}, {entry.high:+.3f}]"
            lines[-1] += [Cell(text, bold=entry.clear), f"{entry.share_better:.3f}"]
    headers = ["X", "Y", *(["Games"] if several else [])]
    headers += [text for name in AGGREGATES for text in (f"{TITLES[name]}: X - Y", "X better")]
    fewer = f" Lines with {min(tasks)} games are without {comparisons[0].left_out(context)}." if several else ""
    caption = (
        f"{comparisons[0].heading(context)}: X minus Y with its 95 % interval, both methods resampled in every "
        f"replicate ({_repetitions(numbers)}), and the share of the replicates in which X is better (of the optimality "
        f"gap: lower). Bold: the interval lies off zero.{fewer}{_left_out(comparisons, context)}"
    )
    shown = numbers.drop(columns="clear")
    return render(headers, lines, shown, caption, text_columns=2, rules=rules, defects=defects)


def differences_figure(comparisons: Comparisons, context: Context) -> Drawing:
    """R3-F-diff: a row for each pair, a panel for each aggregate, a line at no difference."""
    comparisons = together(comparisons, context)
    numbers = differences(comparisons, context)
    rows = list(dict.fromkeys(zip(numbers.x, numbers.y)))
    # half a row between the agents
    gaps = np.cumsum([0.0, *(0.5 * (here[0] != before[0]) for before, here in pairwise(rows))])
    places = [float(place) for place in np.arange(len(rows)) + gaps]
    labels = [f"{brief_label(x)} − {brief_label(y)}" for x, y in rows]
    with style.house_style():
        size = (label_width(labels) + 1.75 * len(AGGREGATES), 0.9 + ROW_INCHES * (places[-1] + 1))
        figure, panels = plt.subplots(1, len(AGGREGATES), figsize=size, layout="constrained")
        for axes, metric in zip(panels, AGGREGATES):
            _draw_panel(axes, numbers[numbers.metric == metric], places)
            axes.set_title(TITLES[metric] + " ↓" * (metric in LOW_IS_GOOD))
            axes.set_yticks(places, labels if axes is panels[0] else [""] * len(rows))
            axes.set_ylim(places[-1] + 0.8, -0.8)  # first pair on top
        figure.supxlabel("Difference of human-normalised scores", fontsize=10)
    caption = (
        f"{comparisons[0].heading(context)}: aggregates of X minus those of Y; dots are point estimates, lines 95 % "
        f"intervals of the difference, both methods resampled in every replicate ({_repetitions(numbers)}); hollow "
        "dots: the interval holds zero. Of the optimality gap less is better."
        f"{_left_out(comparisons, context)}"
    )
    return Drawing(figure, numbers.drop(columns="clear"), caption, _defects(comparisons, context))


def _draw_panel(axes: Axes, entries: pd.DataFrame, places: Sequence[float]) -> None:
    colours = [style.colour(x) for x in entries.x]
    fills = [colour if clear else style.page() for colour, clear in zip(colours, entries.clear)]
    look = {"c": fills, "edgecolors": colours, "linewidths": 1.3}
    trusted = [is_trusted(entry) for entry in entries.to_dict("records")]
    draw_points(axes, places, entries.difference, entries.low, entries.high, colours, trusted, **look)
    axes.axvline(0.0, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
    style.bar_panel(axes)


def _repetitions(numbers: pd.DataFrame) -> str:
    """Number of replicates, and that of methods with many runs."""
    most, fewest = numbers.repetitions.max(), numbers.repetitions.min()
    fewer = f", {fewest} where a method has more than {MANY_RUNS} runs" if most != fewest else ""
    return f"{most} repetitions{fewer}"


ITEMS = (
    Item("R3-F-diff", "beyond", "figure", "Differences of aggregates", partial(differences_figure, PAPERS_COMPARED)),
    Item("R3-T-diff", "beyond", "table", "Differences of aggregates in numbers",
         partial(differences_table, PAPERS_COMPARED)),
    Item("R3-T-abl", "beyond", "table", "Differences of aggregates between REM and its ablations",
         partial(differences_table, (REM_ABLATIONS,))),
)  # fmt: skip
