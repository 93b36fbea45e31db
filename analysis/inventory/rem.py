"""The tables and figures of the REM paper."""

from functools import partial

from analysis.data.comparisons import REM, REM_ABLATIONS
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import AGGREGATES, interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.summary import summary_figure
from analysis.draw.tables import per_game_table
from analysis.item import Item, not_from_scores
from analysis.papers import hyperparameters
from analysis.papers import rem as world_model_losses
from analysis.papers.times import ABLATION_TIMES, REM_TIMES, times_figure

ITEMS = (
    Item("REM-F-intro", "rem", "figure", "IQM with intervals", partial(interval_figure, REM, ("iqm",))),
    Item("REM-F-agg", "rem", "figure", "Four aggregates with intervals", partial(interval_figure, REM, AGGREGATES)),
    Item("REM-F-pp", "rem", "figure", "Performance profiles", partial(profile_figure, REM)),
    Item("REM-F-poi", "rem", "figure", "Probability of improvement", partial(improvement_figure, REM)),
    Item("REM-T1", "rem", "table", "Atari-100k per game", partial(per_game_table, REM)),
    Item("REM-F-abl", "rem", "figure", "Ablations: summary", partial(summary_figure, REM_ABLATIONS)),
    Item(
        "REM-F-abl-agg",
        "rem",
        "figure",
        "Ablations: four aggregates",
        partial(interval_figure, REM_ABLATIONS, AGGREGATES),
    ),
    Item("REM-F-abl-pp", "rem", "figure", "Ablations: performance profiles", partial(profile_figure, REM_ABLATIONS)),
    Item(
        "REM-F-abl-poi",
        "rem",
        "figure",
        "Ablations: probability of improvement",
        partial(improvement_figure, REM_ABLATIONS),
    ),
    Item("REM-T-abl", "rem", "table", "Ablations per game", partial(per_game_table, REM_ABLATIONS)),
    Item("REM-F-time", "rem", "figure", "Seconds per epoch, IRIS and REM", partial(times_figure, REM_TIMES)),
    Item("REM-F-time-abl", "rem", "figure", "Seconds per epoch, ablations", partial(times_figure, ABLATION_TIMES)),
    Item(
        "REM-F-wmloss",
        "rem",
        "figure",
        "Ablations: losses of the world model",
        world_model_losses.losses_figure,
        world_model_losses.no_losses,
    ),
    Item(
        "REM-T-hp",
        "rem",
        "table",
        "Hyper-parameters",
        partial(hyperparameters.hyperparameter_table, "rem"),
        hyperparameters.no_yaml,
    ),
    Item("REM-F-rec", "rem", "figure", "Reconstructions and imagined trajectories", None, not_from_scores),
)
