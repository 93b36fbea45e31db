"""The tables and figures on the page: what was made of every item of the inventory, or why it was not."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from analysis.items import FAILED, ITEMS, MISSING, PAPERS, Item
from pipeline.page.drawing import label_width
from pipeline.page.embedding import Budget, picture_size

TO_MAKE = "not made yet: `dvc repro tables figures`"
SENTENCE = re.compile(r'<td(?: class="text")?>(?=[^<]{50,}</td>)')  # a cell that must wrap: numbers never do
FILES = {".svg": "SVG", ".pdf": "PDF", ".csv": "CSV", ".tex": "LaTeX", ".md": "Markdown"}  # beside the page, as linked
FOLDED = re.compile(r".*-T-hp|R13-T-agreement")  # long tables to look things up in
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
    labels: int | None = None  # width of its row labels, likewise
    numbers: Path | None = None  # the CSV beside it
    files: tuple[tuple[str, str], ...] = ()  # kind and address of its files, seen from the page
    absent: str = ""
    failed: bool = False

    @property
    def folded(self) -> bool:
        """Whether the page shows it only where it is asked for."""
        return bool(FOLDED.fullmatch(self.item.id))


@dataclass(frozen=True)
class Group:
    """The entries of one paper, or of none."""

    key: str
    title: str
    entries: tuple[Entry, ...]

    @property
    def shown(self) -> tuple[Entry, ...]:
        """Entries that have data, and those that failed."""
        return tuple(entry for entry in self.entries if entry.failed or not entry.absent)

    @property
    def without(self) -> tuple[Entry, ...]:
        """Entries without data."""
        return tuple(entry for entry in self.entries if entry.absent and not entry.failed)


def read_groups(results: Path, out: Path, budget: Budget, items: Sequence[Item] = ITEMS) -> dict[str, Group]:
    """Every item by its paper, in the order of the inventory, for a page in the folder ``out``."""
    entries = [read_entry(item, results, out, budget) for item in items]
    return {
        key: Group(key, TITLES.get(key, title), tuple(entry for entry in entries if entry.item.paper == key))
        for key, title in PAPERS.items()
    }


def read_entry(item: Item, results: Path, out: Path, budget: Budget) -> Entry:
    """One item as the stages ``tables`` and ``figures`` made it; a failed entry where its files cannot be read."""
    try:
        return _read_entry(item, results, out, budget)
    except (OSError, ValueError) as error:
        return Entry(item, absent=f"its files cannot be read ({error}); make them anew: `{item.command}`", failed=True)


def _read_entry(item: Item, results: Path, out: Path, budget: Budget) -> Entry:
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
    files = tuple(
        (name, address(file, out)) for end, name in FILES.items() if (file := path.with_suffix(end)).is_file()
    )
    entry = Entry(item, caption, tuple(defects), numbers=numbers, files=files)
    if item.kind == "table":
        table = SENTENCE.sub('<td class="text sentence">', path.read_text(encoding="utf-8"))
        return replace(entry, table=table)
    picture = budget.embed(path)
    if picture is None:
        return Entry(item, absent=f"too large for this page: `results/figures/{path.name}`")
    labels = label_width(path.read_text(encoding="utf-8"))
    return replace(entry, picture=picture, size=picture_size(path), labels=labels)


def address(path: Path, out: Path) -> str:
    """Relative address of a file, seen from a page in the folder ``out``."""
    return quote(Path(os.path.relpath(path, out)).as_posix())
