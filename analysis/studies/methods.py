"""The methods on Atari-100k that the studies show: which they are, their labels, and their runs as a population."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from analysis.comparisons import ours_of
from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.published import ATARI
from analysis.data.scores import Suite
from analysis.draw import style
from analysis.stats import metrics
from analysis.stats.metrics import Matrix

AGENTS = ("IRIS", "REM", "Delta-IRIS", "M3")  # the papers' own
MANY_RUNS = 100  # of CURL, DrQ(eps) and SPR: enough to serve as the truth


@dataclass(frozen=True)
class Population:
    """A method's score matrix, hashable, so that a study is computed once for its table and its figure."""

    method: str
    shape: tuple[int, int]
    content: bytes

    @classmethod
    def of(cls, method: str, scores: Matrix) -> "Population":
        """The population of normalised scores (N, M)."""
        return cls(method, (scores.shape[0], scores.shape[1]), np.asarray(scores, dtype=np.float64).tobytes())

    @property
    def scores(self) -> Matrix:
        """Score matrix (N, M)."""
        return np.frombuffer(self.content, dtype=np.float64).reshape(self.shape)

    @property
    def runs(self) -> int:
        """Runs per task."""
        return self.shape[0]


def populations(suite: Suite, methods: Iterable[str]) -> tuple[Population, ...]:
    """Populations of the methods that have the same number of runs, at least two, of every task."""
    return tuple(Population.of(method, suite.scores[method]) for method in methods if is_full(suite.scores[method]))


def is_full(scores: Matrix) -> bool:
    """Whether there are several runs that are not all equal, and none is missing."""
    return metrics.tell_spread(scores) and bool(np.isfinite(scores).all())


def agents_and_ours(suite: Suite) -> list[str]:
    """The papers' agents and our complete runs of them, also those with fewer runs of some games."""
    return [name for name in (*AGENTS, *ours_of(suite, AGENTS)) if name in suite.scores]


def agents(suite: Suite) -> tuple[Population, ...]:
    """Populations of the papers' own agents and of our complete runs of them."""
    return populations(suite, agents_and_ours(suite))


def large(context: Context) -> tuple[Population, ...]:
    """Published methods with so many runs that these can serve as the truth."""
    return tuple(each for each in populations(context.suites[ATARI], published(context)) if each.runs >= MANY_RUNS)


def published(context: Context) -> list[str]:
    """Methods on Atari that are neither ours nor contributed."""
    return [method for method in context.suites[ATARI].scores if origin(method, context) == 0]


def atari_methods(context: Context) -> list[str]:
    """All methods on Atari, those with scores of some games only, too."""
    return [*context.suites[ATARI].scores, *context.suites[ATARI].partial]


def origin(method: str, context: Context) -> int:
    """0 for published methods, 1 for contributed ones, 2 for our own: their order in tables and figures."""
    return 2 if naming.is_ours(method) else int(method in context.contributed)


def line_between_origins(axes: Axes, methods: Sequence[str], context: Context) -> None:
    """A line between published methods, contributed ones and ours, in a panel whose rows are methods from 0 on."""
    for row, (above, below) in enumerate(pairwise(origin(method, context) for method in methods), start=1):
        if above != below:
            axes.axhline(row, color=style.faint(), linewidth=1)


def brief_label(method: str) -> str:
    """The label as shown; for our runs name and scale, without how many there are."""
    return naming.brief(method)


def two_line_label(method: str) -> str:
    """The label in a narrow figure: what brackets say of our runs is below their name."""
    return naming.shown(method, separator="\n")


def logarithmic_axis(axes: Axes, numbers: Sequence[int]) -> None:
    """A logarithmic horizontal axis with ticks at these numbers of runs only."""
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)


def atari_defects(context: Context, methods: Iterable[str]) -> tuple[Defect, ...]:
    """Known defects of these methods on Atari-100k, and the notes on their runs."""
    return context.defects_of(list(methods), context.suites[ATARI].tasks)


def left_out(context: Context, methods: Iterable[str], suite: str = ATARI) -> str:
    """The end of a caption that names methods which belong there but are not shown, with what sets them apart, such as
    `` Left out: X (3 to 5 runs a game).``; "" if there are none."""
    groups: dict[str, list[str]] = {}
    for method in methods:
        kind = "contributed, " if method in context.contributed else ""
        groups.setdefault(kind + runs_a_game(context.suites[suite].scores[method]), []).append(brief_label(method))
    named = "; ".join(f"{naming.listed(names)} ({kind})" for kind, names in groups.items())
    return f" Left out: {named}." if named else ""


def single_left_out(context: Context) -> str:
    """The sentence that names the methods with one value per game, which cannot be resampled; "" if there are none."""
    scores = context.suites[ATARI].scores
    single = [brief_label(method) for method, matrix in scores.items() if len(matrix) == 1]
    return f"Left out, with one value per game: {naming.listed(single)}." if single else ""


def agents_left_out(context: Context) -> str:
    """``left_out`` of the agents and our runs of them that are not a population."""
    suite = context.suites[ATARI]
    return left_out(context, [name for name in agents_and_ours(suite) if not is_full(suite.scores[name])])


def runs_a_game(scores: Matrix) -> str:
    """``5 runs a game``, ``3 to 5 runs a game``."""
    counts = metrics.run_counts(scores)
    fewest, most = int(counts.min()), int(counts.max())
    number = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{number} run{'s' if most > 1 else ''} a game"
