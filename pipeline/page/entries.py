"""The tables and figures on the page: what was made of every item of the inventory, or why it was not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.items import FAILED, ITEMS, MISSING, PAPERS, Item
from pipeline.page.embedding import Budget, picture_size

TO_MAKE = "not made yet: `dvc repro tables figures`"
SENTENCE = re.compile(r'<td(?: class="text")?>(?=[^<]{50,}</td>)')  # a cell that must wrap: numbers never do
TITLES = {"beyond": "Beyond the papers", "ours": "Ours beside published"}


@dataclass(frozen=True)
class Entry:
    """One table or figure. ``absent`` says why there is none, an error if it ``failed``; else it has a table's HTML or
    a figure's URI."""

    item: Item
    caption: str = ""
    defects: tuple[str, ...] = ()  # known ones of the scores shown
    table: str = ""
    picture: str | None = None
    size: tuple[int, int] | None = None  # width and height of the picture in CSS pixels
    numbers: str | None = None  # the CSV beside it, as a URI
    absent: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Group:
    """The entries of one paper, or of none."""

    key: str
    title: str
    entries: tuple[Entry, ...]

    @property
    def made(self) -> int:
        """Number of entries that have data."""
        return sum(not entry.absent for entry in self.entries)


def read_groups(results: Path, budget: Budget, items: Sequence[Item] = ITEMS) -> dict[str, Group]:
    """Every item by its paper, in the order of the inventory."""
    entries = [read_entry(item, results, budget) for item in items]
    return {
        key: Group(key, TITLES.get(key, title), tuple(entry for entry in entries if entry.item.paper == key))
        for key, title in PAPERS.items()
    }


def read_entry(item: Item, results: Path, budget: Budget) -> Entry:
    """One item as the stages ``tables`` and ``figures`` made it; a failed entry where its files cannot be read."""
    try:
        return _read_entry(item, results, budget)
    except (OSError, ValueError) as error:
        return Entry(item, absent=f"its files cannot be read ({error}); make them anew: `{item.command}`", failed=True)


def _read_entry(item: Item, results: Path, budget: Budget) -> Entry:
    folder, suffix = (results / "tables", ".html") if item.kind == "table" else (results / "figures", ".svg")
    path, missing = folder / f"{item.id}{suffix}", folder / f"{item.id}{MISSING}"
    if (failed := folder / f"{item.id}{FAILED}").is_file():
        reason = failed.read_text(encoding="utf-8").partition("\n")[0]
        return Entry(item, absent=f"{reason}; where it comes from: `results/{folder.name}/{failed.name}`", failed=True)
    if missing.is_file():
        return Entry(item, absent=missing.read_text(encoding="utf-8").strip())
    numbers = path.with_suffix(".csv")
    if not all(part.is_file() for part in (path, path.with_suffix(".txt"), numbers)):
        return Entry(item, absent=TO_MAKE)
    caption, *defects = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    if item.kind == "table":
        table = SENTENCE.sub('<td class="text sentence">', path.read_text(encoding="utf-8"))
        return Entry(item, caption, tuple(defects), table=table, numbers=budget.embed(numbers))
    picture = budget.embed(path)
    if picture is None:
        return Entry(item, absent=f"too large for this page: `results/figures/{path.name}`")
    return Entry(item, caption, tuple(defects), picture=picture, size=picture_size(path), numbers=budget.embed(numbers))
