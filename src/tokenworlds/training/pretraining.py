"""Tokenizers that are trained before a run, on frames of a random policy or of other runs (docs/experiments.md).

It is the training of a run in which nothing but the tokenizer learns: with its checkpoints, journal and estimates. Its
frames come all at once, in the first epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from tokenworlds import envs, loading
from tokenworlds.config import (
    FrameSource,
    PretrainingConfig,
    RunConfig,
    TokenRunConfig,
    digest,
    pretraining_run,
    to_dict,
    tokenizer_settings,
)
from tokenworlds.config.initialization import SEED, TASK
from tokenworlds.envs import EnvironmentFactory, EnvironmentSpec, VectorEnvironment
from tokenworlds.episodes.episode import Episode, list_episodes, load
from tokenworlds.errors import UserError, brief
from tokenworlds.files import new_folder, require_place, sha256, shortened, write_atomic
from tokenworlds.locks import locked
from tokenworlds.ops import precision
from tokenworlds.replay import ReplayBuffer
from tokenworlds.replay.buffer import Observations
from tokenworlds.runs.layout import CONFIG, ENVIRONMENT, EPISODES, JOURNAL, REPLAY, TRAIN, WEIGHTS
from tokenworlds.runs.manifest import verify, write_manifest
from tokenworlds.tasks import others_of
from tokenworlds.tensor_files import not_finite, save
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.collector import Collector, RandomActor
from tokenworlds.training.initialization import other_settings, tensors_of
from tokenworlds.training.progress import progress
from tokenworlds.training.publication import environment, hardware
from tokenworlds.training.run_folder import clear_scratch, recall_digest, scratch_folder
from tokenworlds.training.trainer import Trainer

CARD = "agent.json"


class Pretrainer(Trainer):
    """Trains the tokenizer of a ``pretraining_run``."""

    config: TokenRunConfig

    def _collect(self) -> dict[str, float]:
        """All frames, each in an episode with its neighbours; of actions and rewards nothing is kept."""
        chosen = self.config.pretraining
        assert chosen is not None
        spec = self.envs.spec.actions
        for observations in SOURCES[chosen.source](self, chosen):
            count = len(next(iter(observations.values())))
            actions = torch.from_numpy(np.zeros((count, *spec.shape), spec.dtype))
            self.buffer.extend(observations, actions, torch.zeros(count), torch.zeros(count).byte(), close=True)
        return {}


def _random_policy(trainer: Pretrainer, chosen: PretrainingConfig) -> Iterator[Observations]:
    yield from _played(trainer, trainer.config.task, chosen.frames)


def _other_games(trainer: Pretrainer, chosen: PretrainingConfig) -> Iterator[Observations]:
    """As many frames of each game."""
    games = others_of(chosen.games, trainer.config.task)
    for index, game in enumerate(games):
        yield from _played(trainer, game, _share(chosen.frames, index, len(games)))


def _replay(trainer: Pretrainer, chosen: PretrainingConfig) -> Iterator[Observations]:
    """As many frames of each run, evenly spaced in what it has kept."""
    identities: list[str] = []
    for index, run in enumerate(_runs(trainer.config)):
        episodes = _kept(run, trainer.envs.spec, trainer.config.task)
        identities += [str(episode.facts["identity"]) for episode in episodes]
        yield from _evenly(run, episodes, _share(chosen.frames, index, len(chosen.runs)))
    trainer.beginning.record["runs"] = [*dict.fromkeys(identities)]


SOURCES: dict[FrameSource, Callable[[Pretrainer, PretrainingConfig], Iterator[Observations]]] = {
    FrameSource.random_policy: _random_policy,
    FrameSource.other_games: _other_games,
    FrameSource.replay: _replay,
}


def _share(total: int, index: int, count: int) -> int:
    """Whole shares that add up to ``total``."""
    return total * (index + 1) // count - total * index // count


def _played(trainer: Pretrainer, task: str, count: int) -> Iterator[Observations]:
    """Episodes of the uniformly random policy in a task, ``count`` frames in all.

    Raises:
        UserError: there is no such task, or it shows something else than the run's.
    """
    envs.check_task(task)
    collection, name = trainer.config.collection.train, f"pretraining/{task}"
    factory = EnvironmentFactory(task, trainer.config.environment.train)
    workers = None if collection.parallel else False
    with VectorEnvironment([factory] * collection.num_envs, workers=workers) as vector:
        if vector.spec.observation != trainer.envs.spec.observation:
            raise UserError(f"pretraining.games: {task} shows something else than {trainer.config.task}; leave it out.")
        buffer = ReplayBuffer(vector.spec, count + collection.num_envs, trainer.device, torch.device("cpu"))
        collector = Collector(vector, buffer, replace(collection, final_observation=False), trainer.streams, name)
        with progress(f"frames of {task}", count) as bar:
            collector.collect(RandomActor(vector.spec.actions, trainer.streams.torch(name)), steps=count, tick=bar.to)
    for index in range(buffer.num_episodes):
        rows = buffer.episode_rows(index)[:count]
        count -= len(rows)
        if len(rows):
            yield buffer.observations(rows)


def _runs(config: TokenRunConfig) -> list[Path]:
    """Folders of the runs whose frames are taken."""
    assert config.pretraining is not None
    places = (run.replace(TASK, config.task).replace(SEED, str(config.seed)) for run in config.pretraining.runs)
    return [*map(loading.locate, places)]


def _files(run: Path) -> list[Path]:
    """Episodes of the whole experience of a run, or its last ones of training."""
    return list_episodes(run / REPLAY) or list_episodes(run / EPISODES / TRAIN)


def _kept(run: Path, spec: EnvironmentSpec, task: str) -> list[Episode]:
    """What a run has kept of its training.

    Raises:
        UserError: episodes of no run, or ones that show something else than the task.
    """
    episodes = [*map(load, _files(run))]
    wanted = {name: (part.dtype, part.shape) for name, part in spec.observation.items()}
    for episode in episodes:
        found = {name: (values.dtype, values.shape[1:]) for name, values in episode.observations.items()}
        if found != wanted or any(part.fault(episode.observations[name]) for name, part in spec.observation.items()):
            shown = [
                brief(", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in some.items()), 60)
                for some in (found, wanted)
            ]
            raise UserError(
                f"pretraining.runs: {shortened(run, 60)} shows {shown[0]}, but {task} shows {shown[1]}; give runs with "
                "the same observations, or leave it out."
            )
        if "identity" not in episode.facts:
            raise UserError(f"pretraining.runs: {shortened(run)} holds episodes of no run; give a finished run.")
    return episodes


def _evenly(run: Path, episodes: Sequence[Episode], count: int) -> Iterator[Observations]:
    """``count`` frames, evenly spaced in all episodes together, and those of each episode by themselves.

    Raises:
        UserError: there are fewer.
    """
    lengths = [*map(len, episodes)]
    if (found := sum(lengths)) < count:
        raise UserError(
            f"pretraining.runs: {shortened(run, 80)} has kept {found} of {count} frames; train it with "
            "runtime.keep_replay=true, or ask for fewer with pretraining.frames."
        )
    chosen = torch.linspace(0, found - 1, count).round().long()
    for episode, stop in zip(episodes, np.cumsum(lengths)):
        own = chosen[(chosen >= stop - len(episode)) & (chosen < stop)] - (stop - len(episode))
        if len(own):
            yield {name: torch.from_numpy(values)[own] for name, values in episode.observations.items()}


def pretrain(config: RunConfig) -> None:
    """Train the tokenizer that a run begins with, or go on where that was stopped, and put it into the folder that the
    run reads it from.

    Raises:
        UserError: the run begins with none, the folder holds something else, another process is at work on it, or
            training has diverged.
    """
    own = settled(config)
    envs.check_task(own.task)
    place = Path(config.places["tokenizer"])
    if place.exists():
        card = _card(place)
        if others := other_settings(card, own):
            found = f"a tokenizer that was pretrained with {others}" if "trained_on" in card else "something else"
            raise UserError(f"{shortened(place, 90)} holds {found}; move it away, or delete it to train a tokenizer.")
        verify(place)
        print(f"{place} holds this tokenizer already; delete it to train it again.")
        return
    require_place(place, "name another folder with initialization.tokenizer=...")
    scratch = scratch_folder(own)
    require_place(scratch / "lock", "choose another folder with runtime.scratch=...")
    with locked(scratch / "lock", f"another process pretrains the tokenizer of {own.identity}"):
        _train(own, scratch, place)
        if not own.runtime.keep_scratch:
            clear_scratch(scratch)


def settled(config: RunConfig) -> TokenRunConfig:
    """The ``pretraining_run`` of a run, with the hash that it will have: of other runs' frames it is known which ones
    they have kept, or, where these are gone, which ones the pretraining has begun with.

    Raises:
        UserError: the run begins with no pretrained tokenizer, or the frames are others than those of its digest.
    """
    own = pretraining_run(config)
    assert own.pretraining is not None
    if own.pretraining.source is FrameSource.replay:
        _settle_replay(own, own.pretraining)
    return own


def _settle_replay(config: TokenRunConfig, chosen: PretrainingConfig) -> None:
    kept = [_files(run) for run in _runs(config)]
    found = digest({"episodes": [[sha256(path) for path in files] for files in kept]}) if all(kept) else None
    if found is not None and chosen.digest not in (None, found):
        raise UserError(
            f"pretraining.digest is {chosen.digest}, but the episodes of pretraining.runs have {found}: they were "
            "replaced; leave that digest out for these frames."
        )
    chosen.digest = found or chosen.digest
    if chosen.digest is None:
        recall_digest(config, "pretraining", chosen, ())


def _card(place: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((place / CARD).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _train(config: TokenRunConfig, scratch: Path, place: Path) -> None:
    device = precision.configure(config.training.precision, config.runtime)
    assert config.pretraining is not None
    print(
        f"tokenizer of {config.identity}  scale {config.scale.name}  {config.pretraining.frames} frames of "
        f"{config.pretraining.source.name}  revision {git_revision()}  on {hardware(device)}",
        flush=True,
    )
    write_atomic(scratch / CONFIG, OmegaConf.to_yaml(to_dict(config)).encode())
    trainer = Pretrainer(config, scratch, Journal(scratch / JOURNAL), device)
    try:
        trainer.resume()
        trainer.run()
        _publish(trainer, place)
    finally:
        trainer.close()


def _publish(trainer: Pretrainer, place: Path) -> None:
    """The tokenizer's folder: what ``initialization`` reads, complete or absent."""
    config = trainer.config
    state = {name: value.detach().cpu().contiguous() for name, value in trainer.trained_state().items()}
    state = tensors_of(state, "tokenizer")
    if broken := not_finite(state):
        raise UserError(f"{broken[0]} is not finite after the last update: lower training.tokenizer.learning_rate.")
    about = {key: getattr(config, key) for key in ("method", "task")} | {"config_hash": config.hash()}
    runs = trainer.beginning.record.get("runs", [])
    card = about | {"git_revision": git_revision(), "trained_on": trained_on(config, runs)}
    card |= trainer.envs.spec.card() | {"settings": tokenizer_settings(config)}
    files = {
        WEIGHTS: save(state, about),
        CARD: json.dumps(card, indent=2).encode(),
        CONFIG: OmegaConf.to_yaml(to_dict(config)).encode(),
        ENVIRONMENT: json.dumps(environment(trainer), indent=2).encode(),
        JOURNAL: trainer.journal.path.read_bytes(),
    }
    with new_folder(place) as folder:
        for name, content in files.items():
            write_atomic(folder / name, content)
        write_manifest(folder)
    print(f"tokenizer in {place}", flush=True)


def trained_on(config: TokenRunConfig, runs: Sequence[str]) -> dict[str, Any]:
    """What the scores of a run tell of the frames that its tokenizer was pretrained on; ``runs`` have kept them."""
    chosen = config.pretraining
    assert chosen is not None
    of_games = {"games": others_of(chosen.games, config.task)} if chosen.source is FrameSource.other_games else {}
    return {
        "source": chosen.source.name,
        "frames": chosen.frames,
        "updates": chosen.updates,
        "counts_toward_budget": chosen.counts_toward_budget,
        **of_games,
        **({"runs": [*runs]} if runs else {}),
    }
