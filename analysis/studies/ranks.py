"""R8: the ranks of methods, which do not depend on the scale of human-normalised scores.

Two ranks, both 1 for the best and averaged over ties: that of a method's interquartile mean in a bootstrap replicate,
and the mean over games of its rank by the mean score of each game. Published methods are ranked among themselves;
complete runs of ours and contributed methods are ranked one at a time, among the published ones without the one of
the same method.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.published import ATARI
from analysis.draw import heatmap, style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import label_width
from analysis.draw.tables import Cell, header_marks, render
from analysis.item import Item
from analysis.stats import bootstrap, metrics
from analysis.stats.metrics import Matrix
from analysis.studies.differences import replicates
from analysis.studies.games import brief_label, columns
from analysis.studies.pairs import line_between_origins, origin

CELL_INCHES, ROW_INCHES, TEXT_SIZE = 0.43, 0.33, 8.0

Values = NDArray[np.float64]


def ranks(values: Values) -> Values:
    """Ranks along the last axis, 1 for the largest, averaged over ties: those above, and half of the tied others."""
    above, tied = _above_and_tied(values)
    return np.asarray(1.0 + above + 0.5 * (tied - 1.0))


def rank_shares(values: Values) -> Values:
    """Share of the replicates (R, n) in which each method has each rank: (n, n); ties share their ranks equally."""
    above, tied = _above_and_tied(values)
    places = np.arange(values.shape[-1])[:, None, None]
    return np.asarray((((above <= places) & (places < above + tied)) / tied).mean(axis=1).T)


def _above_and_tied(values: Values) -> tuple[Values, Values]:
    """How many others are larger, and how many are equal, itself included."""
    above, tied = np.zeros(values.shape), np.zeros(values.shape)
    for other in np.moveaxis(values, -1, 0):
        above += other[..., None] > values
        tied += other[..., None] == values
    return above, tied


def task_mean_replicates(scores: Matrix, generator: np.random.Generator, repetitions: int) -> Values:
    """Means of every task over resampled runs, shape (R, M)."""
    means = [
        column[generator.integers(0, len(column), size=(repetitions, len(column)))].mean(axis=1)
        for column in columns(scores)
    ]
    return np.stack(means, axis=1)


def fields(context: Context) -> list[tuple[list[str], list[str]]]:
    """Who is ranked among whom: (methods of the field, those of them whose ranks count)."""
    scores = context.suites[ATARI].scores
    several = [name for name, matrix in scores.items() if len(matrix) > 1]
    published = [name for name in several if origin(name, context) == 0]
    found = [(published, published)]
    for name in several:
        if name not in published:
            found.append(([name, *(other for other in published if other != naming.base_method(name))], [name]))
    return found


def rank_statistics(context: Context) -> pd.DataFrame:
    """A row for each method by mean rank, published first: both ranks with intervals, and how often each is had."""
    names = [name for _, counted in fields(context) for name in counted]
    iqms = {name: replicates(context, ATARI, name)["iqm"] for name in names}
    games = {name: _game_means(context, name) for name in names}
    suite = context.suites[ATARI]
    records = []
    for field, counted in fields(context):
        by_iqm = _of_iqm([suite.scores[name] for name in field], [iqms[name] for name in field])
        by_game = _of_games([suite.scores[name] for name in field], [games[name] for name in field])
        for place, name in enumerate(field):
            if name in counted:
                runs = len(suite.scores[name])
                records.append({"method": name, "runs": runs, "field": len(field), **by_iqm[place], **by_game[place]})
    records.sort(key=lambda record: (origin(record["method"], context), record["rank_iqm_mean"]))
    return pd.DataFrame(records)


def _game_means(context: Context, method: str) -> Values:
    generator = context.options.generator("means of games", method)
    return task_mean_replicates(context.suites[ATARI].scores[method], generator, context.options.repetitions_profiles)


def _of_iqm(scores: Sequence[Matrix], drawn: Sequence[Values]) -> list[dict[str, Any]]:
    """For each method of a field: its rank by IQM, the mean and bounds of that of the replicates, and their shares."""
    repetitions = min(map(len, drawn))
    stacked = np.stack([values[:repetitions] for values in drawn], axis=-1)
    points = ranks(np.array([metrics.points(matrix)["iqm"] for matrix in scores]))
    replicated, shares = ranks(stacked), rank_shares(stacked)
    bounds = bootstrap.bounds(replicated)
    return [
        {
            "rank_iqm": points[place],
            "rank_iqm_mean": replicated[:, place].mean(),
            "rank_iqm_low": bounds[0, place],
            "rank_iqm_high": bounds[1, place],
            "repetitions_iqm": repetitions,
            **{f"share_rank_{number}": share for number, share in enumerate(shares[place], start=1)},
        }
        for place in range(len(scores))
    ]


def _of_games(scores: Sequence[Matrix], drawn: Sequence[Values]) -> list[dict[str, Any]]:
    """For each method of a field: the mean over games of its rank by the games' means, with bounds."""
    means = np.stack([metrics.task_means(matrix) for matrix in scores], axis=-1)  # (M, n)
    points = ranks(means).mean(axis=0)
    bounds = bootstrap.bounds(ranks(np.stack(drawn, axis=-1)).mean(axis=1))
    return [
        {"rank_games": points[place], "rank_games_low": bounds[0, place], "rank_games_high": bounds[1, place]}
        for place in range(len(scores))
    ]


def ranks_figure(context: Context) -> Drawing:
    """R8-F-ranks: a heat map of the share of each rank, and beside it the mean rank over games."""
    numbers = rank_statistics(context)
    names = [brief_label(method) for method in numbers.method]
    shares = _shares(numbers)
    with style.house_style():
        size = (label_width(names) + CELL_INCHES * shares.shape[1] + 2.4, 0.9 + ROW_INCHES * len(names))
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
    return Drawing(figure, numbers, _caption(context, numbers, figure=True), _defects(context, numbers))


def _shares(numbers: pd.DataFrame) -> Values:
    """Methods by ranks."""
    columns = [name for name in numbers.columns if name.startswith("share_rank_")]
    return np.asarray(numbers[columns].fillna(0.0).to_numpy(dtype=np.float64))


def _percent(share: float) -> str:
    """Whole percent; nothing where it never was."""
    if share == 0.0:
        return ""
    rounded = f"{100 * share:.0f}"
    return "<1" if rounded == "0" else rounded


def _draw_mean_ranks(axes: Axes, numbers: pd.DataFrame) -> None:
    places = np.arange(len(numbers)) + 0.5
    colours = [style.colour(method) for method in numbers.method]
    axes.hlines(places, numbers.rank_games_low, numbers.rank_games_high, colors=colours, linewidth=1.8)
    axes.scatter(numbers.rank_games, places, s=26, c=colours, zorder=3)
    axes.set_xlabel("Mean rank over games")
    style.bar_panel(axes)


def ranks_table(context: Context) -> Table:
    """R8-T-ranks: mean ranks with intervals and the probability of being first."""
    numbers = rank_statistics(context)
    defects = _defects(context, numbers)
    lines = [
        [
            Cell(brief_label(row.method) + header_marks(row.method, defects)),
            Cell(str(row.runs)),
            Cell(f"{row.rank_iqm:g}"),
            Cell(f"{row.rank_iqm_mean:.2f} [{row.rank_iqm_low:g}, {row.rank_iqm_high:g}]"),
            Cell(f"{row.share_rank_1:.3f}"),
            Cell(f"{row.rank_games:.2f} [{row.rank_games_low:.2f}, {row.rank_games_high:.2f}]"),
        ]
        for row in numbers.itertuples()
    ]
    headers = ["Method", "Runs", "Rank by IQM", "Mean over replicates", "P(first)", "Mean rank over games"]
    return render(headers, lines, numbers, _caption(context, numbers, figure=False), defects=defects)


def _caption(context: Context, numbers: pd.DataFrame, figure: bool) -> str:
    """What the ranks are, who is in them and who is not."""
    tasks, games = len(context.suites[ATARI].tasks), context.options.repetitions_profiles
    single = [brief_label(name) for name, matrix in context.suites[ATARI].scores.items() if len(matrix) == 1]
    replicated = f"{numbers.repetitions_iqm.min()} bootstrap replicates"
    start = (
        f"how often a method has each rank by interquartile mean in {replicated}; right: dots are its mean rank over "
        f"games by mean score, lines 95 % intervals ({games} repetitions)."
        if figure
        else f"rank by interquartile mean, its mean and 95 % interval in {replicated} and how often it is the first; "
        f"mean rank over games by mean score with 95 % interval ({games} repetitions)."
    )
    parts = [
        f"Atari-100k, {tasks} games: {start} 1 is the best.",
        f"Left out, with one value per game: {naming.listed(single)}." if single else "",
        "Our runs and contributed methods are ranked one at a time, ours in the place of the published method."
        if any(origin(method, context) for method in numbers.method)
        else "",
    ]
    return " ".join(filter(None, parts))


def _defects(context: Context, numbers: pd.DataFrame) -> tuple[Defect, ...]:
    return context.defects_of(list(numbers.method), context.suites[ATARI].tasks)


ITEMS = (
    Item("R8-F-ranks", "beyond", "figure", "Ranks of the methods", ranks_figure),
    Item("R8-T-ranks", "beyond", "table", "Ranks of the methods in numbers", ranks_table),
)
