"""Write what the runs of methods depend on: ``python -m pipeline.inputs rem`` (without a method: of all).

A training stage of DVC depends on two small files, which the stage ``inputs`` of its method writes below
``results/inputs/<method>/`` for every variant and task of the active suite: ``<task>.code`` has a digest of every
module that can change a result, ``<task>.settings`` the resolved configuration without seed, task and what changes no
result. `git diff results/inputs` shows why a run is stale.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.plan import active_plan
from tokenworlds.cli import exit_status
from tokenworlds.config import RunConfig, TokenRunConfig, known_methods, load, pretraining_run, project_root, to_dict
from tokenworlds.config.run import ALTERNATIVES, content, of_tokenizer
from tokenworlds.config.values import flat
from tokenworlds.errors import UserError, excerpt, near_matches
from tokenworlds.files import write_atomic
from tokenworlds.runs.identity import RunId
from tokenworlds.tracking.closure import closure

FOLDER = Path("results/inputs")
HEAD = "# Written by `python -m pipeline.inputs {}`; docs/runs.md says what for.\n"
START, PRETRAINING = "pipeline.train", "pipeline.pretrain"


def files_of(run: RunId) -> tuple[Path, Path]:
    """The files that a run depends on, relative to the project: its code, its settings. All seeds share them."""
    place = FOLDER / run.method / f"+{run.variant}" / run.task if run.variant else FOLDER / run.method / run.task
    return place.with_name(f"{place.name}.code"), place.with_name(f"{place.name}.settings")


def pretraining_files_of(config: RunConfig) -> tuple[Path, Path]:
    """The files that the pretraining of the tokenizer of a run depends on; all variants and seeds share them."""
    source = config.pretraining.source.name if isinstance(config, TokenRunConfig) and config.pretraining else ""
    place = FOLDER / config.method / "tokenizers" / source / config.task
    return place.with_name(f"{place.name}.code"), place.with_name(f"{place.name}.settings")


def pretraining_texts_of(config: RunConfig) -> tuple[str, str]:
    """What these files hold."""
    own = pretraining_run(config)
    settings = of_tokenizer(_settings(own))
    choices = _settings(own) | {"benchmark": RunId.of_config(config).benchmark}
    return (
        _text(config.method, closure(project_root(), PRETRAINING, choices)),
        _text(config.method, {key: json.dumps(value, default=str) for key, value in settings.items()}),
    )


def texts_of(config: RunConfig) -> tuple[str, str]:
    """What these files hold for a configuration.

    Raises:
        UserError: the code imports modules in a way that cannot be followed.
    """
    settings = _settings(config)
    choices = settings | {"benchmark": RunId.of_config(config).benchmark}
    return (
        _text(config.method, closure(project_root(), START, choices)),
        _text(config.method, {key: json.dumps(value, default=str) for key, value in settings.items()}),
    )


def _text(method: str, lines: Mapping[str, str]) -> str:
    return HEAD.format(method) + "".join(f"{key}: {value}\n" for key, value in sorted(lines.items()))


def _settings(config: RunConfig) -> dict[str, Any]:
    """All that decides about the result by dotted key, but task and seed: the values, and what sections derive from
    theirs. The sections of alternatives that are not chosen, such as those of other backbones, are left out."""
    runtime = {name: getattr(config.runtime, name) for name in ("deterministic", "measured_episodes")}
    plain = to_dict(config)
    values = content(plain) | {"runtime": runtime}
    if config.initialization is not None and config.initialization.has_placeholders:
        values["initialization"] = plain["initialization"]  # what is there, DVC compares for every task and seed
    settings = flat(values) | dict(_derived(config, values))
    unused = tuple(f"{place}.{name}." for place, name in _not_chosen(config))
    return {key: value for key, value in settings.items() if key not in ("task", "seed") and not key.startswith(unused)}


def _derived(section: Any, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Properties of the sections that have values, for their code is not among the digests."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            part = getattr(section, name)
            for key, member in inspect.getmembers(type(part)):
                if isinstance(member, property | cached_property):
                    yield f"{prefix}{name}.{key}", getattr(part, key)
            yield from _derived(part, value, f"{prefix}{name}.")


def _not_chosen(config: RunConfig) -> Iterator[tuple[str, str]]:
    for choice, place in ALTERNATIVES.items():
        chosen: Any = config
        for name in choice.split("."):
            chosen = getattr(chosen, name, None)
        if isinstance(chosen, Enum):
            yield from ((place, name) for name in type(chosen).__members__ if name != chosen.name)


def write(method: str, runs: Iterable[RunId]) -> list[UserError]:
    """Write the files of a method's runs, one of all seeds, where they are not as they should be, and remove others.

    Returns:
        What is wrong with the configurations that are refused. Their files hold it, so that other runs can begin.
    """
    wanted: dict[Path, str] = {}
    errors: list[UserError] = []
    for run in runs:
        try:
            config = load(run.overrides())
        except UserError as error:
            errors.append(error)
            texts = (_text(method, {"refused": excerpt(str(error), 300)}),) * 2
        else:
            texts = texts_of(config)
            if isinstance(config, TokenRunConfig) and config.pretraining is not None:
                try:
                    wanted |= _same(wanted, dict(zip(pretraining_files_of(config), pretraining_texts_of(config))))
                except UserError as error:
                    errors.append(error)
        wanted |= dict(zip(files_of(run), texts, strict=True))
    for name, text in wanted.items():
        if not _holds(name, text):
            (project_root() / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(project_root() / name, text.encode())
    _remove_others(method, {project_root() / name for name in wanted})
    return errors


def _same(known: Mapping[Path, str], found: Mapping[Path, str]) -> Mapping[Path, str]:
    """Refuse two ways to pretrain the same tokenizer."""
    for name, text in found.items():
        if known.get(name, text) != text:
            raise UserError(
                f"{name} would hold two different settings: variants that begin with one pretrained tokenizer must "
                "agree about it; give one of them another pretraining.source."
            )
    return found


def _holds(name: Path, text: str) -> bool:
    path = project_root() / name
    return path.is_file() and path.read_bytes() == text.encode()


def _remove_others(method: str, wanted: set[Path]) -> None:
    """Remove files of runs that the suite no longer has, and folders that are empty without them; nothing that this
    program did not make."""
    folder = project_root() / FOLDER / method
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted and path.suffix in (".code", ".settings") and _is_own(path, method):
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _is_own(path: Path, method: str) -> bool:
    return path.read_bytes().startswith(HEAD.format(method).encode())


def write_all(methods: Iterable[str]) -> list[UserError]:
    """Write the files of the active suite's runs of some methods.

    Returns:
        Of methods without any run that is not refused, what is wrong with the first.
    """
    plan = active_plan()
    found = []
    for method in methods:
        runs = {files_of(run): run for run in (plan.runs if plan else ()) if run.method == method}
        errors = write(method, runs.values())
        found += errors[:1] if len(errors) == len(runs) else []
    return found


def require_current(config: RunConfig) -> None:
    """Refuse to train as a stage of DVC what its files do not describe: DVC would record the run under other code or
    settings. That happens where the stage ``inputs`` is left out, or when something was edited since.

    Raises:
        UserError: the files of the run hold something else, or are missing.
    """
    if _is_stage(config):
        _require_held(config.method, files_of(RunId.of_config(config)), texts_of(config))


def require_current_pretraining(config: RunConfig) -> None:
    """Refuse likewise to pretrain a tokenizer.

    Raises:
        UserError: its files hold something else, or are missing.
    """
    if _is_stage(config):
        _require_held(config.method, pretraining_files_of(config), pretraining_texts_of(config))


def _is_stage(config: RunConfig) -> bool:
    return os.environ.get("DVC_STAGE", "").startswith(f"pipeline/{config.method}/dvc.yaml:") and config.out is None


def _require_held(method: str, names: Iterable[Path], texts: Iterable[str]) -> None:
    for name, text in zip(names, texts, strict=True):
        if not _holds(name, text):
            raise UserError(
                f"{name} is not what this code and these settings are, so that DVC would record another run: "
                f"run `python -m pipeline.inputs {method}`, then `dvc repro` again."
            )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="pipeline.inputs", description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="of the active suite (default: all)")
    methods = parser.parse_args(arguments).methods or known_methods()
    for method in methods:
        if method not in known_methods():
            raise UserError(f"unknown method '{excerpt(method)}': {near_matches(method, known_methods())}")
    for error in write_all(methods):
        raise error  # before DVC removes the outputs of a stage that cannot run


if __name__ == "__main__":
    sys.exit(exit_status(main))
