"""Beyond the papers. What papers print and what their raw scores give, and what is wrong with the data."""

from analysis.item import Item
from analysis.studies import agreement, data_defects, partial_pooling

ITEMS: tuple[Item, ...] = (
    Item("R13-T-summary", "beyond", "table", "Printed numbers and ours: how many agree", agreement.summary_table),
    Item("R13-T-agreement", "beyond", "table", "Printed numbers and ours, one by one", agreement.agreement_table),
    Item("R15-T-defects", "beyond", "table", "Defects of the published scores", data_defects.defects_table),
    Item("R4-T-pooled", "beyond", "table", "Aggregates by a hierarchical model", partial_pooling.pooled_table),
    Item("R4-T-games", "beyond", "table", "Games by a hierarchical model", partial_pooling.games_table),
)
