"""Evaluation: test episodes, held-out losses, pictures (published: every few epochs, and 100 episodes at the end)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tokenworlds.agent import Agent
from tokenworlds.config import CollectionConfig, RunConfig
from tokenworlds.envs import EnvironmentFactory, VectorEnvironment
from tokenworlds.losses import Losses
from tokenworlds.replay import ReplayBuffer, sample_from_end, traverse
from tokenworlds.rng import RandomStreams, derive_seed
from tokenworlds.training import media
from tokenworlds.training.collector import Actor, AgentActor, Collected, Collector, RandomActor
from tokenworlds.training.progress import progress

STRIPS = 3  # episodes in a picture
STRIP_STEPS = 20  # frames of a film strip at most
STRIP_HEIGHT = 64  # pixels of a frame in a film strip at least


@dataclass
class Evaluation:
    episodes: Collected
    losses: dict[str, float]
    buffer: ReplayBuffer


class Evaluator:
    """Everything an evaluation draws comes from streams named by its epoch: it neither depends on earlier ones nor
    disturbs training."""

    def __init__(self, config: RunConfig, agent: Agent, device: torch.device) -> None:
        self.config, self.agent, self.device = config, agent, device
        self._context = config.model.world_model.context

    def play(
        self, name: str, *, episodes: int, num_envs: int, use_agent: bool = True
    ) -> tuple[Collected, ReplayBuffer]:
        """Test episodes (at least ``episodes``, whole rounds) of the agent or of the random policy."""
        settings: CollectionConfig = replace(self.config.collection.test, num_envs=num_envs)
        streams = RandomStreams(derive_seed(self.config.seed, f"evaluation/{name}"), self.device)
        generator = streams.torch("policy")
        factory = EnvironmentFactory(self.config.task, "test", self.config.environment.test)
        with VectorEnvironment([factory] * num_envs, workers=None if settings.parallel else False) as vector:
            buffer = ReplayBuffer(vector.spec.shapes, 1000, self.device)
            actor: Actor = (
                AgentActor(self.agent, settings, generator)
                if use_agent
                else RandomActor(vector.spec.num_actions, generator)
            )
            collector = Collector(vector, buffer, settings, streams, "test")
            with progress(f"{name}: test episodes", episodes) as bar:
                collected = collector.collect(actor, episodes=episodes, tick=bar.to)
        return collected, buffer

    def evaluate(self, epoch: int, active: set[str]) -> Evaluation:
        """Test episodes, and losses of the components that have started training on the frames of these episodes."""
        collection = self.config.collection.test
        collected, buffer = self.play(f"epoch {epoch}", episodes=collection.episodes or 1, num_envs=collection.num_envs)
        losses: dict[str, float] = {}
        if "tokenizer" in active:
            losses |= self._mean("tokenizer", self._tokenizer_losses(buffer))
        if "world_model" in active:
            losses |= self._mean("world_model", self._world_model_losses(buffer))
        if "actor_critic" in active:
            returns, lengths = self._imagined(epoch, buffer)
            losses |= {"imagination/eval/return_mean": returns, "imagination/eval/length_mean": lengths}
        return Evaluation(collected, losses, buffer)

    def pictures(self, epoch: int, buffer: ReplayBuffer, folder: Path, active: set[str]) -> dict[str, Path]:
        """Film strips from the beginnings of the longest test episodes, and the last episode as a film."""
        streams = RandomStreams(derive_seed(self.config.seed, f"pictures/{epoch}"), self.device)
        length = min(STRIP_STEPS, self.config.model.world_model.max_blocks)
        episodes = buffer.lengths.argsort(descending=True, stable=True)[:STRIPS]
        segments = buffer.segments(episodes, torch.zeros_like(episodes), length)
        zoom = max(1, STRIP_HEIGHT // self.config.environment.test.size)
        paths = {"reconstruction": folder / "reconstruction.png"}
        media.save_picture(media.reconstruction_strip(self.agent, segments), paths["reconstruction"], zoom)
        if "world_model" in active:
            paths["imagination"] = folder / "imagination.png"
            media.save_picture(
                media.imagination_strip(self.agent, segments, self._context, streams.torch("imagination")),
                paths["imagination"],
                zoom,
            )
        paths["episode"] = folder / "episode.mp4"
        start, steps = buffer.episode(-1)
        media.save_film(buffer.observations(slice(start, start + min(steps, 1000)))["image"], paths["episode"])
        return paths

    def _imagined(self, epoch: int, buffer: ReplayBuffer) -> tuple[float, float]:
        behaviour, evaluation = self.config.training.actor_critic, self.config.evaluation
        streams = RandomStreams(derive_seed(self.config.seed, f"imagined/{epoch}"), self.device)
        segments = sample_from_end(
            buffer,
            evaluation.imagined_episodes,
            behaviour.burn_in + 1,
            streams.torch("segments"),
            least=self.config.model.world_model.lead + 1,
        )
        returns, lengths = media.imagined_episodes(
            self.agent, segments, self._context, behaviour.horizon, streams.torch("imagination")
        )
        return float(returns.mean()), float(lengths.mean())

    @torch.no_grad()
    def _tokenizer_losses(self, buffer: ReplayBuffer) -> list[Losses]:
        batch = self.config.evaluation.tokenizer_batch_size
        segments = traverse(buffer, batch, 1)
        return [
            self.agent.tokenizer.loss({name: values.squeeze(1) for name, values in some.observations.items()})
            for some in segments
        ]

    @torch.no_grad()
    def _world_model_losses(self, buffer: ReplayBuffer) -> list[Losses]:
        losses: list[Losses] = []
        for some in traverse(
            buffer,
            self.config.evaluation.world_model_batch_size,
            self.config.training.sequence_length,
            self.config.model.world_model.unscored_blocks,
        ):
            frames = {name: values.flatten(0, 1) for name, values in some.observations.items()}
            tokens = self.agent.encode(frames).unflatten(0, some.mask.shape)
            losses.append(self.agent.world_model.loss(tokens, some.actions, some.rewards, some.ends, some.mask))
        return losses

    def _mean(self, component: str, losses: list[Losses]) -> dict[str, float]:
        """Means over batches, as published (not weighted by batch size); nothing where all episodes are too short."""
        if not losses:
            return {}
        named: list[dict[str, Tensor]] = [{"total": loss.total, **loss.named()} for loss in losses]
        return {
            f"{component}/eval/loss_{key}": float(torch.stack([entry[key] for entry in named]).mean())
            for key in named[0]
        }
