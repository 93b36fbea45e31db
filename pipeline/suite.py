"""Activate a suite: ``python -m pipeline.suite atari100k`` writes ``pipeline/grid.yaml``.

The methods' dvc.yaml take their stages from that file.

A suite (``pipeline/suites/<name>.yaml``) says what is trained: a scale and, per method and stage group, the values of
the group's matrix::

    description: IRIS on two Atari games, everything shrunk.
    scale: smoke
    iris:
      atari: {tasks: [Breakout, Pong], seeds: [0, 1]}

``include: [other, ...]`` takes over the groups of other suites. Groups that a suite does not mention are empty.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.console import exit_status
from tokenworlds.config import RunConfig, Scale, project_root
from tokenworlds.errors import UserError, near_matches

Groups = dict[str, dict[str, dict[str, list[Any]]]]
"""method -> stage group -> axis of the matrix -> values."""

HEADER = """\
# The active suite. Written by `make suite SUITE={name}` (python -m pipeline.suite {name}) from
# pipeline/suites/{name}.yaml: change that file, not this one. Empty lists are groups that the suite does not train.
"""


def pipeline_folder() -> Path:
    return project_root() / "pipeline"


def known_suites() -> list[str]:
    return sorted(path.stem for path in (pipeline_folder() / "suites").glob("*.yaml"))


def known_groups() -> Groups:
    """The groups, empty, that the methods' dvc.yaml refer to as ``${grid.<method>.<group>.<axis>}``."""
    groups: Groups = {}
    for path in sorted(pipeline_folder().glob("*/dvc.yaml")):
        for reference in re.findall(r"\$\{grid\.([^}]+)\}", path.read_text()):
            if reference.count(".") == 2:
                method, group, axis = reference.split(".")
                groups.setdefault(method, {}).setdefault(group, {})[axis] = []
    return groups


def read_suite(name: str) -> tuple[dict[str, Any], Groups]:
    """The ``description`` and ``scale`` of a suite, and its groups with those of the suites that it includes."""
    if name not in known_suites():
        raise UserError(f"unknown suite '{name}': {near_matches(name, known_suites())}")
    try:
        content = yaml.safe_load((pipeline_folder() / "suites" / f"{name}.yaml").read_text())
    except yaml.YAMLError as error:
        raise UserError(f"pipeline/suites/{name}.yaml is no valid YAML: {error}.") from error
    head = {key: content.pop(key, None) for key in ("description", "scale", "include")}
    if head["scale"] not in Scale.__members__:
        raise UserError(f"suite '{name}': scale is {head['scale']}; it must be one of {', '.join(Scale.__members__)}.")
    groups: Groups = {}
    for included in head["include"] or []:
        included_head, included_groups = read_suite(included)
        if included_head["scale"] != head["scale"]:
            raise UserError(
                f"suite '{name}' ({head['scale']}) includes '{included}' of another scale ({included_head['scale']})."
            )
        _add(groups, included_groups, name)
    _add(groups, content, name)
    return head, groups


def _add(groups: Groups, more: Groups, suite: str) -> None:
    """Add ``more`` to ``groups`` after checking that the pipeline knows every name in it."""
    known = known_groups()
    for method, method_groups in more.items():
        if method not in known:
            raise UserError(f"suite '{suite}': unknown method '{method}': {near_matches(method, known)}")
        for group, axes in method_groups.items():
            where = f"suite '{suite}': {method}.{group}"
            if group not in known[method]:
                raise UserError(
                    f"suite '{suite}': {method} has no group '{group}': {near_matches(group, known[method])}"
                )
            if set(axes) != set(known[method][group]):
                raise UserError(f"{where} gives {', '.join(axes)}; it needs {', '.join(known[method][group])}.")
            if group in groups.get(method, {}):
                raise UserError(f"{where} stands in two included suites: give it in one of them.")
            for axis, values in axes.items():
                if not isinstance(values, list) or len(set(values)) != len(values):
                    raise UserError(f"{where}.{axis} must be a list without repetitions, not {values}.")
            groups.setdefault(method, {})[group] = axes


def grid_text(name: str) -> str:
    """The content of ``grid.yaml`` for a suite: the same text for the same suite."""
    head, chosen = read_suite(name)
    grid: dict[str, Any] = {"suite": name, "scale": head["scale"]}
    for method, groups in known_groups().items():
        grid[method] = {group: chosen.get(method, {}).get(group, axes) for group, axes in groups.items()}
    body = yaml.dump({"grid": grid}, Dumper=_NoAliases, sort_keys=False, default_flow_style=None, width=140)
    return HEADER.format(name=name) + body


class _NoAliases(yaml.SafeDumper):
    """Lists that several groups share are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def count_runs(groups: Groups) -> int:
    total = 0
    for method_groups in groups.values():
        for axes in method_groups.values():
            runs = 1
            for values in axes.values():
                runs *= len(values)
            total += runs
    return total


def active_suite(config: RunConfig) -> str | None:
    """The suite that a run belongs to: the active one when DVC started the run, none when it was started by hand."""
    path = pipeline_folder() / "grid.yaml"
    if "DVC_STAGE" not in os.environ or not path.exists():
        return None
    grid = yaml.safe_load(path.read_text())["grid"]
    return str(grid["suite"]) if grid["scale"] == config.scale.name else None


def activate(name: str) -> Path:
    """Write the grid of a suite."""
    text = grid_text(name)
    path = pipeline_folder() / "grid.yaml"
    path.write_text(text)
    return path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="pipeline.suite", description="Choose which tasks and seeds `dvc repro` trains, and at which scale."
    )
    parser.add_argument("name", nargs="?", help="suite to activate (without it: list them)")
    parser.add_argument("--list", action="store_true", help="list the suites")
    options = parser.parse_args(arguments)
    if options.list or options.name is None:
        for name in known_suites():
            head, groups = read_suite(name)
            print(f"{name:<12} {head['scale']:<6} {count_runs(groups):>5} runs  {head['description'] or ''}")
        return
    path = activate(options.name)
    head, groups = read_suite(options.name)
    print(
        f"suite {options.name}: {count_runs(groups)} runs at {head['scale']} scale, written to {path}; "
        "train them with `make repro`."
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
