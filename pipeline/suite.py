"""Activate a suite: ``python -m pipeline.suite atari100k`` writes ``pipeline/grid.yaml``.

The methods' dvc.yaml take their stages from that file; what these depend on is written, too (``pipeline.inputs``).

A suite (``pipeline/suites/<name>.yaml``) says what is trained: a scale and, per method and stage group, the values of
the group's matrix::

    description: IRIS on two Atari games, everything shrunk.
    scale: smoke
    iris:
      atari: {tasks: [Breakout, Pong], seeds: [0, 1]}

The group ``any`` takes tasks by their whole names: ``any: {tasks: [gym/CartPole-v1], seeds: [0]}``. Variants that begin
with a tokenizer of another stage are moved into groups of their own, whose stages depend on it.

``include: [other, ...]`` takes over the groups of other suites, a run that several of them list once. Groups that a
suite does not mention are empty.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pipeline import inputs
from pipeline.plan import pipeline_folder, prefix_of, runs_of
from pipeline.preflight import summary
from tokenworlds.cli import exit_status, print_error
from tokenworlds.config import PLACEHOLDERS, Scale, known_methods, project_root
from tokenworlds.config.yaml_files import line_of, read_mapping
from tokenworlds.envs import check_task, known_tasks
from tokenworlds.errors import UserError, excerpt, near_matches
from tokenworlds.files import write_atomic

Groups = dict[str, dict[str, dict[str, list[Any]]]]
"""method -> stage group -> axis of the matrix -> values."""

HIGHEST_SEED = 2**32 - 1

HEADER = """\
# The active suite. Written by `make suite SUITE={name}` (python -m pipeline.suite {name}) from
# pipeline/suites/{name}.yaml: change that file, not this one. Empty lists are groups that the suite does not train.
"""


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


def known_variants(method: str) -> list[str]:
    name = f"pipeline/{method}/params.yaml"
    return [str(variant) for variant in read_mapping(project_root() / name, name).get("variants") or {}]


def read_suite(name: str, including: tuple[str, ...] = ()) -> tuple[dict[str, Any], Groups]:
    """The ``description`` and ``scale`` of a suite, and its groups with those of the suites that it includes.

    Args:
        including: suites on whose behalf this one is read.

    Raises:
        UserError: an unknown name, or a mistake in a suite, with file and line.
    """
    if name not in known_suites():
        hint = near_matches(Path(str(name)).stem, known_suites())
        raise UserError(f"unknown suite '{excerpt(name, 60)}': {hint}")
    shown = f"pipeline/suites/{name}.yaml"
    content = read_mapping(pipeline_folder() / "suites" / f"{name}.yaml", shown)
    head = {key: content.get(key) for key in ("description", "scale", "include")}
    if str(head["scale"]) not in Scale.__members__:
        raise _mistake(
            name, ("scale",), f"scale is {excerpt(head['scale'])}; it must be one of {', '.join(Scale.__members__)}."
        )
    if not isinstance(head["description"], str | None):
        raise _mistake(name, ("description",), "description must be a text.")
    groups: Groups = {}
    for included in _included(name, head["include"], including):
        included_head, included_groups = read_suite(included, (*including, name))
        if included_head["scale"] != head["scale"]:
            raise _mistake(
                name,
                ("include",),
                f"it ({head['scale']}) includes '{included}' of another scale ({included_head['scale']}).",
            )
        _add(groups, included_groups, name)
    _add(groups, {key: value for key, value in content.items() if key not in head}, name)
    _refuse_twice(groups, name)
    return head, groups


def _included(name: str, names: Any, including: tuple[str, ...]) -> list[str]:
    if not isinstance(names, list | None):
        raise _mistake(name, ("include",), f"include must be a list of suites, not {excerpt(names)}.")
    for included in names or []:
        if included in (*including, name):
            path = " -> ".join((*including, name, included))
            raise _mistake(name, ("include",), f"it includes itself ({excerpt(path, 100)}): take '{included}' out.")
    return names or []


def _mistake(suite: str, keys: tuple[str, ...], sentence: str) -> UserError:
    """A mistake in a suite, with the line of the value that ``keys`` lead to."""
    line = line_of(pipeline_folder() / "suites" / f"{suite}.yaml", [str(key) for key in keys])
    place = f"pipeline/suites/{suite}.yaml" + (f" line {line}" if line else "")
    return UserError(f"{place}: {sentence}")


def _add(groups: Groups, more: Mapping[Any, Any], suite: str) -> None:
    """Add ``more`` to ``groups`` after checking that the pipeline knows every name in it."""
    known = known_groups()
    for method, method_groups in more.items():
        if method not in known:
            raise _mistake(suite, (method,), f"unknown method '{excerpt(method)}': {near_matches(str(method), known)}")
        if not isinstance(method_groups, Mapping):
            raise _mistake(
                suite, (method,), f"{method} must hold groups (group: {{tasks: [...]}}), not {method_groups!r:.40}."
            )
        for group, axes in method_groups.items():
            keys = (method, group)
            if group not in known[method]:
                hint = near_matches(str(group), known[method])
                raise _mistake(suite, keys, f"{method} has no group '{excerpt(group)}': {hint}")
            wanted = ", ".join(known[method][group])
            if not isinstance(axes, Mapping) or set(axes) != set(known[method][group]):
                given = ", ".join(map(str, axes)) if isinstance(axes, Mapping) else str(axes)
                raise _mistake(suite, keys, f"{method}.{group} gives {excerpt(given, 60)}; it needs {wanted}.")
            for axis, values in axes.items():
                _check_axis(suite, (method, group, axis), values)
            united = _united(groups.setdefault(method, {}).get(group, axes), axes)
            if united is None:
                raise _mistake(
                    suite,
                    keys,
                    f"{method}.{group} stands in two suites, and together they are no matrix of {wanted}: "
                    "give both the same but for one of these.",
                )
            groups[method][group] = united


def _united(first: Mapping[str, list[Any]], second: Mapping[str, list[Any]]) -> dict[str, list[Any]] | None:
    """The axes of one group that has the runs of both, each once; None where a matrix of all values has others, too."""
    united = {axis: list(dict.fromkeys([*values, *second[axis]])) for axis, values in first.items()}
    both = {run for axes in (first, second) for run in itertools.product(*(axes[axis] for axis in united))}
    return united if both == {*itertools.product(*united.values())} else None


def _refuse_twice(groups: Groups, suite: str) -> None:
    """Refuse a run of two groups, whose stages would have the same outputs."""
    for method, found in groups.items():
        trained: dict[str, str] = {}
        for group, axes in found.items():
            for run in runs_of(method, group, axes, ""):
                if (other := trained.setdefault(run.name, group)) != group:
                    raise _mistake(
                        suite,
                        (method, group),
                        f"{excerpt(run.name, 80)} is in the groups {other} and {group}: take it out of one.",
                    )


def _check_axis(suite: str, keys: tuple[str, str, str], values: Any) -> None:
    """Refuse tasks, variants and seeds that no run can have."""
    method, group, axis = keys
    where = ".".join(keys)
    if not isinstance(values, list) or len({str(value) for value in values}) != len(values):
        raise _mistake(suite, keys, f"{where} must be a list without repetitions, not {excerpt(values)}.")
    check: dict[str, Callable[[Any], None]] = {
        "tasks": partial(_check_task, prefix_of(method, group)),
        "variants": partial(_check_variant, method),
        "seeds": _check_seed,
    }
    for value in values:
        try:
            check.get(axis, _check_name)(value)
        except UserError as error:
            raise _mistake(suite, keys, f"{where}: {error}") from error


def _check_task(prefix: str, task: Any) -> None:
    name = excerpt(task, 60)
    if prefix and name.startswith(prefix):
        raise UserError(f"tasks of this group are named without {prefix}: write {name.removeprefix(prefix)}.")
    known = [task.removeprefix(prefix) for task in known_tasks() if task.startswith(prefix)]
    if prefix and name not in known:
        raise UserError(f"unknown task '{name}': {near_matches(name, known)}")
    check_task(f"{prefix}{name}")


def _check_variant(method: str, variant: Any) -> None:
    if variant not in (known := known_variants(method)):
        raise UserError(f"unknown variant '{excerpt(variant)}' of {method}: {near_matches(str(variant), known)}")


def _check_seed(seed: Any) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= HIGHEST_SEED:
        raise UserError(f"{excerpt(seed)} is no seed: write whole numbers from 0 to {HIGHEST_SEED:,}.")


def _check_name(value: Any) -> None:
    if not isinstance(value, str | int) or not re.fullmatch(r"[\w.+-]+", str(value)):
        raise UserError(f"{excerpt(value)} is no name: use letters, digits and -.")


def group_of(method: str, variant: str) -> str | None:
    """The group for variants that begin with a tokenizer of another stage, on which theirs depend; None for others."""
    name = f"pipeline/{method}/params.yaml"
    settings = (read_mapping(project_root() / name, name).get("variants") or {}).get(variant) or {}
    if not any(mark in str(settings.get("initialization")) for mark in PLACEHOLDERS):
        return None
    return f"{(settings.get('pretraining') or {}).get('source', 'same_game')}_variants"


def by_beginning(method: str, groups: dict[str, dict[str, list[Any]]], suite: str) -> dict[str, dict[str, list[Any]]]:
    """The groups of a suite, with variants that begin with the tokenizer of another stage in groups of their own.

    Raises:
        UserError: two groups have such variants that are not the same, or for other seeds: they are no matrix.
    """
    found = {group: dict(axes) for group, axes in groups.items()}
    known = known_groups().get(method, {})
    for group, axes in groups.items():
        chosen: dict[str, list[Any]] = {}
        for variant in axes.get("variants", []):
            if (target := group_of(method, variant)) in known and target != group:
                chosen.setdefault(str(target), []).append(variant)
        for target, variants in chosen.items():
            tasks = [f"{prefix_of(method, group)}{task}" for task in axes["tasks"]]
            moved = {"variants": variants, "tasks": tasks, "seeds": axes["seeds"]}
            there = found.get(target) or {"variants": variants, "tasks": [], "seeds": axes["seeds"]}
            if any(there[axis] != moved[axis] for axis in ("variants", "seeds")):
                raise _mistake(suite, (method, group), f"{group} and another group have different {target}.")
            found[target] = there | {"tasks": there["tasks"] + tasks}
        moved_variants = [variant for variants in chosen.values() for variant in variants]
        if moved_variants:
            found[group]["variants"] = [one for one in axes["variants"] if one not in moved_variants]
    return found


def grid_text(name: str) -> str:
    """The content of ``grid.yaml`` for a suite: the same text for the same suite."""
    head, chosen = read_suite(name)
    chosen = {method: by_beginning(method, groups, name) for method, groups in chosen.items()}
    grid: dict[str, Any] = {"suite": name, "scale": head["scale"]}
    for method, groups in known_groups().items():
        grid[method] = {group: chosen.get(method, {}).get(group, axes) for group, axes in groups.items()}
    plain = json.loads(json.dumps({"grid": grid}))  # or YAML would refer to lists that several groups share
    return HEADER.format(name=name) + str(yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=140))


def count_runs(groups: Groups) -> int:
    """Number of runs that the groups ask for."""
    return sum(math.prod(map(len, axes.values())) for found in groups.values() for axes in found.values())


def activate(name: str) -> Path:
    """Write the grid of a suite."""
    path = pipeline_folder() / "grid.yaml"
    write_atomic(path, grid_text(name).encode())
    return path


def print_suites() -> int:
    """A line a suite; the exit status, 2 where one of them has a mistake."""
    width, status = max(map(len, known_suites())), 0
    for name in known_suites():
        try:
            head, groups = read_suite(name)
        except UserError as error:
            print_error(str(error))
            status = error.status
        else:
            print(f"{name:<{width}} {head['scale']:<6} {count_runs(groups):>6,} runs  {head['description'] or ''}")
    return status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="pipeline.suite", description="Choose which tasks and seeds `dvc repro` trains, and at which scale."
    )
    parser.add_argument("name", nargs="?", help="suite to activate (without it: list them)")
    parser.add_argument("--list", action="store_true", help="list the suites")
    options = parser.parse_args(arguments)
    if options.list or options.name is None:
        return print_suites()
    path = activate(options.name)
    inputs.write_all(known_methods())
    head, groups = read_suite(options.name)
    print(
        f"suite {options.name}: {count_runs(groups)} runs at {head['scale']} scale, written to {path}; "
        "train them with `make repro`."
    )
    print(summary())
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
