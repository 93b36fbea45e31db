"""What the studies of reliability draw from: the published runs of a method, taken as the whole population.

Shapes: S samples, M tasks, N runs. Unlike in a score matrix (N, M), runs are last here, and tasks are drawn apart from
each other: rows of the matrix are not runs across tasks.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.data.scores import Suite
from analysis.stats import metrics
from analysis.stats.interval_methods import Samples
from analysis.stats.metrics import Matrix
from analysis.studies.games import brief_label

AGENTS = ("IRIS", "REM", "Delta-IRIS", "M3")  # the papers' own
MANY_RUNS = 100  # CURL, DrQ(eps) and SPR have as many: enough to take them for the truth


@dataclass(frozen=True)
class Population:
    """A method's score matrix, hashable: a study is made once for its table and its figure."""

    method: str
    shape: tuple[int, int]
    content: bytes

    @classmethod
    def of(cls, method: str, scores: Matrix) -> "Population":
        """Hold normalised scores (N, M)."""
        return cls(method, (scores.shape[0], scores.shape[1]), np.asarray(scores, dtype=np.float64).tobytes())

    @property
    def scores(self) -> Matrix:
        """The score matrix (N, M)."""
        return np.frombuffer(self.content, dtype=np.float64).reshape(self.shape)

    @property
    def runs(self) -> int:
        """Runs per task."""
        return self.shape[0]


def populations(suite: Suite, methods: Iterable[str] | None = None) -> tuple[Population, ...]:
    """The methods (None: all) with at least two runs of every task and as many of each."""
    chosen = suite.scores if methods is None else methods
    return tuple(Population.of(method, suite.scores[method]) for method in chosen if is_full(suite.scores[method]))


def is_full(scores: Matrix) -> bool:
    """Whether there are several runs and none is missing."""
    return len(scores) > 1 and bool(np.isfinite(scores).all())


def agents(suite: Suite) -> tuple[Population, ...]:
    """The papers' own agents and our complete runs of them."""
    return populations(suite, agents_and_ours(suite))


def agents_and_ours(suite: Suite) -> list[str]:
    """The papers' agents and our complete runs of them, also those with fewer runs of some games."""
    ours = [name for name in suite.scores if naming.is_ours(name) and naming.base_method(name) in AGENTS]
    return [name for name in (*AGENTS, *ours) if name in suite.scores]


def large(context: Context) -> tuple[Population, ...]:
    """The published methods with so many runs that these can stand for the truth."""
    return tuple(each for each in populations(context.suites[ATARI], published(context)) if each.runs >= MANY_RUNS)


def published(context: Context) -> list[str]:
    """The methods on Atari that are neither ours nor from a file dropped in."""
    return [
        name for name in context.suites[ATARI].scores if not naming.is_ours(name) and name not in context.contributed
    ]


def left_out(context: Context, methods: Iterable[str], suite: str = ATARI) -> str:
    """What a caption ends with: which methods of the suite belong there and are not shown, with what sets them apart,
    as in `` Left out: X (3 to 5 runs a game).``; "" if there are none."""
    groups: dict[str, list[str]] = {}
    for method in methods:
        origin = "contributed, " if method in context.contributed else ""
        groups.setdefault(origin + runs_a_game(context.suites[suite].scores[method]), []).append(brief_label(method))
    said = "; ".join(f"{naming.listed(names)} ({kind})" for kind, names in groups.items())
    return f" Left out: {said}." if said else ""


def runs_a_game(scores: Matrix) -> str:
    """``5 runs a game``, ``3 to 5 runs a game``."""
    counts = metrics.run_counts(scores)
    fewest, most = int(counts.min()), int(counts.max())
    number = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{number} run{'s' if most > 1 else ''} a game"


def agents_left_out(context: Context) -> str:
    """``left_out`` of the agents and our runs of them that are no population."""
    suite = context.suites[ATARI]
    return left_out(context, [name for name in agents_and_ours(suite) if not is_full(suite.scores[name])])


def draw_independent(scores: Matrix, generator: np.random.Generator, samples: int, runs: int) -> Samples:
    """``samples`` times ``runs`` runs of every task, drawn with replacement: independent runs of that population."""
    population, tasks = scores.shape
    drawn = generator.integers(0, population, size=(samples, tasks, runs))
    return np.take_along_axis(scores.T[None], drawn, axis=2)


def draw_subsets(scores: Matrix, generator: np.random.Generator, samples: int, runs: int) -> Samples:
    """``samples`` times ``runs`` different runs of every task: what a smaller experiment would have published."""
    population, tasks = scores.shape
    order = np.argsort(generator.random((samples, tasks, population)), axis=2)[:, :, :runs]
    return np.take_along_axis(scores.T[None], order, axis=2)


def in_two_lines(method: str) -> str:
    """The label of a narrow figure: what is said of our runs in brackets goes below their name."""
    return naming.shown(method, separator="\n")
