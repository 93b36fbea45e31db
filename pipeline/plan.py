"""The runs of the active suite, ``pipeline/grid.yaml``: which there are, which have scores, which one this is."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenworlds.config import RunConfig, load, project_root
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import scores_folder


@dataclass(frozen=True)
class Plan:
    """The active suite."""

    suite: str
    scale: str
    runs: tuple[RunId, ...]


def pipeline_folder() -> Path:
    """Folder of the methods' stages and values, the suites and the grid."""
    return project_root() / "pipeline"


def family_of(method: str, group: str) -> str:
    """The benchmark that a stage group trains on, from the command in the method's ``dvc.yaml``."""
    name = f"pipeline/{method}/dvc.yaml"
    stages = read_mapping(project_root() / name, name).get("stages") or {}
    if found := re.search(r"task=(\w+)/", str(stages[group])):
        return found[1]
    raise UserError(f"{name}: the stages {group} name no task=<benchmark>/...; add it to their cmd.")


def active_plan() -> Plan | None:
    """The runs in the order of the grid; None where no suite is active.

    Raises:
        UserError: the grid is damaged.
    """
    path = pipeline_folder() / "grid.yaml"
    return plan_of(read_mapping(path, "pipeline/grid.yaml").get("grid")) if path.exists() else None


def plan_of(grid: Any) -> Plan:
    """The runs of a suite, in the order of its grid (the content of ``grid.yaml``).

    Raises:
        UserError: the grid is damaged.
    """
    try:
        assert isinstance(grid, Mapping)
        scale = str(grid["scale"])
        runs = [
            run
            for method, groups in grid.items()
            if method not in ("suite", "scale")
            for group, axes in groups.items()
            for run in _runs(method, group, axes, scale)
        ]
        return Plan(str(grid["suite"]), scale, tuple(runs))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            "pipeline/grid.yaml holds no suite with its scale and groups: write it anew with `make suite SUITE=...`."
        ) from None


def _runs(method: str, group: str, axes: Mapping[str, list[Any]], scale: str) -> list[RunId]:
    chosen = list(itertools.product(axes.get("variants", [""]), axes["tasks"], axes["seeds"]))
    family = family_of(method, group) if chosen else ""
    return [RunId(method, variant, f"{family}/{task}", int(seed), scale) for variant, task, seed in chosen]


def scores_of(run: RunId) -> Path:
    """The file with which the run is done."""
    return scores_folder() / f"{run.name}.json"


def recorded_hash(run: RunId) -> str | None:
    """The configuration's hash in the run's scores; None without scores of its scale."""
    try:
        record = json.loads(scores_of(run).read_bytes())
        return str(record["config_hash"]) if record["run"]["scale"] == run.scale else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_done(run: RunId) -> bool:
    """Whether there are scores of the configuration that the run would have today. DVC knows whether its code has
    changed."""
    recorded = recorded_hash(run)
    try:
        return recorded is not None and recorded == load(run.overrides()).hash()
    except UserError:  # an invalid configuration, which training and preflight report
        return True


def active_suite(config: RunConfig) -> str | None:
    """The active suite, if the run is one of its runs; started by DVC or by hand makes no difference."""
    plan = active_plan()
    return plan.suite if plan is not None and RunId.of_config(config) in plan.runs else None


def position(config: RunConfig) -> str | None:
    """``run 5 of 14 of suite smoke``: how many other runs of the suite have scores, and this one; None for a run of no
    suite. Scores that DVC will make anew count until it begins with them."""
    own, plan = RunId.of_config(config), active_plan()
    if plan is None or own not in plan.runs:
        return None
    done = sum(recorded_hash(run) is not None for run in plan.runs if run != own)
    return f"run {done + 1} of {len(plan.runs)} of suite {plan.suite}"
