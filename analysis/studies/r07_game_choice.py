"""R7: influence of the choice of games: one left out at a time, games resampled, and the share of each game."""

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
from analysis.draw.tables import Cell, number_text, render
from analysis.item import Item
from analysis.stats import bootstrap, task_influence
from analysis.stats.metrics import wider
from analysis.stats.samples import METRICS, task_replicates
from analysis.studies.methods import agents, agents_and_ours, agents_left_out, two_line_label

LEFT_OUT = ("mean", "median", "iqm")
SPREAD = 0.11  # of the dots of a row, up and down
ALIKE = 0.02  # changes that differ by less than this share of their range share a name
REPETITIONS = 5_000
TOP = 5


def games_figure(context: Context) -> Drawing:
    """R7-F-games: a panel for each metric, a row for each agent, a dot for each game left out."""
    suite = context.suites[ATARI]
    rows = agents_and_ours(suite)[::-1]
    parts = []
    with style.house_style():
        size = (9.6, 1.3 + 0.85 * len(rows))
        figure, panels = plt.subplots(1, len(LEFT_OUT), figsize=size, sharey=True, layout="constrained")
        for axes, metric in zip(panels, LEFT_OUT):
            for row, method in enumerate(rows):
                change = task_influence.leave_one_task_out(suite.scores[method])[metric]
                _draw_changes(axes, row, change, suite.tasks, method)
                parts.append(pd.DataFrame({"method": method, "metric": metric, "game": suite.tasks, "change": change}))
            axes.axvline(0, color=style.faint(), linewidth=1, zorder=0)
            axes.set(title=TITLES[metric], yticks=range(len(rows)), ylim=(-0.5, len(rows) - 0.5))
            axes.set_yticklabels([two_line_label(method) for method in rows])
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
    place = np.arange(len(change)) % 3 - 1.0  # apart from each other, the same in every figure
    for group, side in zip(task_influence.most_influential(change, ALIKE), (1, -1)):
        name = games[group[0]] if len(group) == 1 else f"{len(group)} games"
        align = "bottom" if side > 0 else "top"
        axes.text(change[group].mean(), row + 1.5 * side * SPREAD, name, ha="center", va=align, fontsize=8)
        if len(group) == 1:
            place[group] = side  # next to its name
    marker, colour = "D" if naming.is_ours(method) else "o", style.colour(method)
    axes.plot(change, row + SPREAD * place, marker, color=colour, markersize=4.5, alpha=0.7, markeredgewidth=0)


def tasks_table(context: Context) -> Table:
    """R7-T-tasks: the usual intervals beside those with games resampled too, and how much wider these are."""
    suite = context.suites[ATARI]
    repetitions = min(REPETITIONS, context.options.repetitions_aggregates)
    lines, records = [], []
    for population in agents(suite):
        method = population.method
        replicates = task_replicates(
            suite.scores[method], context.options.generator("task bootstrap", method), repetitions
        )
        for metric in METRICS:
            entry = context.aggregates[ATARI][method][metric]
            low, high = (float(value) for value in bootstrap.bounds(replicates[metric]))
            ratio = wider((low, high), (entry["low"], entry["high"]))
            usual = [f"{entry['point']:.3f}", f"{entry['low']:.3f} to {entry['high']:.3f}"]
            drawn_too = f"{low:.3f} to {high:.3f}", number_text(ratio, "×{:.1f}")
            lines.append([naming.shown(method), TITLES[metric], *usual, *drawn_too])
            record = {"method": method, "metric": metric} | entry
            records.append(record | {"low_games_too": low, "high_games_too": high, "wider": ratio})
    headers = ["Method", "Metric", "Point", "Runs drawn", "Runs and games drawn", "Width"]
    caption = (
        f"Atari-100k, {len(suite.tasks)} games: 95 % intervals with runs drawn, as in the papers "
        f"({context.options.repetitions_aggregates} repetitions), and with games drawn too ({repetitions}): what could "
        f"be said of other games of this kind.{agents_left_out(context)}"
    )
    defects = context.defects_of([population.method for population in agents(suite)], suite.tasks)
    rules = range(len(METRICS), len(lines), len(METRICS))
    return render(headers, lines, pd.DataFrame(records), caption, text_columns=2, rules=rules, defects=defects)


def shares_table(context: Context) -> Table:
    """R7-T-shares: contribution of each game to the mean and to the IQM in per cent, the largest first."""
    suite = context.suites[ATARI]
    methods = agents_and_ours(suite)
    shares = {
        f"{naming.shown(method)}, {name}": function(suite.scores[method])
        for method in methods
        for name, function in (("mean", task_influence.mean_shares), ("IQM", task_influence.iqm_shares))
    }
    matrix = np.stack([*shares.values()], axis=1)  # (M, columns)
    order = np.argsort(-matrix[:, ::2].mean(axis=1), kind="stable")
    largest = np.argsort(-matrix, axis=0, kind="stable")[:TOP]
    together = 100 * np.take_along_axis(matrix, largest, axis=0).sum(axis=0)
    effective = [task_influence.effective_number(column) for column in shares.values()]
    values = np.vstack([100 * matrix[order], together, effective])
    titles = [*(suite.tasks[game] for game in order), f"Largest {TOP} together", "Effective number of games"]
    lines = [
        [title, *(Cell(f"{value:.1f}", game in largest[:, column]) for column, value in enumerate(line))]
        for title, game, line in zip(titles, [*order, -1, -1], values)
    ]
    caption = (
        f"Per cent that each game contributes to the mean and to the IQM (of the values it keeps); bold: the largest "
        f"{TOP}; games in the order of their mean share. Effective number: 1 / sum of squared shares, "
        f"{len(suite.tasks)} if all were equal."
    )
    numbers = pd.DataFrame(values, columns=[*shares])
    numbers.insert(0, "Game", titles)
    defects = context.defects_of(methods, suite.tasks)
    return render([*numbers], lines, numbers, caption, rules=[len(order)], defects=defects)


ITEMS = (
    Item("R7-T-tasks", "beyond", "table", "Intervals with games drawn too", tasks_table),
    Item("R7-T-shares", "beyond", "table", "What each game contributes to mean and IQM", shares_table),
    Item("R7-F-games", "beyond", "figure", "Aggregates without one of the games", games_figure),
)
