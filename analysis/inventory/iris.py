"""The tables and figures of the IRIS paper."""

from functools import partial

from analysis.comparisons import IRIS
from analysis.improvement import improvement_figure
from analysis.intervals import interval_figure
from analysis.item import Item
from analysis.profiles import profile_figure
from analysis.tables import per_game_table

ITEMS = (
    Item("IRIS-T1", "iris", "table", "Atari-100k per game, IRIS paper's Table 1", partial(per_game_table, IRIS)),
    Item(
        "IRIS-F-agg",
        "iris",
        "figure",
        "Mean, median and IQM with intervals",
        partial(interval_figure, IRIS, ("mean", "median", "iqm")),
    ),
    Item(
        "IRIS-F-og",
        "iris",
        "figure",
        "Optimality gap with intervals",
        partial(interval_figure, IRIS, ("optimality_gap",)),
    ),
    Item("IRIS-F-pp", "iris", "figure", "Performance profiles", partial(profile_figure, IRIS)),
    Item("IRIS-F-poi", "iris", "figure", "Probability of improvement", partial(improvement_figure, IRIS)),
)
