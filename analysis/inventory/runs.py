"""Beyond the papers. What only run records show: cost, curves, noise of evaluation, effects of ablations."""

from analysis.item import Item

ITEMS: tuple[Item, ...] = ()
