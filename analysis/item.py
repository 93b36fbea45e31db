"""An item of the report: one table or figure with its id, its paper and the function that makes it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data.families import FAMILIES
from analysis.draw.artefacts import Artefact
from analysis.errors import NoData

PAPERS = {
    "iris": "IRIS (Micheli, Alonso, Fleuret, ICLR 2023)",
    "rem": "REM (Cohen, Wang, Kang, Mannor, ICML 2024)",
    "delta_iris": "Delta-IRIS (Micheli, Alonso, Fleuret, ICML 2024)",
    "m3": "M3 / Simulus (Cohen, Wang, Kang, Gadot, Mannor, 2025)",
    "beyond": "Beyond the papers",
    "ours": "Our runs",
    **{family.key: family.title for family in FAMILIES.values()},
}


@dataclass(frozen=True)
class Item:
    """One table or figure.

    ``data`` selects the runs that it needs and raises ``NoData`` where there are none; without it, published scores
    are enough. It is cheap, so that ``--list`` can tell which items have data.
    """

    id: str
    paper: str
    kind: str  # "table" or "figure"
    title: str
    make: Callable[[Context], Artefact]
    data: Callable[[Context], object] | None = None
    compares: Callable[[Context], Iterable[str]] | None = None  # methods, where it compares others than a paper's

    def unmoved(self, context: Context) -> str:
        """The sentence that says that the choice of methods does not apply here; "" where it does or there is none."""
        arguments = self.make.args if isinstance(self.make, partial) else ()
        parts = [each for part in arguments for each in (part if isinstance(part, tuple) else (part,))]
        papers = [each for each in parts if isinstance(each, Comparison)]
        labels = self.compares(context) if self.compares else ()
        if not context.choice or context.choice.among(labels) or any(each.chosen(context) != each for each in papers):
            return ""
        if not papers and self.compares is None:
            return (
                "--subject, --baselines and --order do not apply: this item does not compare methods of one's choice."
            )
        named = context.choice.subject or "none of the methods that were named"
        return f"--subject, --baselines and --order do not apply: {named} has no scores here."

    @property
    def command(self) -> str:
        """Command that makes exactly this item."""
        return f"python analysis/make_figures.py --only {self.id}"

    def missing(self, context: Context) -> str | None:
        """Reason why the item cannot be made now; None where it can."""
        try:
            if self.data is not None:
                self.data(context)
        except NoData as reason:
            return str(reason)
        return None


def picture(id: str, paper: str, title: str) -> Item:
    """A figure of the paper that is made of frames, not of scores."""
    return Item(id, paper, "figure", title, _not_from_scores, _not_from_scores)


def _not_from_scores(context: Context) -> Artefact:
    raise NoData(
        "pictures of our runs, not made from scores: every run keeps them in `results/runs/RUN/media`, and "
        "`python -m pipeline.evaluate results/runs/RUN --media FOLDER` makes them anew"
    )
