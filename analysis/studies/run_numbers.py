"""How many runs are enough: width of the IQM's interval and stability of the ranking against the number of runs.

Widths are those of a smaller experiment: N different runs of each game (drawn without replacement) and the papers'
percentile interval of them; with all runs it is the published interval. Rankings are those of a new experiment:
N runs of each game drawn with replacement from the published ones, which are taken for all there is. That flatters:
five runs spread less than the runs to come.
"""

from functools import lru_cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.tables import Cell, render
from analysis.item import Item
from analysis.options import Options
from analysis.stats.interval_methods import intervals, points
from analysis.studies.samples import (
    Population,
    agents,
    agents_and_ours,
    draw_independent,
    draw_subsets,
    in_two_lines,
    large,
    left_out,
    populations,
    published,
)

RUNS = (2, 3, 4, 5, 10, 20, 50, 100)
FEW_RUNS = 5
RESAMPLES = 799
SUBSETS = 40  # at five runs; fewer where there are more runs, for they differ less
REDRAWINGS = 1000
TARGET_WIDTH = 0.1


@lru_cache(maxsize=1)
def widths(chosen: tuple[Population, ...], options: Options) -> pd.DataFrame:
    """Mean width of the IQM's 95 % percentile interval: a row for each method and number of runs."""
    records = []
    for population in chosen:
        for runs in [number for number in RUNS if number <= population.runs]:
            generator = options.generator("width", population.method, str(runs))
            subsets, resamples = _width_effort(population, runs, options)
            drawn = draw_subsets(population.scores, generator, subsets, runs)
            ends = intervals(drawn, generator, resamples, ("iqm",))["iqm"]["percentile"]
            width = float((ends[:, 1] - ends[:, 0]).mean())
            records.append({"method": population.method, "runs": runs, "subsets": subsets, "width": width})
    return pd.DataFrame(records)


def _width_effort(population: Population, runs: int, options: Options) -> tuple[int, int]:
    """Subsets and resamples; all runs are one subset, worth more resamples."""
    few = options.repetitions_aggregates
    if runs == population.runs:
        return 1, min(few, 10 * RESAMPLES if runs <= FEW_RUNS else RESAMPLES)
    return max(4, min(SUBSETS, few // 10) * FEW_RUNS // max(runs, FEW_RUNS)), min(few, RESAMPLES)


def width_factor(runs: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Width of a percentile interval against the number of runs: sqrt((N - 1) / N) / sqrt(N), up to a constant."""
    return np.asarray(np.sqrt(np.asarray(runs) - 1.0) / np.asarray(runs))


def runs_for(share: float, runs: int) -> int:
    """The smallest number of runs, at least two, whose percentile interval is at most ``share`` times as wide as that
    of ``runs`` runs: from ``(n - 1) / n^2 <= c`` with ``c = share^2 (N - 1) / N^2``, n = (1 + sqrt(1 - 4 c)) / 2 c.
    """
    constant = min(0.25, (share * float(width_factor(runs))) ** 2)
    return int(np.ceil((1 + np.sqrt(1 - 4 * constant)) / (2 * constant) - 1e-9))


@lru_cache(maxsize=2)
def rankings(chosen: tuple[Population, ...], options: Options) -> pd.DataFrame:
    """How often N runs rank the methods by IQM as all runs do: a row for each N that every method has."""
    truth = np.array([points("iqm", population.scores.T[None])[0] for population in chosen])
    redrawings = min(REDRAWINGS, options.repetitions_aggregates)
    records = []
    for runs in [number for number in RUNS if number <= min(population.runs for population in chosen)]:
        values = np.stack([_redrawn(population, runs, redrawings, options) for population in chosen])
        records.append({"methods": len(chosen), "runs": runs, "redrawings": redrawings} | agreement(truth, values))
    return pd.DataFrame(records)


def _redrawn(population: Population, runs: int, redrawings: int, options: Options) -> NDArray[np.float64]:
    generator = options.generator("ranking", population.method, str(runs))
    return points("iqm", draw_independent(population.scores, generator, redrawings, runs))


def agreement(truth: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    """Of rankings by ``values`` (methods, R) with the ranking by ``truth``: the share of R with the same best method,
    the share with the same order throughout, and the mean of Kendall's tau (pairs in order less pairs out of order)."""
    first, second = np.triu_indices(len(truth), 1)
    signs = np.sign(truth[first] - truth[second])[:, None] * np.sign(values[first] - values[second])
    return {
        "same_best": float((values.argmax(axis=0) == truth.argmax()).mean()),
        "same_order": float((signs > 0).all(axis=0).mean()),
        "kendall_tau": float(signs.mean()),
    }


def groups(context: Context) -> dict[str, tuple[Population, ...]]:
    """Published methods by their number of runs: those with five (or a few), and those with a hundred."""
    many = large(context)
    names = [each.method for each in many]
    few = [name for name in published(context) if name not in names]
    return {"few": populations(context.suites[ATARI], few), "many": many}


def shown_widths(context: Context) -> tuple[Population, ...]:
    """The methods whose widths are shown: the papers' agents, our complete runs, and those with a hundred runs."""
    return (*agents(context.suites[ATARI]), *large(context))


def _left_out(context: Context) -> str:
    """Who is neither among the widths nor ranked: contributed methods, and those without several runs of each game."""
    suite = context.suites[ATARI]
    shown = {each.method for each in (*shown_widths(context), *groups(context)["few"])}
    candidates = dict.fromkeys([*published(context), *context.contributed, *agents_and_ours(suite)])
    return left_out(context, [name for name in candidates if name in suite.scores and name not in shown])


def runs_figure(context: Context) -> Drawing:
    """Left widths, right how often the ranking stays."""
    table = widths(shown_widths(context), context.options)
    ranks = shown_rankings(context)
    with style.house_style():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.6, 5.0 + 0.12 * len(shown_widths(context))), layout="constrained"
        )
        _draw_widths(left, table)
        _draw_rankings(right, ranks)
        for axes in (left, right):
            _axis_of_runs(axes)
            axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    numbers = pd.concat([table, *ranks.values()], ignore_index=True)
    caption = (
        f"Left: dots are the mean width of the IQM's 95 % percentile interval of N of the published runs per game "
        f"({_subsets_said(table)}), the dashed line falls as √(N − 1) / N. Right: of {_redrawings_said(ranks)} "
        "experiments with N runs per game drawn from the published ones with replacement, the share that has the same "
        "best method (dots) or whole order (squares) by IQM as all runs, and the mean of Kendall's τ (triangles)."
        f"{_left_out(context)}"
    )
    defects = context.defects_of([each.method for each in shown_widths(context)], context.suites[ATARI].tasks)
    return Drawing(figure, numbers, caption, defects)


def shown_rankings(context: Context) -> dict[str, pd.DataFrame]:
    """``rankings`` of the two groups."""
    return {name: rankings(chosen, context.options) for name, chosen in groups(context).items() if len(chosen) > 1}


def _subsets_said(table: pd.DataFrame) -> str:
    return f"{table.subsets.min()} to {table.subsets.max()} subsets a dot"


def _redrawings_said(ranks: dict[str, pd.DataFrame]) -> int:
    return max(int(each.redrawings.max()) for each in ranks.values())


def _draw_widths(axes: Axes, table: pd.DataFrame) -> None:
    for method, rows in table.groupby("method", sort=False):
        line = "--" if naming.is_ours(str(method)) else "-"
        axes.plot(
            rows.runs, rows.width, line, marker="o", markersize=4, color=style.colour(str(method)),
            label=in_two_lines(str(method)),
        )  # fmt: skip
    grid = np.geomspace(RUNS[0], RUNS[-1], 50)
    level = float(table[table.runs == FEW_RUNS].width.median())
    law = width_factor(grid) / width_factor(FEW_RUNS)
    axes.plot(grid, level * law, "--", color=style.faint(), linewidth=1.2, zorder=3, label="√(N − 1) / N")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([0.02, 0.05, 0.1, 0.2])
    axes.set(xlabel="Runs per game N", ylabel="Width of the 95 % interval of the IQM")


def _draw_rankings(axes: Axes, ranks: dict[str, pd.DataFrame]) -> None:
    looks = {"same_best": ("o", "best"), "kendall_tau": ("^", "Kendall's τ"), "same_order": ("s", "whole order")}
    for table, colour in zip(ranks.values(), ("#4477AA", "#EE6677")):
        for column, (marker, name) in looks.items():
            label = f"{table.methods.iloc[0]} methods, {name}"
            axes.plot(table.runs, table[column], color=colour, marker=marker, markersize=5, label=label)
    axes.set(xlabel="Runs per game N", ylabel="Agreement with the order by all runs", ylim=(-0.03, 1.03))


def _axis_of_runs(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xticks(RUNS, [str(number) for number in RUNS])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    style.tidy(axes, grid="both")


def runs_table(context: Context) -> Table:
    """Widths and stability of the ranking under their number of runs, and the runs that a narrower interval takes."""
    table = widths(shown_widths(context), context.options)
    ranks = shown_rankings(context)
    lines = [
        _width_line(str(method), rows.set_index("runs").width) for method, rows in table.groupby("method", sort=False)
    ]
    rules = []
    for each in ranks.values():
        rules.append(len(lines))
        lines += _ranking_lines(each.set_index("runs"))
    narrower = [f"Runs for width {TARGET_WIDTH}", "Runs for half the width"]
    headers = ["IQM of", *(f"N = {number}" for number in RUNS), *narrower]
    half = runs_for(0.5, FEW_RUNS)
    caption = (
        f"To halve the percentile interval of {FEW_RUNS} runs takes {half} runs. Above: mean width of the IQM's 95 % "
        f"percentile interval of N of the published runs per game ({_subsets_said(table)}), and the runs needed, "
        f"reckoned by √(N − 1) / N from the width of all. Below: of {_redrawings_said(ranks)} experiments with N runs "
        "per game drawn from the published ones with replacement, the per cent that has the same best method or whole "
        f"order as all runs, and the mean of Kendall's tau.{_left_out(context)}"
    )
    numbers = pd.concat([table, *ranks.values()], ignore_index=True)
    defects = context.defects_of([each.method for each in shown_widths(context)], context.suites[ATARI].tasks)
    return render(headers, lines, numbers, caption, rules=rules, defects=defects)


def _width_line(method: str, width: pd.Series) -> list[Cell]:
    cells = [Cell(f"{width[number]:.3f}" if number in width.index else "") for number in RUNS]
    runs = int(width.index.max())
    needed = [runs_for(TARGET_WIDTH / float(width[runs]), runs), runs_for(0.5, runs)]
    return [Cell(naming.shown(method)), *cells, *(Cell(str(number)) for number in needed)]


def _ranking_lines(ranks: pd.DataFrame) -> list[list[Cell]]:
    name = f"{ranks.methods.iloc[0]} methods: "
    titles = {"same_best": "same best, %", "same_order": "same order, %", "kendall_tau": "Kendall's tau"}
    lines = []
    for column, title in titles.items():
        texts = [f"{value:.2f}" if column == "kendall_tau" else f"{100 * value:.0f}" for value in ranks[column]]
        cells = dict(zip(ranks.index, texts))
        lines.append([Cell(name + title), *(Cell(cells.get(number, "")) for number in RUNS), Cell(""), Cell("")])
    return lines


ITEMS = (
    Item("R6-T-runs", "beyond", "table", "How many runs are enough", runs_table),
    Item("R6-F-runs", "beyond", "figure", "Width of intervals and ranking against the number of runs", runs_figure),
)
