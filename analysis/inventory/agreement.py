"""Beyond the papers. What papers print and what their raw scores give, and what is wrong with the data."""

from analysis.item import Item

ITEMS: tuple[Item, ...] = ()
