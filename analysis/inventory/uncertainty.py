"""Beyond the papers. The papers' per-game tables with the uncertainty of every number."""

from analysis.item import Item
from analysis.studies import uncertainty

ITEMS = (
    Item(
        "R1-T-atari",
        "beyond",
        "table",
        "Atari-100k per game, every method with its uncertainty",
        uncertainty.atari_table,
    ),
    Item(
        "R1-T-ablations",
        "beyond",
        "table",
        "REM's ablations per game with their uncertainty",
        uncertainty.ablations_table,
    ),
)
