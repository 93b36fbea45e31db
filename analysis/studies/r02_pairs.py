"""R2: P(X > Y) of every method over every other on the 26 games with its interval, and game by game."""

import math
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis.context import Context
from analysis.data.aggregates import PAIRED_SUITES
from analysis.data.published import ATARI
from analysis.draw import heatmap, style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import label_width
from analysis.draw.tables import Cell, header_marks, render
from analysis.item import Item
from analysis.stats import metrics
from analysis.studies.methods import atari_defects, brief_label, line_between_origins, origin, single_left_out
from analysis.studies.r02_games import COUNTS, compare_games, floors, wins_and_losses

CELL_INCHES, TEXT_SIZE = 0.43, 8.0


def ordered(context: Context) -> list[str]:
    """Methods with several runs by interquartile mean, best first: published ones, contributed ones, ours."""
    scores = context.suites[ATARI].scores
    several = context.choice.among(scores).kept(method for method, matrix in scores.items() if len(matrix) > 1)
    return sorted(several, key=lambda method: (origin(method, context), -metrics.interquartile_mean(scores[method])))


def pair_numbers(context: Context) -> pd.DataFrame:
    """A row for each ordered pair of different methods."""
    entries, methods = context.aggregates[PAIRED_SUITES[ATARI]], ordered(context)
    return pd.DataFrame([{"x": x, "y": y, **entries[x][y]} for x in methods for y in methods if x != y])


def matrix_figure(context: Context) -> Drawing:
    """R2-F-matrix: a heat map with the number in every cell."""
    methods, numbers = ordered(context), pair_numbers(context)
    square = numbers.pivot(index="x", columns="y", values="point").reindex(index=methods, columns=methods)
    values = square.to_numpy(dtype=float)  # NaN on the diagonal
    texts = [["" if math.isnan(value) else f"{value:.2f}" for value in line] for line in values]
    names = [brief_label(method) for method in methods]
    with style.house_style():
        side = label_width(names) + CELL_INCHES * len(methods)
        figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
        mesh = heatmap.draw_cells(axes, values, names, names, heatmap.even_or_not())
        heatmap.write_on_cells(axes, mesh, values, texts, TEXT_SIZE)
        line_between_origins(axes, methods, context)
        axes.set(xlabel="Y", ylabel="X", aspect="equal")
    caption = (
        f"{_heading(context)}: probability that a run of X (row) beats a run of Y (column) on a game, averaged over "
        f"games; methods in the order of their interquartile means. {single_left_out(context)}"
    )
    return Drawing(figure, numbers, caption.rstrip(), atari_defects(context, ordered(context)))


def matrix_table(context: Context) -> Table:
    """R2-T-matrix: the same with intervals, in one triangle: the other is one minus it."""
    methods, numbers = ordered(context), pair_numbers(context)
    entries = {(row.x, row.y): row for row in numbers.itertuples()}
    labels = _labels(context)
    lines = [
        [labels[x], *(_cell(entries[x, y]) if row < column else "" for column, y in enumerate(methods) if column)]
        for row, x in enumerate(methods[:-1])
    ]
    caption = (
        f"{_heading(context)}: probability in % that a run of X (row) beats a run of the method of the column on a "
        f"game, averaged over games, with 95 % intervals ({context.options.repetitions_improvement} repetitions); "
        "methods in the order of their interquartile means. Bold: the interval lies off one half. "
        f"{single_left_out(context)}"
    )
    headers = ["X", *(labels[method] for method in methods[1:])]
    return render(headers, lines, numbers, caption.rstrip(), defects=atari_defects(context, ordered(context)))


def pairs_table(context: Context) -> Table:
    """R2-T-pairs: number of games on which either of two methods is better, by exact tests; its CSV has every game."""
    labels = _labels(context)
    frames = [compare_games(context.suites[ATARI], x, y) for x, y in combinations(ordered(context), 2)]
    lines = [
        [
            *(labels[method] for method in frame.loc[0, ["x", "y"]]),
            f"{frame.probability.mean():.2f}",
            *(wins_and_losses(frame, column) for column in COUNTS.values()),
        ]
        for frame in frames
    ]
    parts = [
        f"{_heading(context)}: every pair of methods, X the one of the higher interquartile mean. P: probability that "
        "a run of X beats a run of Y on a game, averaged over games; then on how many games X is better / worse by the "
        "two-sided Mann-Whitney test: without a correction, at a false-discovery rate of 5 % over the games, and by "
        "Holm's correction.",
        single_left_out(context),
        floors(frames),
    ]
    numbers, caption = pd.concat(frames, ignore_index=True), " ".join(filter(None, parts))
    return render(
        ["X", "Y", "P(X > Y)", *COUNTS],
        lines,
        numbers,
        caption,
        text_columns=2,
        defects=atari_defects(context, ordered(context)),
    )


def _cell(entry: Any) -> Cell:
    text = f"{100 * entry.point:.0f} [{100 * entry.low:.0f}, {100 * entry.high:.0f}]"
    return Cell(text, bold=entry.low > 0.5 or entry.high < 0.5)


def _heading(context: Context) -> str:
    return f"Atari-100k, {len(context.suites[ATARI].tasks)} games"


def _labels(context: Context) -> dict[str, str]:
    """Label of each method with the marks of its defects."""
    defects = atari_defects(context, ordered(context))
    return {method: brief_label(method) + header_marks(method, defects) for method in ordered(context)}


ITEMS = (
    Item("R2-F-matrix", "beyond", "figure", "Probability of improvement of all pairs", matrix_figure, compares=ordered),
    Item("R2-T-pairs", "beyond", "table", "All pairs game by game", pairs_table, compares=ordered),
    Item(
        "R2-T-matrix",
        "beyond",
        "table",
        "Probability of improvement of all pairs in numbers",
        matrix_table,
        compares=ordered,
    ),
)
