"""Known defects of the published scores, declared beside the data in ``defects.csv`` and shown wherever they matter.

A *defect* makes numbers wrong or doubtful: it is printed with every table and figure that shows these methods on these
tasks. A *remark* explains the origin of numbers: it is printed in the report's list only.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from analysis.data import naming
from analysis.data.scores import DATA, read_table
from tokenworlds.errors import UserError, near_matches

KINDS = ("defect", "remark")
# What an entry does to the aggregates, where that can be computed (``studies.r15_data_defects`` does).
EFFECTS = (
    "without_copies", "printed_freeway", "without_imputed", "single_values", "best_evaluation", "printed_means",
    "quoted", "eight_games", "episodes", "rounding",
)  # fmt: skip
MARK = "†"  # of a table's cells that a defect concerns


@dataclass(frozen=True)
class Defect:
    """A known fact about the scores of some methods on some tasks (none named: on all)."""

    kind: str
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    note: str
    effect: str = ""  # one of ``EFFECTS``, or none that can be computed
    mark: ClassVar[str] = MARK  # in tables

    def concerns(self, methods: Collection[str], tasks: Collection[str]) -> bool:
        """Whether it concerns any of these methods on any of these tasks."""
        return not set(self.methods).isdisjoint(methods) and (not self.tasks or not set(self.tasks).isdisjoint(tasks))

    @property
    def subject(self) -> str:
        """Methods and tasks, as text."""
        methods = naming.listed([naming.shown(method) for method in self.methods])
        return f"{methods} on {naming.listed(self.tasks)}" if self.tasks else methods

    def __str__(self) -> str:
        return f"{self.subject}: {self.note}"


def read_defects(data: Path = DATA) -> tuple[Defect, ...]:
    """All of them, in the order of the file."""
    frame = read_table(data / "defects.csv", ["kind", "methods", "tasks", "effect", "note"])
    for line, row in enumerate(frame.itertuples(), start=2):
        if row.kind not in KINDS:
            raise UserError(f"defects.csv line {line}: unknown kind {row.kind!r}: {near_matches(row.kind, KINDS)}")
        if row.effect and row.effect not in EFFECTS:
            raise UserError(
                f"defects.csv line {line}: unknown effect {row.effect!r}: {near_matches(row.effect, EFFECTS)}"
            )
    return tuple(
        Defect(row.kind, _names(row.methods), _names(row.tasks), row.note, row.effect) for row in frame.itertuples()
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(";") if name)
