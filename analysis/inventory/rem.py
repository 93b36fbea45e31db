"""The tables and figures of the REM paper."""

from functools import partial

from analysis.comparisons import REM, REM_ABLATIONS
from analysis.context import Context
from analysis.improvement import improvement_figure
from analysis.intervals import AGGREGATES, interval_figure
from analysis.item import Item
from analysis.profiles import profile_figure
from analysis.summary import summary_figure
from analysis.tables import per_game_table
from analysis.times import ABLATION_TIMES, REM_TIMES, times_figure


def no_published_losses(context: Context) -> str:
    """REM-F-wmloss was drawn from run logs that nobody has published."""
    return (
        "its run logs are not published; the losses of our own runs: `python analysis/learning.py "
        "results/runs/METHOD/TASK/* --curve loss --out STEM`"
    )


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
    Item("REM-F-wmloss", "rem", "figure", "Ablations: losses of the world model", None, no_published_losses),
)
