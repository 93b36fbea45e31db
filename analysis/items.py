"""The inventory: every table and figure, in the order of the report."""

from collections.abc import Sequence

from analysis.inventory import agreement, delta_iris, differences, iris, m3, ours, reliability, rem, runs
from analysis.item import MISSING, PAPERS, Item, has_published_data
from tokenworlds.errors import UserError, near_matches

__all__ = ["ITEMS", "MISSING", "PAPERS", "Item", "has_published_data", "select"]

ITEMS = (
    *iris.ITEMS,
    *rem.ITEMS,
    *delta_iris.ITEMS,
    *m3.ITEMS,
    *differences.ITEMS,
    *reliability.ITEMS,
    *runs.ITEMS,
    *agreement.ITEMS,
    *ours.ITEMS,
)


def select(ids: Sequence[str] = (), kind: str = "all") -> list[Item]:
    """The items asked for; all of that kind when no id is given."""
    known = {item.id: item for item in ITEMS}
    for name in ids:
        if name not in known:
            raise UserError(f"unknown item {name!r}: {near_matches(name, known)}")
    chosen = [known[name] for name in dict.fromkeys(ids)] or list(ITEMS)
    return [item for item in chosen if kind in ("all", item.kind)]
