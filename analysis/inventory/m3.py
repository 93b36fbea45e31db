"""The tables and figures of the M3 / Simulus paper."""

from analysis.item import Item

ITEMS: tuple[Item, ...] = ()
