"""The input of every item of the analysis: suites of scores, our runs, and aggregates computed at most once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data import aggregates
from analysis.data.choice import Choice, resolved, subject_suites
from analysis.data.contributed import (
    Contribution,
    contributed_files,
    read_contributions,
    register_looks,
    with_contributions,
)
from analysis.data.defects import Defect, read_defects
from analysis.data.identity import RunGroupId
from analysis.data.measures import of_runs
from analysis.data.notes import run_notes, without_human_notes
from analysis.data.published import published_suites
from analysis.data.runs import RunGroup, last_collected, read_beside, read_runs, with_runs
from analysis.data.scores import References, Suite, read_references
from analysis.options import Options, read_options
from analysis.stats.engines import Engine, make_engine
from analysis.stats.metrics import Matrix, is_ragged
from analysis.stats.rliable_engine import refuse_ragged


@dataclass(frozen=True)
class Context:
    """Scores at hand and how to resample them."""

    references: References
    suites: dict[str, Suite]
    groups: list[RunGroup]
    engine: Engine
    options: Options
    cache: Path | None = None
    achievements: pd.DataFrame = field(default_factory=lambda: read_beside(None, "achievements.csv"))
    evaluations: pd.DataFrame = field(default_factory=lambda: read_beside(None, "evaluations.csv"))
    collected: Path | None = None  # the table of our runs' scores; the other tables are beside it
    contributed: Mapping[str, Contribution] = field(default_factory=dict)  # methods from files dropped in, by label
    choice: Choice = field(default_factory=Choice)  # the methods that are asked for

    def comparable(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows (with method, variant, scale and task) without those of runs of more steps than their own
        (``RunGroup.beyond``)."""
        apart = {(group.id, task) for group in self.groups for task in group.beyond}
        keys = frame[["method", "variant", "scale", "task"]].itertuples(index=False)
        return frame[np.array([(RunGroupId(*key[:-1]), key[-1]) not in apart for key in keys], dtype=bool)]

    @cached_property
    def aggregates(self) -> aggregates.Aggregates:
        """All aggregates: from the cache file when one is given, else each computed when it is first looked up."""
        if self.cache is not None:
            return aggregates.read(self.cache, self.suites, self.engine, self.options)
        return aggregates.compute(self.suites, self.engine, self.options)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Cost of our runs (``columns.COSTS``); read when first asked for, like the other tables."""
        return read_beside(self.collected, "costs.csv")

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Losses of our runs during training (``columns.LOSSES``)."""
        return read_beside(self.collected, "losses.csv")

    @cached_property
    def world_models(self) -> pd.DataFrame:
        """The quality of our runs' world models on every episode (``columns.WORLD_MODEL``)."""
        return read_beside(self.collected, "world_model.csv")

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Tokenizers, outcomes and costs of our runs (``columns.MEASURES``)."""
        return read_beside(self.collected, "measures.csv")

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Every number of our runs (``measures.of_runs``)."""
        return of_runs(self.groups, self.world_models, self.measures)

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """Every final episode of our runs (``columns.EPISODES``)."""
        return read_beside(self.collected, "episodes.csv")

    @cached_property
    def known_defects(self) -> tuple[Defect, ...]:
        """All declared defects of the published scores, remarks included."""
        return read_defects()

    @cached_property
    def origins(self) -> dict[str, str]:
        """Where the scores of each contributed method come from."""
        return {label: contribution.origin for label, contribution in self.contributed.items()}

    def defects_of(self, methods: Collection[str], tasks: Collection[str]) -> tuple[Defect, ...]:
        """Notes to print where these methods are shown on these tasks: the defects of published scores, and notes on
        methods with fewer runs on some tasks, with none on others, or from a file that was dropped in."""
        defects = (
            defect for defect in self.known_defects if defect.kind == "defect" and defect.concerns(methods, tasks)
        )
        notes = run_notes(self.suites.values(), self.origins, methods, tasks)
        return (*defects, *notes, *without_human_notes(self.groups, methods))


def make_context(
    runs: Path | None = None,
    engine: str = "fast",
    repetitions: int | None = None,
    cache: Path | None = None,
    scores: Sequence[Path] = (),
    choice: Choice | None = None,
    seed: int | None = None,
) -> Context:
    """Read published scores, those dropped in (``results/data/contributed`` and the files ``scores``) and our runs;
    ``runs`` None means those collected last, if any; ``seed`` None, that of ``analysis/params.yaml``. rliable gets the
    scores as they are stored, with their rounding errors: the numbers are then those that it would give."""
    references = replace(read_references(), as_stored=engine == "rliable")
    contributed = read_contributions([*contributed_files(), *scores])
    published = published_suites(references=references)
    if engine == "rliable":  # it takes full matrices only: published methods without some runs stay in tables of games
        published = {name: replace(suite, scores=_full(suite.scores)) for name, suite in published.items()}
    suites = with_contributions(published, contributed, references)
    register_looks(contributed)
    groups = read_runs(runs, references)
    suites = with_runs(suites, groups, references)
    choice = resolved(choice or Choice(), suites, contributed, groups)
    suites |= {suite.name: suite for suite in subject_suites(choice, suites, contributed)}
    if engine == "rliable":  # before the first of many minutes; published scores only where they are shown
        added = {*contributed, *(group.label for group in groups)}
        for suite in suites.values():
            for method in added & suite.scores.keys():
                refuse_ragged(suite.scores[method], f"{method} in {suite.name}: ")
    options = read_options().capped(repetitions).seeded(seed)
    collected = runs or last_collected()
    achievements, evaluations = (read_beside(collected, name) for name in ("achievements.csv", "evaluations.csv"))
    resampling = make_engine(engine), options, cache
    return Context(references, suites, groups, *resampling, achievements, evaluations, collected, contributed, choice)


def _full(scores: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """The methods with the same number of runs of every task."""
    return {method: matrix for method, matrix in scores.items() if not is_ragged(matrix)}
