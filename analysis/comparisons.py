"""The comparisons of the papers: which methods on which tasks, shared by the table and the figures of a paper.

Which methods an item shows is decided here alone: those of the paper, contributed ones, and our complete runs of any of
them and of their variants, each a further agent of the comparison under its own name.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT, ATARI
from analysis.data.scores import Suite


@dataclass(frozen=True)
class Comparison:
    """Methods in the paper's order, columns of its table from left to right."""

    suite: str
    title: str
    subject: str  # the paper's own agent: X of P(X > Y)
    methods: tuple[str, ...]
    group: tuple[str, ...]  # bold is the best of these; a line sets them apart from the others
    group_name: str
    table_only: tuple[str, ...] = ()  # further columns, in front: one printed value per game, nothing to resample
    without: str | None = None  # a suite that lacks the tasks in doubt: its results are drawn beside

    def heading(self, context: Context) -> str:
        """First words of a caption."""
        return f"{self.title}, {len(context.suites[self.suite].tasks)} games"

    def rows(self, context: Context) -> list[str]:
        """Rows from bottom to top: contributed methods, the paper's, its own last, our complete paper-scale runs."""
        methods = self.methods if self.methods[-1] == self.subject else self.methods[::-1]
        return [*self.contributed(context), *methods, *self.ours(context)]

    def contributed(self, context: Context) -> list[str]:
        """Methods from files dropped in, with runs on all of these tasks."""
        return [name for name in context.suites[self.suite].scores if name in context.contributed]

    def partial(self, context: Context) -> list[str]:
        """The others of these files: for the table and the notes only."""
        return [name for name in context.suites[self.suite].partial if name in context.contributed]

    def ours(self, context: Context) -> list[str]:
        """Our complete runs of these methods and of their variants on the same tasks."""
        return ours_of(context.suites[self.suite], self.methods)

    def columns(self, context: Context) -> list[str]:
        """All methods with runs on all tasks, from left to right: the paper's, contributed ones, ours."""
        return [*self.methods, *self.contributed(context), *self.ours(context)]

    def subjects(self, context: Context) -> list[str]:
        """Each X of P(X > Y): the paper's agent and our runs of it, without those of its variants."""
        return [name for name in self.columns(context) if naming.twin(name) == self.subject]

    def opponents(self, context: Context) -> list[str]:
        """Methods that the paper's agent is compared with: its paper's, contributed ones, our complete runs of any."""
        return [name for name in self.columns(context) if name != self.subject]

    def pairs(self, context: Context, further: Sequence[str] = ()) -> list[tuple[str, str]]:
        """X and Y of P(X > Y): the paper's agent against its opponents and ``further`` ones, our runs of it against
        those of them that are not ours."""
        others = [*self.opponents(context), *further]
        return [(x, y) for x in self.subjects(context) for y in others if x == self.subject or not naming.is_ours(y)]

    def left_out(self, context: Context) -> str:
        """The tasks that ``without`` lacks."""
        assert self.without is not None
        return naming.listed(sorted({*context.suites[self.suite].tasks} - {*context.suites[self.without].tasks}))

    def line_below(self, rows: Sequence[str]) -> int | None:
        """The row that the separating line runs below, where there are methods outside the group."""
        return rows.index(self.group[0]) if len(self.group) < len(self.methods) else None

    def defects(self, context: Context) -> tuple[Defect, ...]:
        """Known defects of the scores shown, and notes on their runs."""
        added = [*self.contributed(context), *self.partial(context), *self.ours(context)]
        return context.defects_of([*self.table_only, *self.methods, *added], context.suites[self.suite].tasks)


def ours_of(suite: Suite, methods: Collection[str]) -> list[str]:
    """Our runs of these methods and of their variants in a suite."""
    return [name for name in suite.scores if naming.is_ours(name) and naming.base_method(name) in methods]


def with_counterparts(ours: Sequence[str], published: Collection[str]) -> list[str]:
    """What our runs are drawn beside: the methods of the IRIS paper and those ``published`` that our runs repeat, as
    methods or as variants."""
    names = [name for label in ours for name in (naming.base_method(label), naming.twin(label))]
    return list(dict.fromkeys([*IRIS.methods, *(name for name in names if name in published)]))


_IRIS_METHODS = ("SimPLe", "CURL", "DrQ(eps)", "SPR", "IRIS")
_ABLATED = (
    "REM", "no-pop", "separate-wm-embeddings", "tokenizer-4x4", "no-latent-actor-critic", "no-action-input",
)  # fmt: skip
_TOKEN_BASED = "among token-based methods"

IRIS = Comparison(
    ATARI, "Atari-100k", "IRIS", _IRIS_METHODS, _IRIS_METHODS, "without lookahead search", ("MuZero", "EfficientZero")
)
REM = Comparison(
    ATARI, "Atari-100k", "REM", ("SimPLe", "DreamerV3", "TWM", "STORM", "IRIS", "REM"), ("IRIS", "REM"), _TOKEN_BASED
)
DELTA_IRIS = Comparison(
    ATARI, "Atari-100k", "Delta-IRIS", ("SimPLe", "DreamerV3", "STORM", "IRIS", "Delta-IRIS"), ("IRIS", "Delta-IRIS"),
    _TOKEN_BASED,
)  # fmt: skip
REM_ABLATIONS = Comparison(
    ABLATIONS, "REM and its ablations", "REM", _ABLATED, _ABLATED, "", without=ABLATIONS_WITHOUT_DEFECT
)
M3 = Comparison(
    ATARI, "Atari-100k", "M3", ("SimPLe", "TWM", "DreamerV3", "IRIS", "REM", "M3"), ("IRIS", "REM", "M3"),
    _TOKEN_BASED, ("EfficientZero",),
)  # fmt: skip
PAPERS_COMPARED = (IRIS, REM, DELTA_IRIS, M3)
