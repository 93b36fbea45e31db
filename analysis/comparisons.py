"""The comparisons of the papers: which methods on which tasks, shared by the table and the figures of a paper.

Which methods an item shows is decided here alone: those of the paper, contributed ones, and our complete runs of any of
them and of their variants, each a further agent of the comparison under its own name; or the subject and the baselines
that were asked for (``analysis.data.choice``), in the paper's place.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.context import Context
from analysis.data import naming
from analysis.data.choice import Choice
from analysis.data.defects import Defect
from analysis.data.published import (
    ABLATIONS,
    ABLATIONS_WITHOUT_DEFECT,
    ATARI,
    SUBJECT_ABLATIONS,
    SUBJECT_GAMES,
)
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
    further: tuple[str, ...] | None = None  # methods chosen by name: these, of some tasks only, and no others

    def chosen(self, context: Context) -> "Comparison":
        """The comparison with the methods that were asked for; unchanged where nothing was, or its tasks are others.

        The subject takes the place of the paper's agent, which becomes one of the others. On the ablations, a subject
        is compared with its own variants.
        """
        suites, is_ablation = context.suites, self.suite == ABLATIONS
        own = suites.get(SUBJECT_ABLATIONS if is_ablation else SUBJECT_GAMES)
        suite = own or suites[self.suite]
        choice = context.choice.among([*suite.scores, *suite.partial])
        if not choice or (is_ablation and not own and choice.subject not in ("", self.subject)):
            return self
        subject = choice.label(suite.scores) or self.subject
        choice = replace(choice, subject=naming.brief(subject))
        known = (
            suite.scores if own and is_ablation else [*self.table_only, *self.columns(context), *_named(suite, choice)]
        )
        methods = choice.arranged(name for name in dict.fromkeys([*known, subject]) if name in suite.scores)
        single = [name for name in methods if name in self._printed(context, suite) and name != subject]
        partial = [name for name in suite.partial if name in context.contributed or name in _named(suite, choice)]
        shown = tuple(name for name in methods if name not in single)
        return replace(
            self, suite=suite.name, subject=subject, methods=shown, group=shown, group_name="",
            title=f"{naming.shown(subject)} and its ablations" if own and is_ablation else self.title,
            without=None if own else self.without, table_only=tuple(single), further=tuple(choice.arranged(partial)),
        )  # fmt: skip

    def heading(self, context: Context) -> str:
        """First words of a caption."""
        return f"{self.title}, {len(context.suites[self.suite].tasks)} games"

    def rows(self, context: Context) -> list[str]:
        """Rows from bottom to top: contributed methods, the paper's, its own last, our complete paper-scale runs."""
        methods = self.methods if self.methods[-1] == self.subject else self.methods[::-1]
        return [*self.contributed(context), *methods, *self.ours(context)]

    def contributed(self, context: Context) -> list[str]:
        """Methods from files dropped in, with runs on all of these tasks."""
        scores = context.suites[self.suite].scores
        return [] if self.further is not None else [name for name in scores if name in context.contributed]

    def partial(self, context: Context) -> list[str]:
        """The others of these files: for the table and the notes only."""
        if self.further is not None:
            return [*self.further]
        return [name for name in context.suites[self.suite].partial if name in context.contributed]

    def ours(self, context: Context) -> list[str]:
        """Our complete runs of these methods and of their variants on the same tasks."""
        return [] if self.further is not None else ours_of(context.suites[self.suite], self.methods)

    def columns(self, context: Context) -> list[str]:
        """All methods with runs on all tasks, from left to right: the paper's, contributed ones, ours."""
        return [*self.methods, *self.contributed(context), *self.ours(context)]

    def subjects(self, context: Context) -> list[str]:
        """Each X of P(X > Y): the paper's agent and our runs of it, without those of its variants."""
        if self.further is not None:
            return [self.subject]
        return [name for name in self.columns(context) if naming.twin(name) == self.subject]

    def opponents(self, context: Context) -> list[str]:
        """Methods that the paper's agent is compared with: its paper's, contributed ones, our complete runs of any."""
        return [name for name in self.columns(context) if name != self.subject]

    def pairs(self, context: Context, further: Sequence[str] = ()) -> list[tuple[str, str]]:
        """X and Y of P(X > Y): the paper's agent against its opponents and ``further`` ones, our runs of it against
        those of them that are not ours."""
        others = [*self.opponents(context), *further]
        return [(x, y) for x in self.subjects(context) for y in others if x == self.subject or not naming.is_ours(y)]

    def _printed(self, context: Context, suite: Suite) -> list[str]:
        """Published methods with one value per game, which cannot be resampled."""
        single = [name for name, scores in suite.scores.items() if len(scores) == 1]
        return [name for name in single if not naming.is_ours(name) and name not in context.contributed]

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


def chosen(labels: Iterable[str], context: Context) -> list[str]:
    """These methods, or those of them that were asked for in the order asked for."""
    labels = list(labels)
    return choice.arranged(labels) if (choice := context.choice.among(labels)) else labels


def together(comparisons: Sequence[Comparison], context: Context) -> tuple[Comparison, ...]:
    """The comparisons; those with the same chosen subject become one with the methods of all."""
    found: dict[str, Comparison] = {}
    for comparison in (each.chosen(context) for each in comparisons):
        before = found.get(comparison.subject)
        methods = [*(before.methods if before else ()), *comparison.methods]
        arranged = tuple(context.choice.arranged(dict.fromkeys(methods)))
        found[comparison.subject] = replace(comparison, methods=arranged, group=arranged) if before else comparison
    return tuple(found.values())


def _named(suite: Suite, choice: Choice) -> list[str]:
    """Methods of a suite that a choice names, complete or partial."""
    named = (*choice.order, *choice.baselines)
    return [name for name in (*suite.scores, *suite.partial) if naming.brief(name) in named]


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
