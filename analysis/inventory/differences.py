"""Beyond the papers. Methods compared pair by pair: differences, games one by one, ranks."""

from analysis.item import Item

ITEMS: tuple[Item, ...] = ()
