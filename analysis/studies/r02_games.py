"""R2: two methods compared on every game, and what remains significant with many games tested at once."""

import math
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from analysis.comparisons import DELTA_IRIS, IRIS, M3, REM, REM_ABLATIONS, Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import MARK, Defect
from analysis.data.scores import Suite
from analysis.draw import heatmap, style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.tables import NO_RUN, Cell, header_marks, render
from analysis.item import Item
from analysis.stats import significance
from analysis.stats.ranks import runs_by_task
from analysis.stats.significance import LEVEL
from analysis.studies.methods import brief_label

PAPERS_COMPARED = (IRIS, REM, DELTA_IRIS, M3)
PERCENT = f"{100 * LEVEL:.0f} %"
MOST_SHOWN = 10**9  # splits of the runs, written out
COUNTS = {f"p at most {LEVEL:g}": "p", "False-discovery rate": "q", "Holm": "p_holm"}
CELL_INCHES, ROW_INCHES = 0.3, 0.21
MAX_INCHES = 7.2  # of all cells side by side


def opponents(comparison: Comparison, context: Context) -> list[str]:
    """Methods that the paper's agent is compared with: its paper's, contributed ones, our complete runs of any."""
    others = [method for method in comparison.methods if method != comparison.subject]
    return [*others, *comparison.contributed(context), *comparison.ours(context)]


def defects_of(comparisons: Sequence[Comparison], context: Context) -> tuple[Defect, ...]:
    """Known defects of any of the comparisons, each once."""
    return tuple(dict.fromkeys(defect for comparison in comparisons for defect in comparison.defects(context)))


def compare_games(suite: Suite, x: str, y: str) -> pd.DataFrame:
    """A row for each game: P(X > Y), exact p, Holm's p and q over the games, and the numbers of runs.

    Methods that are partial in the suite have NaN on the games without a run; these do not count in the corrections.
    """
    scores = {**suite.partial, **suite.scores}
    frame = pd.DataFrame([_test(*game) for game in zip(suite.tasks, *(runs_by_task(scores[name]) for name in (x, y)))])
    tested = frame.p.notna().to_numpy()
    for name, adjust in (("p_holm", significance.holm), ("q", significance.benjamini_hochberg)):
        frame[name] = math.nan
        frame.loc[tested, name] = adjust(frame.p[tested].to_numpy())
    columns = ["game", "x", "y", "runs_x", "runs_y", "probability", "p", "test", "p_holm", "q"]
    return frame.assign(x=x, y=y)[columns]


def _test(game: str, x: significance.Vector, y: significance.Vector) -> dict[str, Any]:
    record = {"game": game, "runs_x": len(x), "runs_y": len(y), "probability": math.nan, "p": math.nan, "test": ""}
    if len(x) and len(y):
        test = significance.mann_whitney(x, y)
        record |= {"probability": test.probability, "p": test.p, "test": "exact" if test.exact else "asymptotic"}
    return record


def games_table(comparison: Comparison, context: Context) -> Table:
    """A table with rows games and columns the methods that the paper's agent is compared with."""
    suite = context.suites[comparison.suite]
    others = [*opponents(comparison, context), *comparison.partial(context)]
    frames = [compare_games(suite, comparison.subject, method) for method in others]
    defects = comparison.defects(context)
    lines: list[list[Cell | str]] = [
        [game, *(_cell(frame.iloc[row], defects) for frame in frames)] for row, game in enumerate(suite.tasks)
    ]
    lines.append(["Mean over games", *map(_average, frames)])
    lines += [[title, *(wins_and_losses(frame, column) for frame in frames)] for title, column in COUNTS.items()]
    headers = ["Game", *(brief_label(method) + header_marks(method, defects) for method in others)]
    subject = naming.shown(comparison.subject) + header_marks(comparison.subject, defects)
    caption = (
        f"{comparison.heading(context)}: share of the pairs of runs in which {subject} beats the method "
        f"of the column (ties one half), in brackets the two-sided Mann-Whitney p, {_kind(frames)}. "
        f"Bold: false-discovery rate at most {PERCENT} over the games (Benjamini-Hochberg); underlined: also Holm. "
        f"Last lines: on how many games {subject} is better / worse by that measure. {floors(frames)}"
    )
    numbers = pd.concat(frames, ignore_index=True)
    return render(headers, lines, numbers, caption, rules=[len(suite.tasks)], defects=defects)


def _cell(row: "pd.Series[Any]", defects: Sequence[Defect]) -> Cell:
    if math.isnan(row.p):
        return Cell(NO_RUN)
    marked = any(row.game in defect.tasks and {row.x, row.y} & {*defect.methods} for defect in defects)
    p = f"{row.p:.3f}" if row.p >= 0.0005 else f"{row.p:.0e}"
    return Cell(f"{row.probability:.2f} ({p}){MARK * marked}", row.q <= LEVEL, row.p_holm <= LEVEL)


def _average(frame: pd.DataFrame) -> str:
    """Mean P(X > Y), if there are runs of every game."""
    return NO_RUN if frame.p.isna().any() else f"{frame.probability.mean():.2f}"


def _kind(frames: Iterable[pd.DataFrame]) -> str:
    """Exact or asymptotic p."""
    asymptotic = any((frame.test == "asymptotic").any() for frame in frames)
    return f"exact up to {significance.MOST_COUNTED} runs a side, else asymptotic" if asymptotic else "exact"


def wins_and_losses(frame: pd.DataFrame, column: str) -> str:
    """Number of games on which X is better / worse with ``column`` at most the level."""
    found = frame[frame[column] <= LEVEL]
    return f"{(found.probability > 0.5).sum()} / {(found.probability < 0.5).sum()}"


def floors(frames: Collection[pd.DataFrame]) -> str:
    """The smallest p that these numbers of runs can give, and which corrections can then reject."""
    sizes = (sorted((int(frame.runs_x.max()), int(frame.runs_y.max()))) for frame in frames)
    cases = ((*size, int(frame.p.notna().sum())) for size, frame in zip(sizes, frames))
    return " ".join(_floor(*case) for case in dict.fromkeys(cases))


def _floor(runs_x: int, runs_y: int, games: int) -> str:
    splits, floor = math.comb(runs_x + runs_y, runs_x), significance.smallest_p(runs_x, runs_y)
    share = f"2/{splits} = " if splits < MOST_SHOWN else ""
    start = f"{runs_x} runs against {runs_y}: p is at least {share}{floor:.2g}"
    if floor * games <= LEVEL:
        return f"{start}, so over {games} games both can reject."
    needed = significance.games_needed(floor, games)
    rate = "neither can the other" if needed is None else f"the other can once {needed} games are that clear"
    return f"{start}, times {games} games {floor * games:.2g}: Holm can never reject, {rate}."


def games_figure(comparisons: Sequence[Comparison], context: Context) -> Drawing:
    """Heat maps of P(X > Y), games by opponents, a panel for each paper's agent."""
    frames = {
        comparison.subject: [
            compare_games(context.suites[comparison.suite], comparison.subject, method)
            for method in opponents(comparison, context)
        ]
        for comparison in comparisons
    }
    every = [frame for panel in frames.values() for frame in panel]
    widths = [len(panel) for panel in frames.values()]
    games = context.suites[comparisons[0].suite].tasks
    with style.house_style():
        cells = min(CELL_INCHES * sum(widths), MAX_INCHES)
        size = (2.2 + cells + 0.15 * len(widths), 1.9 + ROW_INCHES * len(games))
        figure, panels = plt.subplots(
            1, len(frames), figsize=size, squeeze=False, layout="constrained", gridspec_kw={"width_ratios": widths}
        )
        for axes, (subject, panel) in zip(panels[0], frames.items()):
            mesh = _draw_panel(axes, subject, panel, games if axes is panels[0][0] else [""] * len(games))
        bar = figure.colorbar(mesh, ax=list(panels[0]), shrink=0.5, aspect=30, ticks=(0, 0.25, 0.5, 0.75, 1))
        bar.set_label("P(X > Y)")
        bar.outline.set_visible(False)
        assert bar.solids is not None
        bar.solids.set(rasterized=False, edgecolor="face")  # shapes have colours that a dark page can turn
    caption = (
        f"{comparisons[0].heading(context)}: share of the pairs of runs in which X beats Y, game by game. Dots: "
        f"Mann-Whitney test ({_kind(every)}) significant at a false-discovery rate of {PERCENT} over the games; stars: "
        f"also with Holm's correction. {floors(every)}"
    )
    return Drawing(figure, pd.concat(every, ignore_index=True), caption, defects_of(comparisons, context))


def _draw_panel(axes: Axes, subject: str, frames: Sequence[pd.DataFrame], games: Sequence[str]) -> QuadMesh:
    """Draw one agent's panel; a dot marks a significant false-discovery rate, a star Holm's p as well."""
    probability, q, holm = (np.column_stack([each[name] for each in frames]) for name in ("probability", "q", "p_holm"))
    names = [brief_label(frame.y.iloc[0]) for frame in frames]
    mesh = heatmap.draw_cells(axes, probability, games, names, heatmap.even_or_not())
    for marker, size, found in (("*", 26.0, holm <= LEVEL), ("o", 9.0, (q <= LEVEL) & ~(holm <= LEVEL))):
        rows, places = np.nonzero(found)
        shades = [heatmap.contrasting(cell) for cell in np.asarray(mesh.to_rgba(probability[found]))]
        axes.scatter(places + 0.5, rows + 0.5, marker=marker, s=size, c=shades, linewidths=0)
    axes.set_title(f"X = {naming.shown(subject)}")
    return mesh


_TABLES = {
    "iris": (IRIS, "IRIS"),
    "rem": (REM, "REM"),
    "delta_iris": (DELTA_IRIS, "Delta-IRIS"),
    "m3": (M3, "M3"),
    "abl": (REM_ABLATIONS, "REM's ablations"),
}
ITEMS = (
    Item("R2-F-games", "beyond", "figure", "Every agent against the others, game by game",
         partial(games_figure, PAPERS_COMPARED)),
    *(Item(f"R2-T-{name}", "beyond", "table", f"{title} game by game", partial(games_table, comparison))
      for name, (comparison, title) in _TABLES.items()),
)  # fmt: skip
