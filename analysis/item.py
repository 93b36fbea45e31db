"""What an item of the inventory is: one table or figure with its id, its paper and the function that makes it."""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.context import Context
from analysis.draw.artefacts import FAILED, MISSING, Artefact

__all__ = ["FAILED", "MISSING", "PAPERS", "Item", "has_published_data", "not_from_scores"]

PAPERS = {
    "iris": "IRIS (Micheli, Alonso, Fleuret, ICLR 2023)",
    "rem": "REM (Cohen, Wang, Kang, Mannor, ICML 2024)",
    "delta_iris": "Delta-IRIS (Micheli, Alonso, Fleuret, ICML 2024)",
    "m3": "M3 / Simulus (Cohen, Wang, Kang, Gadot, Mannor, 2025)",
    "beyond": "Beyond the papers",
    "ours": "Our runs",
}


def has_published_data(context: Context) -> str | None:
    """Items made from published scores always have data."""
    return None


def not_from_scores(context: Context) -> str:
    """Pictures are made of frames, not of scores."""
    return (
        "pictures of our runs, not made from scores: every run keeps them in `results/runs/RUN/media`, and "
        "`python -m pipeline.evaluate results/runs/RUN --media FOLDER` makes them anew"
    )


@dataclass(frozen=True)
class Item:
    """One table or figure. ``missing`` says why it cannot be made now, or None; without ``make`` it never can."""

    id: str
    paper: str
    kind: str  # "table" or "figure"
    title: str
    make: Callable[[Context], Artefact] | None
    missing: Callable[[Context], str | None] = has_published_data

    @property
    def command(self) -> str:
        """What redraws exactly this item."""
        return f"python analysis/make_figures.py --only {self.id}"
