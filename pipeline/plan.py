"""The runs of the active suite, ``pipeline/grid.yaml``: which there are, which have scores, which one this is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.suite import family_of, pipeline_folder
from tokenworlds.config import RunConfig, identity_of, load, project_root
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError


@dataclass(frozen=True)
class Planned:
    """A run that a suite asks for."""

    method: str
    variant: str | None
    task: str
    seed: int

    @property
    def family(self) -> str:
        return self.task.partition("/")[0]

    @property
    def identity(self) -> str:
        """``<method>[+<variant>]/<task>/<seed>``."""
        return identity_of(self.method, self.variant, self.task, self.seed)

    @property
    def scores(self) -> Path:
        """The file that the run is done with."""
        return project_root() / "results" / "scores" / f"{self.identity}.json"

    def overrides(self, scale: str) -> list[str]:
        """What the run's stage says on the command line."""
        chosen = [f"method={self.method}", f"task={self.task}", f"seed={self.seed}", f"scale={scale}"]
        return chosen + ([f"variant={self.variant}"] if self.variant else [])

    def recorded_hash(self, scale: str) -> str | None:
        """The configuration's hash in the run's scores; None without scores of this scale."""
        try:
            record = json.loads(self.scores.read_bytes())
            return str(record["config_hash"]) if record["run"]["scale"] == scale else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_done(self, scale: str) -> bool:
        """Whether there are scores of this scale, and of the configuration that the run would have today. Whether its
        code has changed, DVC knows."""
        recorded = self.recorded_hash(scale)
        try:
            return recorded is not None and recorded == load(self.overrides(scale)).hash()
        except UserError:  # a configuration that cannot be, which is said elsewhere
            return True


@dataclass(frozen=True)
class Plan:
    """The active suite."""

    suite: str
    scale: str
    runs: tuple[Planned, ...]


def active_plan() -> Plan | None:
    """The runs in the order of the grid; None where no suite is active.

    Raises:
        UserError: the grid is damaged.
    """
    path = pipeline_folder() / "grid.yaml"
    if not path.exists():
        return None
    grid = read_mapping(path, "pipeline/grid.yaml").get("grid")
    try:
        assert isinstance(grid, Mapping)
        groups = {name: value for name, value in grid.items() if name not in ("suite", "scale")}
        runs = [
            run
            for method, method_groups in groups.items()
            for group, axes in method_groups.items()
            for run in _runs(method, group, axes)
        ]
        return Plan(str(grid["suite"]), str(grid["scale"]), tuple(runs))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            "pipeline/grid.yaml holds no suite with its scale and groups: write it anew with `make suite SUITE=...`."
        ) from None


def _runs(method: str, group: str, axes: Mapping[str, list[Any]]) -> list[Planned]:
    variants, tasks, seeds = axes.get("variants", [None]), axes["tasks"], axes["seeds"]
    if not (variants and tasks and seeds):
        return []
    family = family_of(method, group)
    return [
        Planned(method, variant, f"{family}/{task}", int(seed))
        for variant, task, seed in itertools.product(variants, tasks, seeds)
    ]


def of_config(config: RunConfig) -> Planned:
    return Planned(config.method, config.variant, config.task, config.seed)


def active_suite(config: RunConfig) -> str | None:
    """The active suite, if the run is one of its runs; started by DVC or by hand makes no difference."""
    plan = active_plan()
    is_member = plan is not None and plan.scale == config.scale.name and of_config(config) in plan.runs
    return plan.suite if plan is not None and is_member else None


def position(config: RunConfig) -> str | None:
    """``run 5 of 14 of suite smoke``: how many other runs of the suite have scores, and this one; None for a run that
    is none of the suite's. Scores that DVC will make anew count until it begins with them."""
    if active_suite(config) is None or (plan := active_plan()) is None:
        return None
    done = sum(run.recorded_hash(plan.scale) is not None for run in plan.runs if run != of_config(config))
    return f"run {done + 1} of {len(plan.runs)} of suite {plan.suite}"
