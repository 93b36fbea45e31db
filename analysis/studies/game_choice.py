"""How much hangs on the choice of games: one left out at a time, games drawn anew, and the share of each game.

Shapes: M tasks, N runs, R repetitions.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import TITLES
from analysis.draw.tables import Cell, render
from analysis.item import Item
from analysis.stats import bootstrap, metrics
from analysis.stats.interval_methods import METRICS, points
from analysis.stats.metrics import Matrix
from analysis.studies.samples import agents_and_ours, agents_left_out, in_two_lines, is_full

LEFT_OUT = ("mean", "median", "iqm")
SPREAD = 0.11  # of the dots of a row, up and down
ALIKE = 0.02  # changes that differ by less than this share of their range go by one name
REPETITIONS = 5_000
BLOCK = 2**20  # drawn values a block
TOP = 5


def leave_one_game_out(scores: Matrix) -> dict[str, NDArray[np.float64]]:
    """Change of every metric when one game is left out, shape (M,) each, in the order of the games."""
    whole = metrics.points(scores)
    rest = [metrics.points(np.delete(scores, game, axis=1)) for game in range(scores.shape[1])]
    return {name: np.array([each[name] - whole[name] for each in rest]) for name in metrics.METRICS}


def task_replicates(scores: Matrix, generator: np.random.Generator, repetitions: int) -> dict[str, NDArray[np.float64]]:
    """Replicates (R,) of ``METRICS`` with games drawn too: M games with replacement, and for each drawn game N of its
    runs; a game drawn twice gets two draws of runs (rliable's ``task_bootstrap``)."""
    runs, tasks = scores.shape
    parts: list[dict[str, NDArray[np.float64]]] = []
    for size in bootstrap.blocks(repetitions, scores.size, BLOCK):
        games = generator.integers(0, tasks, size=(size, tasks, 1))
        drawn = scores.T[games, generator.integers(0, runs, size=(size, tasks, runs))]
        parts.append({metric: points(metric, drawn) for metric in METRICS})
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}


def mean_shares(scores: Matrix) -> NDArray[np.float64]:
    """Share (M,) of each game in the sum of all games' means; below zero where a random policy plays better."""
    means = metrics.task_means(scores)
    return np.asarray(means / means.sum())


def iqm_shares(scores: Matrix) -> NDArray[np.float64]:
    """Share (M,) of each game in the sum of the values that the IQM keeps; equal values at its ends are kept in the
    order of the games."""
    values = scores.T.ravel()
    games = np.repeat(np.arange(scores.shape[1]), len(scores))
    exists = ~np.isnan(values)
    values, games = values[exists], games[exists]
    drop = metrics.trimmed_count(len(values))
    kept = np.argsort(values, kind="stable")[drop : len(values) - drop]
    sums = np.bincount(games[kept], weights=values[kept], minlength=scores.shape[1])
    return np.asarray(sums / sums.sum())


def effective_games(shares: NDArray[np.float64]) -> float:
    """How many equal games would be as concentrated: 1 / sum of squared shares."""
    return float(1.0 / (shares**2).sum())


def games_figure(context: Context) -> Drawing:
    """A panel for each metric, a row for each agent, a dot for each game left out."""
    suite = context.suites[ATARI]
    rows = agents_and_ours(suite)[::-1]
    parts = []
    with style.house_style():
        size = (9.6, 1.3 + 0.85 * len(rows))
        figure, panels = plt.subplots(1, len(LEFT_OUT), figsize=size, sharey=True, layout="constrained")
        for axes, metric in zip(panels, LEFT_OUT):
            for row, method in enumerate(rows):
                change = leave_one_game_out(suite.scores[method])[metric]
                _draw_changes(axes, row, change, suite.tasks, method)
                parts.append(pd.DataFrame({"method": method, "metric": metric, "game": suite.tasks, "change": change}))
            axes.axvline(0, color=style.faint(), linewidth=1, zorder=0)
            axes.set(title=TITLES[metric], yticks=range(len(rows)), ylim=(-0.5, len(rows) - 0.5))
            axes.set_yticklabels([in_two_lines(method) for method in rows])
            axes.use_sticky_edges = False
            axes.margins(x=0.16)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            style.tidy(axes)
        figure.supxlabel("Change of the human-normalised aggregate without the game", fontsize=10)
    caption = (
        f"One of {len(suite.tasks)} games left out: each dot is the change of the aggregate without one game; the "
        "two largest changes of a row are named, or how many games each make about that change."
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption, context.defects_of(rows, suite.tasks))


def _draw_changes(axes: Axes, row: int, change: NDArray[np.float64], games: tuple[str, ...], method: str) -> None:
    place = np.arange(len(change)) % 3 - 1.0  # apart from each other, always alike
    for group, side in zip(most_influential(change), (1, -1)):
        name = games[group[0]] if len(group) == 1 else f"{len(group)} games"
        align = "bottom" if side > 0 else "top"
        axes.text(change[group].mean(), row + 1.5 * side * SPREAD, name, ha="center", va=align, fontsize=8)
        if len(group) == 1:
            place[group] = side  # next to its name
    marker, colour = "D" if naming.is_ours(method) else "o", style.colour(method)
    axes.plot(change, row + SPREAD * place, marker, color=colour, markersize=4.5, alpha=0.7, markeredgewidth=0)


def most_influential(change: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The games of the largest change, and those of the next: games that change it about alike go together."""
    alike = ALIKE * float(np.ptp(change))
    left = np.arange(len(change))
    groups: list[NDArray[np.int64]] = []
    while len(left) and len(groups) < 2:
        largest = change[left][np.argmax(np.abs(change[left]))]
        near = np.abs(change[left] - largest) <= alike
        groups.append(left[near])
        left = left[~near]
    return groups


def tasks_table(context: Context) -> Table:
    """The usual intervals beside those with games drawn too, and how much wider these are."""
    suite = context.suites[ATARI]
    several = [name for name in agents_and_ours(suite) if is_full(suite.scores[name])]
    repetitions = min(REPETITIONS, context.options.repetitions_aggregates)
    lines: list[list[Cell]] = []
    records, rules = [], []
    for method in several:
        rules.append(len(lines))
        generator = context.options.generator("task bootstrap", method)
        replicates = task_replicates(suite.scores[method], generator, repetitions)
        for metric in METRICS:
            entry = context.aggregates[ATARI][method][metric]
            low, high = (float(value) for value in bootstrap.bounds(replicates[metric]))
            wider = (high - low) / (entry["high"] - entry["low"])
            texts = [
                f"{entry['point']:.3f}",
                f"{entry['low']:.3f} to {entry['high']:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"×{wider:.1f}",
            ]
            lines.append([Cell(naming.shown(method)), Cell(TITLES[metric]), *map(Cell, texts)])
            record = {"method": method, "metric": metric} | entry
            records.append(record | {"low_games_too": low, "high_games_too": high, "wider": wider})
    headers = ["Method", "Metric", "Point", "Runs drawn", "Runs and games drawn", "Width"]
    caption = (
        f"Atari-100k, {len(suite.tasks)} games: 95 % intervals with runs drawn, as in the papers "
        f"({context.options.repetitions_aggregates} repetitions), and with games drawn too ({repetitions}): what could "
        f"be said of other games of this kind.{agents_left_out(context)}"
    )
    numbers = pd.DataFrame(records)
    defects = context.defects_of(several, suite.tasks)
    return render(headers, lines, numbers, caption, text_columns=2, rules=rules[1:], defects=defects)


def shares_table(context: Context) -> Table:
    """What each game contributes to the mean and to the IQM, in per cent, the largest first."""
    suite = context.suites[ATARI]
    methods = agents_and_ours(suite)
    shares = {
        (method, name): function(suite.scores[method])
        for method in methods
        for name, function in (("mean", mean_shares), ("IQM", iqm_shares))
    }
    columns = list(shares)
    matrix = np.stack([shares[column] for column in columns], axis=1)  # (M, columns)
    order = np.argsort(-matrix[:, ::2].mean(axis=1), kind="stable")
    largest = np.argsort(-matrix, axis=0, kind="stable")[:TOP]
    lines = [
        [Cell(suite.tasks[game])]
        + [Cell(f"{100 * matrix[game, column]:.1f}", game in largest[:, column]) for column in range(len(columns))]
        for game in order
    ]
    together = np.take_along_axis(matrix, largest, axis=0).sum(axis=0)
    lines.append([Cell(f"Largest {TOP} together"), *(Cell(f"{100 * value:.1f}") for value in together)])
    effective = [effective_games(shares[column]) for column in columns]
    lines.append([Cell("Effective number of games"), *(Cell(f"{value:.1f}") for value in effective)])
    caption = (
        f"Per cent that each game contributes to the mean and to the IQM (of the values it keeps); bold: the largest "
        f"{TOP}; games in the order of their mean share. Effective number: 1 / sum of squared shares, "
        f"{len(suite.tasks)} if all were equal."
    )
    headers = ["Game", *(f"{naming.shown(method)}, {name}" for method, name in columns)]
    titles = [line[0].text for line in lines]
    values = np.vstack([100 * matrix[order], 100 * together, effective])
    numbers = pd.DataFrame(values, columns=headers[1:])
    numbers.insert(0, "Game", titles)
    defects = context.defects_of(methods, suite.tasks)
    return render(headers, lines, numbers, caption, rules=[len(order)], defects=defects)


ITEMS = (
    Item("R7-T-tasks", "beyond", "table", "Intervals with games drawn too", tasks_table),
    Item("R7-T-shares", "beyond", "table", "What each game contributes to mean and IQM", shares_table),
    Item("R7-F-games", "beyond", "figure", "Aggregates without one of the games", games_figure),
)
