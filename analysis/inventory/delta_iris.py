"""The tables and figures of the Delta-IRIS paper."""

from functools import partial

from analysis.data.comparisons import DELTA_IRIS
from analysis.draw.tables import per_game_table
from analysis.item import Item, not_from_scores
from analysis.papers import crafter, hyperparameters
from analysis.papers import delta_iris as secondary

ITEMS = (
    Item("DIRIS-T-atari", "delta_iris", "table", "Atari-100k per game", partial(per_game_table, DELTA_IRIS)),
    Item(
        "DIRIS-T-paper", "delta_iris", "table", "The paper's Atari table and the released scores", secondary.paper_table
    ),
    Item("DIRIS-T-crafter", "delta_iris", "table", "Crafter at 1, 5 and 10 million frames", crafter.milestones_table),
    Item(
        "DIRIS-F-crafter",
        "delta_iris",
        "figure",
        "Crafter: return against frames",
        crafter.curves_figure,
        crafter.no_curves,
    ),
    Item(
        "DIRIS-F-success",
        "delta_iris",
        "figure",
        "Crafter: success rates",
        crafter.achievements_figure,
        crafter.no_achievements,
    ),
    Item(
        "DIRIS-T-success",
        "delta_iris",
        "table",
        "Crafter: success rates in numbers",
        crafter.achievements_table,
        crafter.no_achievements,
    ),
    Item("DIRIS-T-tok", "delta_iris", "table", "Crafter: reconstruction of the tokenizers", secondary.tokenizer_table),
    Item("DIRIS-T-abl", "delta_iris", "table", "Crafter: with and without frame tokens", secondary.frame_tokens_table),
    Item(
        "DIRIS-T-hp",
        "delta_iris",
        "table",
        "Hyper-parameters",
        partial(hyperparameters.hyperparameter_table, "delta_iris"),
        hyperparameters.no_yaml,
    ),
    Item("DIRIS-F-rec", "delta_iris", "figure", "Worst reconstructions", None, not_from_scores),
    Item("DIRIS-F-delta", "delta_iris", "figure", "Frames without delta tokens and with others", None, not_from_scores),
    Item("DIRIS-F-imag", "delta_iris", "figure", "Imagined trajectories", None, not_from_scores),
)
