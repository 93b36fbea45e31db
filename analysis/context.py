"""What every item of the analysis works from: suites of scores, our runs, and aggregates computed at most once."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis import aggregates as aggregates_module
from analysis.aggregates import Aggregates, Engine, make_engine
from analysis.defects import Defect, read_defects
from analysis.options import Options, read_options
from analysis.published import published_suites
from analysis.runs import RunGroup, nothing_beside, read_achievements, read_evaluations, read_runs, with_runs
from analysis.scores import References, Suite, read_references


@dataclass(frozen=True)
class Context:
    """Scores at hand and how to resample them."""

    references: References
    suites: dict[str, Suite]
    groups: list[RunGroup]
    engine: Engine
    options: Options
    cache: Path | None = None
    achievements: pd.DataFrame = field(default_factory=lambda: nothing_beside()[0])
    evaluations: pd.DataFrame = field(default_factory=lambda: nothing_beside()[1])

    @cached_property
    def aggregates(self) -> Aggregates:
        """All aggregates: from the cache file when one is given, else computed now."""
        if self.cache is not None:
            return aggregates_module.read(self.cache, self.suites)
        return aggregates_module.compute(self.suites, self.engine, self.options)

    @cached_property
    def known_defects(self) -> tuple[Defect, ...]:
        """Everything declared beside the published scores, remarks included."""
        return read_defects()

    def defects_of(self, methods: Collection[str], tasks: Collection[str]) -> tuple[Defect, ...]:
        """The defects that must be said where these published methods are shown on these tasks."""
        return tuple(
            defect for defect in self.known_defects if defect.kind == "defect" and defect.concerns(methods, tasks)
        )


def make_context(
    runs: Path | None = None, engine: str = "fast", repetitions: int | None = None, cache: Path | None = None
) -> Context:
    """Read published scores and our runs; ``runs`` None means those collected last, if any."""
    references = read_references()
    groups = read_runs(runs, references)
    suites = with_runs(published_suites(), groups, references)
    options = read_options().capped(repetitions)
    companions = read_achievements(runs), read_evaluations(runs)
    return Context(references, suites, groups, make_engine(engine), options, cache, *companions)
