"""The tables and figures of the M3 / Simulus paper."""

from functools import partial

from analysis.data.comparisons import M3
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import AGGREGATES, interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.tables import per_game_table
from analysis.item import Item
from analysis.papers import craftax, dmc, hyperparameters, m3

ITEMS = (
    Item("M3-T-atari", "m3", "table", "Atari-100k per game", partial(per_game_table, M3)),
    Item("M3-F-agg", "m3", "figure", "Four aggregates with intervals", partial(interval_figure, M3, AGGREGATES)),
    Item("M3-F-pp", "m3", "figure", "Performance profiles", partial(profile_figure, M3)),
    Item("M3-F-poi", "m3", "figure", "Probability of improvement", partial(improvement_figure, M3)),
    Item("M3-T-dmc", "m3", "table", "DeepMind Control, task by task", dmc.tasks_table),
    Item("M3-F-dmc", "m3", "figure", "DeepMind Control: four aggregates", dmc.aggregates_figure),
    Item("M3-F-craftax", "m3", "figure", "Craftax: return against environment steps", craftax.curves_figure),
    Item("M3-T-craftax", "m3", "table", "Craftax at one million steps", craftax.last_points_table),
    Item("M3-F-abl", "m3", "figure", "Ablations", m3.ablations_figure, m3.no_ablations),
    Item("M3-T-cost", "m3", "table", "Run times", m3.costs_table, m3.no_costs),
    Item(
        "M3-T-hp",
        "m3",
        "table",
        "Hyper-parameters",
        partial(hyperparameters.hyperparameter_table, "m3"),
        hyperparameters.no_yaml,
    ),
    Item("SIM-T-page", "m3", "table", "The project page's printed means", m3.page_table),
)
