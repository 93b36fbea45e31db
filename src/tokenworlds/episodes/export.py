"""Episodes as Minari data sets, which other libraries read.

One data set a kind of episode, ``<method>/<task>/<seed>/<kind>-v0``, in a new folder that ``MINARI_DATASETS_PATH`` then
names. Arrays are those of the episodes, uncompressed and bit for bit; the spaces are those of the environment.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tokenworlds import envs
from tokenworlds.config import RunConfig, load_written
from tokenworlds.episodes.episode import Episode, list_episodes, load
from tokenworlds.errors import UserError, installing
from tokenworlds.files import new_folder, shortened
from tokenworlds.runs.layout import CONFIG, ENVIRONMENT, EPISODES, KINDS, REPLAY, TRAIN, require_new

PATH = "MINARI_DATASETS_PATH"
PACKAGES = {  # of a benchmark, beside gymnasium
    "atari": ("ale-py",),
    "crafter": ("crafter", "opensimplex"),
    "craftax": ("craftax", "jax"),
    "dmc": ("dm-control", "mujoco"),
    "minigrid": ("minigrid",),
}
ABOUT = (
    "{kind} episodes of {method} on {task}, seed {seed}. An episode that ends without a termination was cut, which its "
    "last truncation says, or was still running. Where the agent's replay holds no observation after the last step, "
    "the last one is repeated."
)


def folders(run: Path) -> dict[str, Path]:
    """The folders of a run's episodes by kind, those that hold any."""
    places = {kind: run / EPISODES / kind for kind in KINDS} | {REPLAY: run / REPLAY}
    return {kind: place for kind, place in places.items() if list_episodes(place)}


def export_minari(run: Path, out: Path, kinds: Sequence[str] = ()) -> list[str]:
    """Write episodes of a run as Minari data sets.

    Args:
        run: folder of a finished run.
        out: new folder, complete or absent.
        kinds: ``train``, ``test``, ``imagined`` or ``replay``; a kind counts once; default: all that the run has.

    Returns:
        Names of the data sets.

    Raises:
        UserError: Minari is not installed, ``out`` exists or lies in a run folder, the run has no such episodes, or one
            of them is damaged.
    """
    _require_minari()
    require_new(out, "--out")
    found = folders(run)
    kinds = list(dict.fromkeys(kinds or found or KINDS))
    if missing := [kind for kind in kinds if kind not in found]:
        remedy = "train with runtime.keep_replay=true" if missing == [REPLAY] else "see runtime.kept_episodes"
        raise UserError(f"{shortened(run)} holds no {' or '.join(missing)} episodes; {remedy} (docs/runs.md).")
    config = load_written(run / CONFIG)
    with new_folder(out) as staging, _datasets_in(staging):
        return [_write(config, run, kind, list_episodes(found[kind])) for kind in kinds]


def _require_minari() -> None:
    if missing := [name for name in ("minari", "h5py") if importlib.util.find_spec(name) is None]:
        raise UserError(f"the export needs the package {missing[0]}: {installing('minari')}.")


@contextmanager
def _datasets_in(folder: Path) -> Iterator[None]:
    """While the context lasts, Minari writes there."""
    before = os.environ.get(PATH)
    os.environ[PATH] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[PATH]
        else:
            os.environ[PATH] = before


def _write(config: RunConfig, run: Path, kind: str, files: Sequence[Path]) -> str:
    """Write one data set, an episode at a time, and return its name."""
    import minari

    name = f"{re.sub(r'[^-_/0-9A-Za-z]', '-', config.identity)}/{kind}-v0"
    settings = config.environment.train if kind in (TRAIN, REPLAY) else config.environment.test
    with envs.make(config.task, settings) as environment:
        spaces = {"observation_space": environment.observation_space, "action_space": environment.action_space}
    made_by = _read(run / ENVIRONMENT)
    facts: list[dict[str, Any]] = []
    episodes: Any = _buffers(files, facts)  # Minari asks for a list and reads it once
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of metadata that a run does not have
        dataset = minari.create_dataset_from_buffers(
            name,
            episodes,
            **spaces,
            algorithm_name=config.method if config.variant is None else f"{config.method}+{config.variant}",
            author="tokenworlds",
            description=ABOUT.format(kind=kind, method=config.method, task=config.task, seed=config.seed),
            requirements=list(_requirements(config.task, made_by.get("packages", {}))),
            jpeg_encoding=False,
        )
    dataset.storage.update_metadata(
        {
            "environment": config.task,
            "environment_settings": dataclasses.asdict(settings),
            "run": config.identity,
            "seed": config.seed,
            "scale": config.scale.name,
            "config_hash": config.hash(),
            "git_revision": str(made_by.get("git_revision", "unknown")),
        }
    )
    dataset.storage.update_episode_metadata(facts)
    return name


def _buffers(files: Iterable[Path], facts: list[dict[str, Any]]) -> Iterator[Any]:
    """Minari's episodes; their facts are collected in ``facts``, without the seed, which is the run's."""
    from minari.data_collector import EpisodeBuffer

    for path in files:
        episode = load(path)
        facts.append({name: value for name, value in episode.facts.items() if name != "seed"})
        truncations = np.zeros(len(episode), dtype=np.bool_)
        truncations[-1:] = ~episode.terminations[-1:]
        yield EpisodeBuffer(
            observations={name: _with_last(values, episode) for name, values in episode.observations.items()},
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=episode.terminations,
            truncations=truncations,
            infos={} if episode.tokens is None else {"tokens": episode.tokens},
        )


def _with_last(values: Any, episode: Episode) -> Any:
    """T + 1 observations, the last one repeated where it is unknown."""
    return values if len(values) > len(episode) else np.concatenate([values, values[-1:]])


def _requirements(task: str, packages: Mapping[str, str]) -> Iterator[str]:
    """Packages of the task in the versions with which the run was made."""
    for name in ("gymnasium", *PACKAGES.get(task.partition("/")[0].partition("_")[0], ())):
        yield f"{name}=={packages[name]}" if name in packages else name


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder; empty for one that is not there, as in the folder of an imported agent."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}
