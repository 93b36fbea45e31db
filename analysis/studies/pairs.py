"""All pairs: P(X > Y) of every method over every other on the 26 games, with its interval; and game by game."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.aggregates import PAIRED_SUITES
from analysis.data.defects import Defect
from analysis.data.published import ATARI
from analysis.draw import heatmap, style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import label_width
from analysis.draw.tables import Cell, header_marks, render
from analysis.item import Item
from analysis.studies.games import COUNTS, brief_label, compare_games, floors, wins_and_losses

CELL_INCHES, TEXT_SIZE = 0.43, 8.0


def ordered(context: Context) -> list[str]:
    """Methods with several runs by interquartile mean, best first: published ones, contributed ones, ours."""
    entries = context.aggregates[ATARI]
    several = context.aggregates[PAIRED_SUITES[ATARI]]
    return sorted(several, key=lambda method: (origin(method, context), -entries[method]["iqm"]["point"]))


def origin(method: str, context: Context) -> int:
    """0 published, 1 contributed, 2 our own: the order of the groups in tables and figures."""
    return 2 if naming.is_ours(method) else int(method in context.contributed)


def line_between_origins(axes: Axes, methods: Sequence[str], context: Context) -> None:
    """A line between published methods, contributed ones and ours, in panels whose rows are methods from 0 on."""
    for row, (above, below) in enumerate(pairwise(origin(method, context) for method in methods), start=1):
        if above != below:
            axes.axhline(row, color=style.faint(), linewidth=1)


def pair_numbers(context: Context) -> pd.DataFrame:
    """A row for each ordered pair of different methods."""
    entries, methods = context.aggregates[PAIRED_SUITES[ATARI]], ordered(context)
    return pd.DataFrame([{"x": x, "y": y, **entries[x][y]} for x in methods for y in methods if x != y])


def matrix_figure(context: Context) -> Drawing:
    """R2-F-matrix: a heat map with the number in every cell."""
    methods, numbers = ordered(context), pair_numbers(context)
    values = _square(numbers, methods)
    texts = [["" if math.isnan(value) else f"{value:.2f}" for value in line] for line in values]
    names = [brief_label(method) for method in methods]
    with style.house_style():
        side = CELL_INCHES * len(methods)
        figure, axes = plt.subplots(
            figsize=(label_width(names) + side, label_width(names) + side), layout="constrained"
        )
        mesh = heatmap.draw_cells(axes, values, names, names, heatmap.even_or_not())
        heatmap.write_on_cells(axes, mesh, values, texts, TEXT_SIZE)
        line_between_origins(axes, methods, context)
        axes.set(xlabel="Y", ylabel="X", aspect="equal")
    caption = (
        f"{_heading(context)}: probability that a run of X (row) beats a run of Y (column) on a game, averaged over "
        f"games; methods in the order of their interquartile means.{_left_out(context)}"
    )
    return Drawing(figure, numbers, caption, _defects(context))


def _square(numbers: pd.DataFrame, methods: list[str]) -> NDArray[np.float64]:
    """P(row > column), NaN on the diagonal."""
    table = numbers.pivot(index="x", columns="y", values="point")
    return np.asarray(table.reindex(index=methods, columns=methods).to_numpy(dtype=np.float64))


def matrix_table(context: Context) -> Table:
    """R2-T-matrix: the same with intervals; one triangle, for the other is one minus it."""
    methods, numbers = ordered(context), pair_numbers(context)
    entries = {(row.x, row.y): row for row in numbers.itertuples()}
    defects = _defects(context)
    lines = [
        [
            Cell(brief_label(x) + header_marks(x, defects)),
            *(_cell(entries[x, y]) if row < column else Cell("") for column, y in enumerate(methods) if column),
        ]
        for row, x in enumerate(methods[:-1])
    ]
    headers = ["X", *(brief_label(method) + header_marks(method, defects) for method in methods[1:])]
    caption = (
        f"{_heading(context)}: probability in % that a run of X (row) beats a run of the method of the column on a "
        f"game, averaged over games, with 95 % intervals ({context.options.repetitions_improvement} repetitions); "
        "methods in the order of their interquartile means. Bold: the interval lies off one half."
        f"{_left_out(context)}"
    )
    return render(headers, lines, numbers, caption, defects=defects)


def games_table(context: Context) -> Table:
    """R2-T-pairs: on how many games either of two methods is better, by exact tests; its CSV has every game."""
    suite, defects = context.suites[ATARI], _defects(context)
    frames = [compare_games(suite, x, y) for x, y in combinations(ordered(context), 2)]
    lines = [
        [
            *(Cell(brief_label(method) + header_marks(method, defects)) for method in frame.loc[0, ["x", "y"]]),
            Cell(f"{frame.probability.mean():.2f}"),
            *(Cell(wins_and_losses(frame, column)) for column in COUNTS.values()),
        ]
        for frame in frames
    ]
    caption = (
        f"{_heading(context)}: every pair of methods, X the one of the higher interquartile mean. P: probability that "
        "a run of X beats a run of Y on a game, averaged over games; then on how many games X is better / worse by the "
        "two-sided Mann-Whitney test: without a correction, at a false-discovery rate of 5 % over the games, and by "
        f"Holm's correction.{_left_out(context)} {floors(frames)}"
    )
    headers = ["X", "Y", "P(X > Y)", *COUNTS]
    numbers = pd.concat(frames, ignore_index=True)
    return render(headers, lines, numbers, caption, text_columns=2, defects=defects)


def _cell(entry: Any) -> Cell:
    text = f"{100 * entry.point:.0f} [{100 * entry.low:.0f}, {100 * entry.high:.0f}]"
    return Cell(text, bold=entry.low > 0.5 or entry.high < 0.5)


def _heading(context: Context) -> str:
    return f"Atari-100k, {len(context.suites[ATARI].tasks)} games"


def _left_out(context: Context) -> str:
    """Who cannot be here, with one run or one printed number per game."""
    single = [name for name in context.suites[ATARI].scores if name not in context.aggregates[PAIRED_SUITES[ATARI]]]
    return f" Left out, with one value per game: {naming.listed([*map(brief_label, single)])}." if single else ""


def _defects(context: Context) -> tuple[Defect, ...]:
    return context.defects_of(ordered(context), context.suites[ATARI].tasks)


ITEMS = (
    Item("R2-F-matrix", "beyond", "figure", "Probability of improvement of all pairs", matrix_figure),
    Item("R2-T-pairs", "beyond", "table", "All pairs game by game", games_table),
    Item("R2-T-matrix", "beyond", "table", "Probability of improvement of all pairs in numbers", matrix_table),
)
