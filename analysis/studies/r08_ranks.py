"""R8: the ranks of methods, which do not depend on the scale of human-normalised scores.

Two ranks, both 1 for the best and averaged over ties: that of a method's interquartile mean in a bootstrap replicate,
and the mean over games of its rank by the mean score of each game. Published methods are ranked among themselves;
complete runs of ours and contributed methods are ranked one at a time, among the published ones without the one of
the same method.

Resampling adds noise to that of the runs, which pulls ranks towards the middle: percentiles of mean ranks are biased.
Where the true means and deviations are those of the published scores, 95 % intervals hold the true mean rank 82 times
in 100, 63 for M3 and 28 for CURL, the first and the last. With a correction of the bias it is 72 to 86, but 81 on
average, so the caption warns instead.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw import heatmap, style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import draw_points, label_width
from analysis.draw.tables import header_marks, render
from analysis.item import Item
from analysis.stats import bootstrap, metrics
from analysis.stats.metrics import Matrix
from analysis.stats.ranks import rank_shares, ranks, task_mean_replicates
from analysis.studies.methods import (
    atari_defects,
    atari_methods,
    brief_label,
    line_between_origins,
    origin,
    single_left_out,
)
from analysis.studies.r03_differences import replicates

CELL_INCHES, ROW_INCHES, TEXT_SIZE = 0.43, 0.33, 8.0

Values = NDArray[np.float64]


def fields(context: Context) -> list[tuple[list[str], list[str]]]:
    """Groups of methods ranked among each other, each with those of them whose ranks count."""
    several = [name for name, matrix in context.suites[ATARI].scores.items() if len(matrix) > 1]
    if choice := context.choice.among(several):
        kept = choice.kept(several)
        return [(kept, kept)]
    published = [name for name in several if origin(name, context) == 0]
    return [(published, published)] + [
        ([name, *(other for other in published if other != naming.twin(name))], [name])
        for name in several
        if name not in published
    ]


def rank_statistics(context: Context) -> pd.DataFrame:
    """A row for each method by mean rank, published first: both ranks with intervals, and the share of each rank."""
    scores, options = context.suites[ATARI].scores, context.options
    names = [name for _, counted in fields(context) for name in counted]
    iqms = {name: replicates(context, ATARI, name)["iqm"] for name in names}
    means = {
        name: task_mean_replicates(
            scores[name], options.generator("means of games", name), options.repetitions_profiles
        )
        for name in names
    }
    parts = []
    for field, counted in fields(context):
        matrices = [scores[name] for name in field]
        frame = pd.DataFrame({"method": field, "runs": [len(matrix) for matrix in matrices], "field": len(field)})
        ranked = _by_iqm(matrices, [iqms[name] for name in field]) | _by_game(matrices, [means[name] for name in field])
        parts.append(frame.assign(**ranked)[frame.method.isin(counted)])
    numbers = pd.concat(parts, ignore_index=True)
    origins = numbers.method.map(lambda name: origin(name, context))
    order = np.lexsort((numbers.rank_iqm_mean, origins))
    return numbers.iloc[order].reset_index(drop=True)


def _by_iqm(scores: Sequence[Matrix], drawn: Sequence[Values]) -> dict[str, Values | int]:
    """Rank by IQM of the n methods, mean and bounds of that of the replicates, and the share of each rank."""
    repetitions = min(map(len, drawn))
    stacked = np.stack([values[:repetitions] for values in drawn], axis=-1)
    replicated = ranks(stacked)
    low, high = bootstrap.bounds(replicated)
    return {
        "rank_iqm": ranks(np.array([metrics.interquartile_mean(matrix) for matrix in scores])),
        "rank_iqm_mean": np.array([column.mean() for column in replicated.T]),
        "rank_iqm_low": low,
        "rank_iqm_high": high,
        "repetitions_iqm": repetitions,
        **{f"share_rank_{number}": shares for number, shares in enumerate(rank_shares(stacked).T, start=1)},
    }


def _by_game(scores: Sequence[Matrix], drawn: Sequence[Values]) -> dict[str, Values]:
    """Mean over games of the rank of the n methods by mean score, with bounds."""
    means = np.stack([metrics.task_means(matrix) for matrix in scores], axis=-1)  # (M, n)
    low, high = bootstrap.bounds(ranks(np.stack(drawn, axis=-1)).mean(axis=1))
    return {"rank_games": ranks(means).mean(axis=0), "rank_games_low": low, "rank_games_high": high}


def ranks_figure(context: Context) -> Drawing:
    """R8-F-ranks: a heat map of the share of each rank, and beside it the mean rank over games."""
    numbers = rank_statistics(context)
    names = [brief_label(method) for method in numbers.method]
    shares = numbers.filter(like="share_rank_").fillna(0.0).to_numpy(dtype=np.float64)
    with style.house_style():
        size = (label_width(names) + CELL_INCHES * max(8, shares.shape[1]) + 2.4, 0.9 + ROW_INCHES * len(names))
        figure, (left, right) = plt.subplots(
            1, 2, figsize=size, layout="constrained", sharey=True, gridspec_kw={"width_ratios": (3.0, 1.0)}
        )
        mesh = heatmap.draw_cells(left, shares, names, [str(n + 1) for n in range(shares.shape[1])], heatmap.growing())
        heatmap.write_on_cells(left, mesh, shares, [[_percent(share) for share in line] for line in shares], TEXT_SIZE)
        left.tick_params(axis="x", rotation=0)
        left.set_xlabel("Rank by interquartile mean (cells: % of replicates)")
        _draw_mean_ranks(right, numbers)
        line_between_origins(left, list(numbers.method), context)
        left.set_ylim(len(names), 0)  # first method on top; the panels share this axis
    start = (
        "how often a method has each rank by interquartile mean in {replicates}; right: dots are its mean rank over "
        "games by mean score, lines 95 % intervals ({repetitions} repetitions)."
    )
    return Drawing(figure, numbers, _caption(context, numbers, start), atari_defects(context, numbers.method))


def _percent(share: float) -> str:
    """Whole per cent; an empty text for 0."""
    if share == 0.0:
        return ""
    rounded = f"{100 * share:.0f}"
    return "<1" if rounded == "0" else rounded


def _draw_mean_ranks(axes: Axes, numbers: pd.DataFrame) -> None:
    places = [row + 0.5 for row in range(len(numbers))]
    colours = [style.colour(method) for method in numbers.method]
    bounds, trusted = (numbers.rank_games_low, numbers.rank_games_high), numbers.runs >= bootstrap.TRUSTED_RUNS
    draw_points(axes, places, numbers.rank_games, *bounds, colours, trusted)
    axes.set_xlabel("Mean rank over games")
    style.bar_panel(axes)


def ranks_table(context: Context) -> Table:
    """R8-T-ranks: mean ranks with intervals and the probability of being first."""
    numbers = rank_statistics(context)
    defects = atari_defects(context, numbers.method)
    lines = [
        [
            brief_label(row.method) + header_marks(row.method, defects),
            str(row.runs),
            f"{row.rank_iqm:g}",
            f"{row.rank_iqm_mean:.2f} [{row.rank_iqm_low:g}, {row.rank_iqm_high:g}]",
            f"{row.share_rank_1:.3f}",
            f"{row.rank_games:.2f} [{row.rank_games_low:.2f}, {row.rank_games_high:.2f}]",
        ]
        for row in numbers.itertuples()
    ]
    headers = ["Method", "Runs", "Rank by IQM", "Mean over replicates", "P(first)", "Mean rank over games"]
    start = (
        "rank by interquartile mean, its mean and 95 % interval in {replicates} and how often it is the first; "
        "mean rank over games by mean score with 95 % interval ({repetitions} repetitions)."
    )
    return render(headers, lines, numbers, _caption(context, numbers, start), defects=defects)


def _caption(context: Context, numbers: pd.DataFrame, start: str) -> str:
    """Caption with ``start`` filled in, and the methods that are left out or ranked one at a time."""
    replicated = f"{numbers.repetitions_iqm.min()} bootstrap replicates"
    start = start.format(replicates=replicated, repetitions=context.options.repetitions_profiles)
    parts = [
        f"Atari-100k, {len(context.suites[ATARI].tasks)} games: {start} 1 is the best.",
        "These intervals are percentiles of the replicates and biased towards the middle, most at either end of the "
        "list: resampling adds noise, and noise makes ranks alike.",
        single_left_out(context),
        "Our runs and contributed methods are ranked one at a time, ours in the place of the published method."
        if any(origin(method, context) for method in numbers.method)
        else "",
    ]
    return " ".join(filter(None, parts))


ITEMS = (
    Item("R8-F-ranks", "beyond", "figure", "Ranks of the methods", ranks_figure, compares=atari_methods),
    Item("R8-T-ranks", "beyond", "table", "Ranks of the methods in numbers", ranks_table, compares=atari_methods),
)
