"""The tables and figures of the IRIS paper."""

from functools import partial

from analysis.data.comparisons import IRIS
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.tables import per_game_table
from analysis.item import Item, not_from_scores
from analysis.papers import hyperparameters
from analysis.papers import iris as iris_runs

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
    Item("IRIS-T-cost", "iris", "table", "Hours and seconds by component", iris_runs.cost_table),
    Item("IRIS-T-tok", "iris", "table", "16 and 64 tokens a frame", iris_runs.tokens_table, iris_runs.no_64_tokens),
    Item("IRIS-T-long", "iris", "table", "After 10 million frames", iris_runs.long_table, iris_runs.no_long_runs),
    Item(
        "IRIS-T-hp",
        "iris",
        "table",
        "Hyper-parameters",
        partial(hyperparameters.hyperparameter_table, "iris"),
        hyperparameters.no_yaml,
    ),
    Item("IRIS-F-rec", "iris", "figure", "Reconstructions", None, not_from_scores),
    Item("IRIS-F-imag", "iris", "figure", "Imagined trajectories", None, not_from_scores),
)
