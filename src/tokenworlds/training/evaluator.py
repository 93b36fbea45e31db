"""Evaluation: test episodes, held-out losses, pictures (published: every few epochs, and 100 episodes at the end)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tokenworlds import methods
from tokenworlds.agents.actor import AgentActor
from tokenworlds.agents.base import Agent
from tokenworlds.config import CollectionConfig, RunConfig
from tokenworlds.envs import EnvironmentFactory, RecordedState, VectorEnvironment, film
from tokenworlds.errors import brief
from tokenworlds.replay import EvaluationBuffer, ReplayBuffer, sample_from_end
from tokenworlds.rng import RandomStreams, derive_seed
from tokenworlds.runs.columns import OF_RANDOM_PLAY
from tokenworlds.training import media, run_folder, tokenizer_quality
from tokenworlds.training.collector import Actor, Collector, EpisodeStats, RandomActor
from tokenworlds.training.progress import progress
from tokenworlds.training.world_model_quality import Quality, Row, loss_on_random_play, measure

Value = TypeVar("Value")

FILM_STEPS = 1000
STRIPS = 3  # episodes in a picture
STRIP_STEPS = 20  # frames of a film strip at most
STRIP_HEIGHT = 64  # pixels of a frame in a film strip at least


@dataclass
class Evaluation:
    episodes: EpisodeStats
    losses: dict[str, float]
    buffer: ReplayBuffer
    play_seconds: float  # that the episodes took


class Evaluator:
    """Everything an evaluation draws comes from streams named by its epoch: it neither depends on earlier ones nor
    disturbs training."""

    def __init__(self, config: RunConfig, agent: Agent, device: torch.device) -> None:
        self.config, self.agent, self.device = config, agent, device
        self.method = methods.get(config.method)
        self._last_episode: tuple[ReplayBuffer, RecordedState] | None = None

    def play(
        self, name: str, *, episodes: int, num_envs: int, use_agent: bool = True
    ) -> tuple[EpisodeStats, ReplayBuffer]:
        """Test episodes (at least ``episodes``, whole rounds) of the agent or of the random policy."""
        settings: CollectionConfig = replace(self.config.collection.test, num_envs=num_envs)
        streams = RandomStreams(derive_seed(self.config.seed, f"evaluation/{name}"), self.device)
        generator = streams.torch("policy")
        test, train = self.config.environment.test, self.config.environment.train
        factory = EnvironmentFactory(self.config.task, test, keeps_clean=True, trained=train)
        with VectorEnvironment([factory] * num_envs, workers=None if settings.parallel else False) as vector:
            # Whole games, of which a few are read again: in the host's memory, for nobody knows how long they will be.
            buffer = EvaluationBuffer(vector.spec, 1000, self.device, torch.device("cpu"))
            actor: Actor = (
                AgentActor(self.agent, settings, generator)
                if use_agent
                else RandomActor(vector.spec.actions, generator)
            )
            collector = Collector(vector, buffer, settings, streams, "test", self.config.quirks.truncation_is_end)
            with progress(f"{name}: test episodes", episodes) as bar:
                stats = collector.collect(actor, episodes=episodes, tick=bar.to)
            # Bodies are drawn at the end of a run only: it takes seconds, which training would spend at every
            # evaluation.
            if name == "final" and use_agent and film.shows_no_picture(vector.spec):
                self._last_episode = buffer, _recorded(vector, buffer)
        return stats, buffer

    def evaluate(self, epoch: int, active: set[str]) -> Evaluation:
        """Test episodes, and losses of the components that have started training on the frames of these episodes."""
        collection, start = self.config.collection.test, time.monotonic()
        stats, buffer = self.play(f"epoch {epoch}", episodes=collection.episodes or 1, num_envs=collection.num_envs)
        play_seconds = time.monotonic() - start
        losses: dict[str, float] = {}
        for component in ("tokenizer", "world_model"):
            if component in active:
                losses |= self._held_out(component, buffer)
        if {"world_model", "actor_critic"} <= active:
            returns, lengths = self._imagined(epoch, buffer)
            losses |= {"imagination/eval/return_mean": returns, "imagination/eval/length_mean": lengths}
        return Evaluation(stats, losses, buffer, play_seconds)

    def pictures(self, epoch: int, buffer: ReplayBuffer, folder: Path, active: set[str]) -> dict[str, Path]:
        """Film strips from the beginnings of the longest test episodes, and the last episode as a film if one can be
        written."""
        streams = RandomStreams(derive_seed(self.config.seed, f"pictures/{epoch}"), self.device)
        longest = max(buffer.episode_length(index) for index in range(buffer.num_episodes))
        length = min(STRIP_STEPS, self.config.model.world_model.max_blocks, max(longest, self.agent.context_frames))
        episodes = buffer.lengths.argsort(descending=True, stable=True)[:STRIPS]
        segments = buffer.segments(episodes, torch.zeros_like(episodes), length)
        zoom = max(1, STRIP_HEIGHT // self.config.environment.test.size)
        paths = {"reconstruction": folder / run_folder.RECONSTRUCTION}
        media.save_picture(media.reconstruction_strip(self.agent, segments, zoom), paths["reconstruction"])
        if "world_model" in active:
            paths["imagination"] = folder / run_folder.IMAGINATION
            strip = media.imagination_strip(self.agent, segments, streams.torch("imagination"), zoom)
            media.save_picture(strip, paths["imagination"])
        paths["episode"] = folder / run_folder.EPISODE
        if (body := self._body(buffer)) is not None:
            media.write_film(body, paths["episode"])
        else:
            pictures = media.shown(self.agent, buffer.read(buffer.episode_rows(-1)[:FILM_STEPS].unsqueeze(0)))
            media.save_film(pictures.squeeze(0), paths["episode"])
        return {name: path for name, path in paths.items() if path.is_file()}

    def world_model(self, name: str, buffer: ReplayBuffer, episodes: int) -> Quality:
        """How well the world model predicts the first of the episodes that were played under this name."""
        streams = RandomStreams(derive_seed(self.config.seed, f"world model/{name}"), self.device)
        with progress(f"{name}: world model", min(episodes, buffer.num_episodes)) as bar:
            return measure(self.config, self.agent, buffer, streams.torch("imagination"), episodes, bar.to)

    def random_play(self, episodes: int) -> list[Row]:
        """Loss a token, and measures of the tokenizer, in so many test episodes of the random policy, which are those
        of all runs of a task and a seed: agents are compared on what none of their policies has chosen."""
        num_envs = min(self.config.collection.test.num_envs, episodes)
        _, buffer = self.play("random play", episodes=episodes, num_envs=num_envs, use_agent=False)
        of_tokenizer = [
            entry | {"measure": entry["measure"] + OF_RANDOM_PLAY} for entry in self.tokenizer(buffer, episodes)
        ]
        return [*loss_on_random_play(self.config, self.agent, buffer), *of_tokenizer]

    def tokenizer(self, buffer: ReplayBuffer, episodes: int) -> list[Row]:
        """What the tokenizer keeps of the first of the episodes in a buffer."""
        return tokenizer_quality.measure(self.config, self.agent, buffer, episodes)

    def _body(self, buffer: ReplayBuffer) -> NDArray[np.uint8] | None:
        """Pictures of the simulated body in the last episode, where all observations are numbers; None where they
        are not, or nothing can render it. A run does not fail with its film."""
        if self._last_episode is None or self._last_episode[0] is not buffer:
            return None
        factory = EnvironmentFactory(self.config.task, self.config.environment.test)
        try:
            return film.film(factory, self._last_episode[1], FILM_STEPS)
        except Exception as error:
            print(f"no film of {self.config.task}, its numbers are shown: {brief(error, 200)}.", flush=True)
            return None

    def _imagined(self, epoch: int, buffer: ReplayBuffer) -> tuple[float, float]:
        training, evaluation = self.config.training.actor_critic, self.config.evaluation
        streams = RandomStreams(derive_seed(self.config.seed, f"imagined/{epoch}"), self.device)
        after = 1 if self.config.collection.test.final_observation else 0  # nothing follows a final observation
        segments = sample_from_end(
            buffer,
            evaluation.imagined_episodes,
            training.burn_in + 1 + after,
            streams.torch("segments"),
            least=self.method.min_context(self.config) + 1 + after,
        ).steps(slice(None, -after or None))
        returns, lengths = media.imagined_episodes(self.agent, segments, training.horizon, streams.torch("imagination"))
        return float(returns.mean()), float(lengths.mean())

    @torch.no_grad()
    def _held_out(self, component: str, buffer: ReplayBuffer) -> dict[str, float]:
        """Means over batches, as published (not weighted by batch size); nothing where all episodes are too short."""
        batches = [
            {**_with_prefix("loss_", {"total": losses.total, **losses.named()}), **losses.measured}
            for losses in self.method.held_out(self.config, self.agent, buffer, component)
        ]
        keys = batches[0] if batches else ()
        means = {key: float(torch.stack([batch[key] for batch in batches]).mean()) for key in keys}
        return _with_prefix(f"{component}/eval/", means)


def _recorded(vector: VectorEnvironment, buffer: ReplayBuffer) -> RecordedState:
    """The last episode of the buffer: that of the group's last environment, which has begun its next one."""
    begun = vector.state()[-1]
    rows = buffer.episode_rows(-1)[: buffer.episode_steps(buffer.num_episodes - 1)]
    actions = buffer.read(rows.unsqueeze(0)).actions.squeeze(0).cpu().numpy()
    return {**begun, "episode": begun["episode"] - 1, "actions": actions, "life_resets": [], "checksum": None}


def _with_prefix(prefix: str, values: dict[str, Value]) -> dict[str, Value]:
    return {f"{prefix}{key}": value for key, value in values.items()}
