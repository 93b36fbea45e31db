"""Beyond the papers. Methods compared pair by pair: differences, games one by one, ranks."""

from functools import partial

from analysis.data.comparisons import DELTA_IRIS, IRIS, M3, REM, REM_ABLATIONS
from analysis.item import Item
from analysis.studies import differences, games, pairs, ranks

PAPERS_COMPARED = (IRIS, REM, DELTA_IRIS, M3)

ITEMS = (
    Item(
        "R2-F-games",
        "beyond",
        "figure",
        "Every agent against the others, game by game",
        partial(games.games_figure, PAPERS_COMPARED),
    ),
    Item("R2-T-iris", "beyond", "table", "IRIS game by game", partial(games.games_table, IRIS)),
    Item("R2-T-rem", "beyond", "table", "REM game by game", partial(games.games_table, REM)),
    Item("R2-T-delta_iris", "beyond", "table", "Delta-IRIS game by game", partial(games.games_table, DELTA_IRIS)),
    Item("R2-T-m3", "beyond", "table", "M3 game by game", partial(games.games_table, M3)),
    Item("R2-T-abl", "beyond", "table", "REM's ablations game by game", partial(games.games_table, REM_ABLATIONS)),
    Item("R2-F-matrix", "beyond", "figure", "Probability of improvement of all pairs", pairs.matrix_figure),
    Item("R2-T-pairs", "beyond", "table", "All pairs game by game", pairs.games_table),
    Item("R2-T-matrix", "beyond", "table", "Probability of improvement of all pairs in numbers", pairs.matrix_table),
    Item(
        "R3-F-diff",
        "beyond",
        "figure",
        "Differences of aggregates",
        partial(differences.differences_figure, PAPERS_COMPARED),
    ),
    Item(
        "R3-T-diff",
        "beyond",
        "table",
        "Differences of aggregates in numbers",
        partial(differences.differences_table, PAPERS_COMPARED),
    ),
    Item(
        "R3-T-abl",
        "beyond",
        "table",
        "Differences of aggregates between REM and its ablations",
        partial(differences.differences_table, (REM_ABLATIONS,)),
    ),
    Item("R8-F-ranks", "beyond", "figure", "Ranks of the methods", ranks.ranks_figure),
    Item("R8-T-ranks", "beyond", "table", "Ranks of the methods in numbers", ranks.ranks_table),
)
