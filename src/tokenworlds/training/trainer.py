"""The epoch loop: collect, train each component in turn, evaluate, record, checkpoint."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tokenworlds import methods
from tokenworlds.agents.actor import AgentActor
from tokenworlds.config import Resume, RunConfig
from tokenworlds.envs import EnvironmentFactory, VectorEnvironment, summary
from tokenworlds.epoch_files import part
from tokenworlds.errors import UserError, is_out_of_memory
from tokenworlds.files import shortened
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.ops import precision
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.revision import Sessions
from tokenworlds.tracking.system import SystemMonitor
from tokenworlds.training import token_churn
from tokenworlds.training.budget import Schedule, replay_capacity, replay_storage
from tokenworlds.training.checkpoint import CheckpointFolder, load_optimizer, optimizer_tensors
from tokenworlds.training.collector import Actor, Collector, EpisodeStats, RandomActor
from tokenworlds.training.evaluator import Evaluator
from tokenworlds.training.initialization import Beginning
from tokenworlds.training.progress import Clock, Forecast, progress

Value = TypeVar("Value")


class Trainer:
    """One run, from its first epoch or from its last checkpoint to its last epoch."""

    def __init__(self, config: RunConfig, folder: Path, journal: Journal, device: torch.device) -> None:
        self.config, self.folder, self.journal, self.device = config, folder, journal, device
        self.schedule = Schedule(config)
        self.streams = RandomStreams(config.seed, device)
        self.streams.seed_global()
        collection = config.collection.train
        factory = EnvironmentFactory(config.task, config.environment.train)
        workers = None if collection.parallel else False
        self.envs = VectorEnvironment([factory] * collection.num_envs, workers=workers)
        spec = self.envs.spec
        method = methods.get(config.method)
        self.agent = method.build_agent(config, spec).to(device)
        self.checkpoints = CheckpointFolder(folder, config.hash())
        is_new = config.extend is None and self.checkpoints.last_epoch() is None
        self.beginning = Beginning(config, self.agent, is_new)
        capacity = replay_capacity(config)
        storage = replay_storage(config.runtime, spec, capacity, self.agent, device)
        self.buffer = ReplayBuffer(spec, capacity, device, storage)
        truncated = config.quirks.truncation_is_end
        self.collector = Collector(self.envs, self.buffer, collection, self.streams, "train", truncated)
        generator = self.streams.torch("train/policy")
        self.actor = AgentActor(self.agent, collection, generator)
        self.random_actor = RandomActor(spec.actions, generator)
        self.components: list[ComponentTrainer] = method.build_components(config, self.agent, self.buffer, self.streams)
        self.beginning.load_optimizers(self.components)
        self.evaluator = Evaluator(config, self.agent, device)
        self.evaluations: list[dict[str, Any]] = []
        self.sessions = Sessions(method.__name__)
        self.clock = Clock()
        self.system = SystemMonitor(precision.gpu_identifier(device))
        self.forecast = Forecast(self.schedule.work(self.components), self.schedule.epochs)
        self.epoch = 0

    @property
    def env_steps(self) -> int:
        """Agent steps so far: all of them are stored, but those of a run that left only its weights."""
        return self.buffer.num_steps + self.beginning.steps_before

    @property
    def started(self) -> set[str]:
        """Components that have been trained, here or before: those whose losses and pictures mean something."""
        return {component.name for component in self.components if component.updates} | self.beginning.loaded

    def run(self) -> None:
        """Train to the last epoch; raises what stops it, with the last checkpoint intact."""
        while self.epoch < self.schedule.epochs:
            self.epoch += 1
            values = self._epoch() | self.system.means()
            if (left := self.forecast.left(self.epoch)) is not None:
                values["seconds/left"] = left
            self.journal.append("metrics", step=self.epoch, values=values)
            if self.schedule.is_saved(self.epoch):
                start = time.monotonic()
                self.save()
                self.forecast.record("checkpoint", time.monotonic() - start, 1)
            self._report(values)

    def close(self) -> None:
        self.system.close()
        self.envs.close()

    def _epoch(self) -> dict[str, float]:
        began = time.monotonic()
        values = self._collect() if self.schedule.is_collected(self.epoch) else {}
        values |= {
            "replay/steps": self.buffer.num_steps,
            "replay/episodes": self.buffer.num_episodes,
            "budget/env_steps": self.env_steps,
            "seconds/collection": time.monotonic() - began,
        }
        trained, tokens = dict[str, Tensor](), token_churn.tokens(self.agent, self.buffer)
        for component in self._active():
            start, name, updates = time.monotonic(), component.name, component.updates_in(self.epoch)
            with progress(f"epoch {self.epoch}: {name}", updates) as bar:
                means = component.train(self.epoch, bar.step)
            trained |= _prefixed(f"{name}/train/", means)
            float(means["loss_total"])  # wait for the device once, so that seconds mean something
            values[f"seconds/{name}"] = time.monotonic() - start
            self.forecast.record(name, values[f"seconds/{name}"], updates)
        values |= {name: float(value) for name, value in trained.items()}
        values |= token_churn.churn(tokens, token_churn.tokens(self.agent, self.buffer))
        self._refuse_divergence(values)
        if self.schedule.is_evaluated(self.epoch):
            values |= self._evaluate()
        values["seconds/epoch"] = time.monotonic() - began
        if self.device.type == "cuda":
            values["memory/peak_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return values

    def _collect(self) -> dict[str, float]:
        start, steps, is_random = (
            time.monotonic(),
            self.schedule.steps_in(self.epoch),
            self.schedule.is_random(self.epoch),
        )
        actor: Actor = self.random_actor if is_random else self.actor
        with progress(f"epoch {self.epoch}: collect", steps) as bar:
            stats = self.collector.collect(actor, steps=steps, tick=bar.to)
        self.forecast.record("random collection" if is_random else "collection", time.monotonic() - start, steps)
        return _summary("collection/train/", stats)

    def _active(self) -> list[ComponentTrainer]:
        return [component for component in self.components if component.is_active(self.epoch)]

    def _evaluate(self) -> dict[str, float]:
        start, active = time.monotonic(), self.started
        evaluation = self.evaluator.evaluate(self.epoch, active)
        self.forecast.record("test episodes", evaluation.play_seconds, self.schedule.test_episodes)
        self.record_evaluation("test", evaluation.episodes)
        for key, path in self.evaluator.pictures(self.epoch, evaluation.buffer, self.folder / "media", active).items():
            self.journal.append("artifact", step=self.epoch, key=key, path=str(path.relative_to(self.folder)))
        values = _summary("eval/", evaluation.episodes) | evaluation.losses
        values |= _prefixed("eval/", self._benchmark_scores(evaluation.episodes))
        values["seconds/evaluation"] = time.monotonic() - start
        self.forecast.record("evaluation", values["seconds/evaluation"] - evaluation.play_seconds, 1)
        return values

    def record_evaluation(self, split: str, episodes: EpisodeStats) -> None:
        """A row of evaluations.csv: all returns are kept in the journal and in the final scores."""
        self.evaluations.append(
            {
                "epoch": self.epoch,
                "env_steps": self.env_steps,
                "split": split,
                "episodes": len(episodes.returns),
                "return_mean": statistics.fmean(episodes.returns),
                "return_std": statistics.pstdev(episodes.returns),
                "length_mean": statistics.fmean(episodes.lengths),
                "hours": self.clock.seconds / 3600,
            }
            | self._benchmark_scores(episodes)
        )

    def _benchmark_scores(self, episodes: EpisodeStats) -> dict[str, float]:
        """Scores that the benchmark computes from the episodes' achievements."""
        return summary(self.config.task, self.envs.spec.success_rates(episodes.achievements))

    def _refuse_divergence(self, values: dict[str, float]) -> None:
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is None:
            return
        name, last = bad.split("/")[0], self.checkpoints.last_epoch()
        is_component = any(name == component.name for component in self.components)
        setting = f"training.{name}.learning_rate" if is_component else "a learning rate"
        kept = "has no checkpoint yet" if last is None else f"stays resumable after epoch {last}"
        raise UserError(
            f"epoch {self.epoch}: {bad} is not finite, training has diverged; lower {setting}. That is another "
            f"configuration, so its run starts at epoch 1; this one {kept}."
        )

    def _report(self, values: dict[str, float]) -> None:
        """One line an epoch."""
        last = self.schedule.epochs
        parts = [f"epoch {self.epoch:>{len(str(last))}}/{last}", f"{self.env_steps} steps"]
        parts += [f"{some.name} {values[f'{some.name}/train/loss_total']:.3f}" for some in self._active()]
        returns = (("train return", "collection/train/return_mean"), ("test return", "eval/return_mean"))
        parts += [f"{label} {values[key]:.2f}" for label, key in returns if key in values]
        print("  ".join([*parts, f"{values['seconds/epoch']:.1f}s", self.forecast.describe(self.epoch)]), flush=True)

    # Checkpoint and resume

    def save(self) -> None:
        random_tensors, random_state = self.streams.state()
        collector_tensors, collector_state = self.collector.state()
        tensors = _prefixed("agent.", self.trained_state())
        for some in self.components:
            tensors |= _prefixed(f"optimizer.{some.name}.", optimizer_tensors(some.optimizer))
            tensors |= _prefixed(f"sampler.{some.name}.", some.sampler.state())
            tensors |= _prefixed(f"memory.{some.name}.", {} if some.memory is None else some.memory.state())
        tensors |= _prefixed("random.", random_tensors) | _prefixed("collector.", collector_tensors)
        state = {
            "random": random_state,
            "collector": collector_state,
            "updates": {component.name: component.updates for component in self.components},
            "evaluations": self.evaluations,
            "beginning": self.beginning.record,
            "seconds": self.clock.seconds,
            "sessions": self.sessions.state(),
            "measured": self.forecast.measured,
        }
        self.checkpoints.save(self.epoch, tensors, state, self.buffer)

    def trained_state(self) -> dict[str, Tensor]:
        """The agent's tensors without the frozen perceptual network, which is read from its own file."""
        return {key: value for key, value in self.agent.state_dict().items() if ".lpips." not in key}

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        self.go_on_from(self.checkpoints)
        self.journal.truncate_after(self.epoch)
        if self.epoch:
            print(f"resuming after epoch {self.epoch} of {self.schedule.epochs}", flush=True)

    def go_on_from(self, checkpoints: CheckpointFolder) -> None:
        """Take over the state in the last checkpoint, if there is one.

        Raises:
            UserError: it is damaged, or other code wrote it and ``runtime.resume`` does not allow that.
        """
        loaded, folder = checkpoints.latest(), checkpoints.folder
        if loaded is None:
            return
        tensors, head = loaded
        self.sessions.resume(head["state"].get("sessions"), head["epoch"], folder, self.config.runtime.resume)
        try:
            self._load(tensors, head, checkpoints)
        except (KeyError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):  # no fault of the checkpoint
                raise
            reason = " ".join(str(error).split())[:60]
            raise UserError(
                f"the checkpoint in {shortened(folder)} does not fit this code ({reason}): go back to revision "
                f"{self.sessions.last_revision}, or start again with runtime.resume=never."
            ) from error

    def _load(self, tensors: dict[str, Tensor], head: dict[str, Any], checkpoints: CheckpointFolder) -> None:
        state = head["state"]
        frozen = {key: value for key, value in self.agent.state_dict().items() if ".lpips." in key}
        self.agent.load_state_dict(part(tensors, "agent.") | frozen)
        checkpoints.load_replay(self.buffer, head["replay"])  # samplers need it
        for some in self.components:
            some.updates = state["updates"][some.name]
            load_optimizer(some.optimizer, part(tensors, f"optimizer.{some.name}."))
            some.sampler.load_state(part(tensors, f"sampler.{some.name}."))
            if some.memory is not None:
                some.memory.load_state(part(tensors, f"memory.{some.name}."))
        compare = self.config.runtime.resume is not Resume.any_code
        self.collector.load_state(part(tensors, "collector."), state["collector"], compare)
        self.streams.load_state(part(tensors, "random."), state["random"])
        self.epoch, self.evaluations = head["epoch"], state["evaluations"]
        self.beginning.record = state.get("beginning", {})
        self.clock = Clock(state["seconds"])
        measured = state.get("measured")  # not in checkpoints of earlier versions
        self.forecast = Forecast(self.schedule.work(self.components), self.schedule.epochs, measured)


def _summary(prefix: str, episodes: EpisodeStats) -> dict[str, float]:
    if not episodes.returns:
        return {}
    return {
        f"{prefix}return_mean": statistics.fmean(episodes.returns),
        f"{prefix}length_mean": statistics.fmean(episodes.lengths),
        f"{prefix}episodes": len(episodes.returns),
    }


def _prefixed(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{prefix}{key}": value for key, value in values.items()}
