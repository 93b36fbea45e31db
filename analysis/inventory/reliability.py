"""Beyond the papers. How far the numbers can be trusted: interval methods, number of runs, choice of games."""

from analysis.item import Item

ITEMS: tuple[Item, ...] = ()
