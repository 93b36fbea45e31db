"""The inventory: every table and figure, in the order of the report."""

from collections.abc import Sequence

from analysis.inventory import agreement, delta_iris, differences, iris, m3, ours, reliability, rem, runs, uncertainty
from analysis.item import FAILED, MISSING, PAPERS, Item, has_published_data
from tokenworlds.errors import UserError, near_matches

__all__ = ["FAILED", "ITEMS", "MISSING", "PAPERS", "Item", "has_published_data", "select"]

ITEMS = (
    *iris.ITEMS,
    *rem.ITEMS,
    *delta_iris.ITEMS,
    *m3.ITEMS,
    *uncertainty.ITEMS,
    *differences.ITEMS,
    *reliability.ITEMS,
    *runs.ITEMS,
    *agreement.ITEMS,
    *ours.ITEMS,
)


def select(ids: Sequence[str] = (), kind: str = "all", papers: Sequence[str] = ()) -> list[Item]:
    """The items of these ids, whatever their kind and paper; without ids, those of that kind and these papers."""
    known = {item.id: item for item in ITEMS}
    for name in ids:
        if name not in known:
            raise UserError(f"unknown item {name!r}: {near_matches(name, known)}")
    for name in papers:
        if name not in PAPERS:
            raise UserError(f"unknown paper {name!r}: {near_matches(name, PAPERS)}")
    if ids:
        return [known[name] for name in dict.fromkeys(ids)]
    chosen = [item for item in ITEMS if kind in ("all", item.kind) and (not papers or item.paper in papers)]
    if not chosen:
        raise UserError(f"no item of {' or '.join(papers)} is a {kind}; see --list.")
    return chosen
