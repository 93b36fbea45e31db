"""R6: how many runs are enough: width of the IQM's interval and stability of the ranking against the number of runs.

Widths are those of a smaller experiment: N different runs of each game (drawn without replacement) and the papers'
percentile interval of them; with all runs it is the published interval. Rankings are those of a new experiment:
N runs of each game drawn with replacement from the published ones, which are taken for the population. That is
optimistic: five runs spread less than the runs to come.
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
from analysis.draw.tables import render
from analysis.item import Item
from analysis.options import Options
from analysis.stats.interval_methods import intervals
from analysis.stats.metrics import TIE
from analysis.stats.samples import draw_subsets, draw_with_replacement, points
from analysis.studies import methods
from analysis.studies.methods import Population

RUNS = (2, 3, 4, 5, 10, 20, 50, 100)
FEW_RUNS = 5
RESAMPLES = 799
SUBSETS = 40  # at five runs; fewer where there are more runs, as they differ less
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
    """Width of a percentile interval of N runs, sqrt((N - 1) / N) / sqrt(N), up to a constant."""
    return np.asarray(np.sqrt(np.asarray(runs) - 1.0) / np.asarray(runs))


def runs_for(share: float, runs: int) -> int:
    """The smallest number of runs, at least two, whose percentile interval is at most ``share`` times as wide as that
    of ``runs`` runs: from ``(n - 1) / n^2 <= c`` with ``c = share^2 (N - 1) / N^2``, n = (1 + sqrt(1 - 4 c)) / 2 c.
    """
    constant = min(0.25, (share * float(width_factor(runs))) ** 2)
    return int(np.ceil((1 + np.sqrt(1 - 4 * constant)) / (2 * constant) - 1e-9))


@lru_cache(maxsize=2)
def rankings(chosen: tuple[Population, ...], options: Options) -> pd.DataFrame:
    """Agreement of the ranking by the IQM of N runs with that of all runs: a row for each N that every method has."""
    truth = np.array([points("iqm", population.scores.T[None])[0] for population in chosen])
    redrawings = min(REDRAWINGS, options.repetitions_aggregates)

    def redrawn(population: Population, runs: int) -> NDArray[np.float64]:
        generator = options.generator("ranking", population.method, str(runs))
        return points("iqm", draw_with_replacement(population.scores, generator, redrawings, runs))

    return pd.DataFrame(
        {"methods": len(chosen), "runs": runs, "redrawings": redrawings}
        | agreement(truth, np.stack([redrawn(population, runs) for population in chosen]))
        for runs in RUNS
        if runs <= min(population.runs for population in chosen)
    )


def agreement(truth: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    """Agreement of R rankings by ``values`` (methods, R) with the ranking by ``truth``: the share with the same best
    method, the share with the same order throughout, and the mean of Kendall's tau."""
    first, second = np.triu_indices(len(truth), 1)
    signs = np.sign(truth[first] - truth[second])[:, None] * np.sign(values[first] - values[second])
    return {
        "same_best": float((values.argmax(axis=0) == truth.argmax()).mean()),
        "same_order": float((signs > 0).all(axis=0).mean()),
        "kendall_tau": float(signs.mean()),
    }


def groups(context: Context) -> list[tuple[Population, ...]]:
    """Published methods by their number of runs: those with a few, and those with a hundred."""
    many = methods.large(context)
    few = [name for name in methods.published(context) if name not in {each.method for each in many}]
    return [methods.populations(context.suites[ATARI], few), many]


def shown_widths(context: Context) -> tuple[Population, ...]:
    """The methods whose widths are shown: the papers' agents, our complete runs, and those with a hundred runs."""
    return (*methods.agents(context.suites[ATARI]), *methods.large(context))


def shown_rankings(context: Context) -> list[pd.DataFrame]:
    """``rankings`` of the groups."""
    return [rankings(chosen, context.options) for chosen in groups(context) if len(chosen) > 1]


def _left_out(context: Context) -> str:
    """The end of a caption that names contributed methods, and those without several runs of each game."""
    suite = context.suites[ATARI]
    shown = {each.method for each in (*shown_widths(context), *groups(context)[0])}
    candidates = [*methods.published(context), *context.contributed, *methods.agents_and_ours(suite)]
    chosen = [name for name in dict.fromkeys(candidates) if name in suite.scores and name not in shown]
    return methods.left_out(context, chosen)


def runs_figure(context: Context) -> Drawing:
    """R6-F-runs: widths on the left, stability of the ranking on the right."""
    table, ranks = widths(shown_widths(context), context.options), shown_rankings(context)
    with style.house_style():
        size = (9.6, 5.0 + 0.12 * len(shown_widths(context)))
        figure, (left, right) = plt.subplots(1, 2, figsize=size, layout="constrained")
        _draw_widths(left, table)
        _draw_rankings(right, ranks)
        for axes in (left, right):
            methods.logarithmic_axis(axes, RUNS)
            style.tidy(axes, grid="both")
            axes.legend(
                frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=style.across(2, 3.8)
            )
    caption = (
        f"Left: dots are the mean width of the IQM's 95 % percentile interval of N of the published runs per game "
        f"({_subsets(table)}), the dashed line falls as √(N − 1) / N. Right: of {_redrawings(ranks)} "
        "experiments with N runs per game drawn from the published ones with replacement, the share that has the same "
        "best method (dots) or whole order (squares) by IQM as all runs, and the mean of Kendall's τ (triangles)."
        f"{_left_out(context)}"
    )
    defects = methods.atari_defects(context, table.method.unique())
    return Drawing(figure, pd.concat([table, *ranks], ignore_index=True), caption, defects)


def _subsets(table: pd.DataFrame) -> str:
    return f"{table.subsets.min()} to {table.subsets.max()} subsets a dot"


def _redrawings(ranks: list[pd.DataFrame]) -> int:
    return max(int(each.redrawings.max()) for each in ranks)


def _draw_widths(axes: Axes, table: pd.DataFrame) -> None:
    for method, rows in table.groupby("method", sort=False):
        name = str(method)
        line, label = "o--" if naming.is_ours(name) else "o-", methods.two_line_label(name)
        axes.plot(rows.runs, rows.width, line, markersize=4, color=style.colour(name), label=label)
    grid = np.geomspace(RUNS[0], RUNS[-1], 50)
    level = float(table[table.runs == FEW_RUNS].width.median())
    law = width_factor(grid) / width_factor(FEW_RUNS)
    axes.plot(grid, level * law, "--", color=style.faint(), linewidth=1.2, zorder=3, label="√(N − 1) / N")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([0.02, 0.05, 0.1, 0.2])
    axes.set(xlabel="Runs per game N", ylabel="Width of the 95 % interval of the IQM")


def _draw_rankings(axes: Axes, ranks: list[pd.DataFrame]) -> None:
    looks = {"same_best": ("o", "best"), "kendall_tau": ("^", "Kendall's τ"), "same_order": ("s", "whole order")}
    for table, colour in zip(ranks, ("#4477AA", "#EE6677")):
        for column, (marker, name) in looks.items():
            label = f"{table.methods.iloc[0]} methods, {name}"
            axes.plot(table.runs, table[column], color=colour, marker=marker, markersize=5, label=label)
    axes.set(xlabel="Runs per game N", ylabel="Agreement with the order by all runs", ylim=(-0.03, 1.03))


def runs_table(context: Context) -> Table:
    """R6-T-runs: widths and stability of the ranking by number of runs, and the runs that a narrower interval takes."""
    table, ranks = widths(shown_widths(context), context.options), shown_rankings(context)
    lines = [
        _width_line(str(method), rows.set_index("runs").width) for method, rows in table.groupby("method", sort=False)
    ]
    rules = []
    for each in ranks:
        rules.append(len(lines))
        lines += _ranking_lines(each.set_index("runs"))
    narrower = [f"Runs for width {TARGET_WIDTH}", "Runs for half the width"]
    headers = ["IQM of", *(f"N = {number}" for number in RUNS), *narrower]
    caption = (
        f"To halve the percentile interval of {FEW_RUNS} runs takes {runs_for(0.5, FEW_RUNS)} runs. Above: mean width "
        f"of the IQM's 95 % percentile interval of N of the published runs per game ({_subsets(table)}), and the runs "
        f"needed, reckoned by √(N − 1) / N from the width of all. Below: of {_redrawings(ranks)} experiments with N "
        "runs per game drawn from the published ones with replacement, the per cent that has the same best method or "
        f"whole order as all runs, and the mean of Kendall's tau.{_left_out(context)}"
    )
    numbers = pd.concat([table, *ranks], ignore_index=True)
    defects = methods.atari_defects(context, table.method.unique())
    return render(headers, lines, numbers, caption, rules=rules, defects=defects)


def _width_line(method: str, width: pd.Series) -> list[str]:
    runs = int(width.index.max())
    share = TARGET_WIDTH / max(float(width[runs]), TIE)
    needed = [runs_for(share, runs), runs_for(0.5, runs)]
    texts = [f"{width[number]:.3f}" if number in width.index else "" for number in RUNS]
    return [naming.shown(method), *texts, *map(str, needed)]


def _ranking_lines(ranks: pd.DataFrame) -> list[list[str]]:
    lines = []
    for column, title, scale, digits in (
        ("same_best", "same best, %", 100, 0),
        ("same_order", "same order, %", 100, 0),
        ("kendall_tau", "Kendall's tau", 1, 2),
    ):
        texts = [f"{scale * ranks[column][number]:.{digits}f}" if number in ranks.index else "" for number in RUNS]
        lines.append([f"{ranks.methods.iloc[0]} methods: {title}", *texts, "", ""])
    return lines


ITEMS = (
    Item("R6-T-runs", "beyond", "table", "How many runs are enough", runs_table),
    Item("R6-F-runs", "beyond", "figure", "Width of intervals and ranking against the number of runs", runs_figure),
)
