"""The epoch loop: collect, train each component in turn, evaluate, record, checkpoint."""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from tokenworlds import methods
from tokenworlds.config import ReplayStorage, RunConfig
from tokenworlds.envs import EnvironmentFactory, EnvironmentSpec, VectorEnvironment, summary
from tokenworlds.errors import UserError
from tokenworlds.files import shortened
from tokenworlds.methods.component import Phase
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.revision import Sessions
from tokenworlds.training.budget import physical_memory, replay_capacity, steps_in
from tokenworlds.training.checkpoint import CheckpointFolder, load_optimizer, optimizer_tensors
from tokenworlds.training.collector import Actor, AgentActor, Collected, Collector, RandomActor
from tokenworlds.training.evaluator import Evaluator
from tokenworlds.training.progress import Clock, Forecast, Work, progress


class Trainer:
    """One run, from its first epoch or from its last checkpoint to its last epoch."""

    def __init__(self, config: RunConfig, folder: Path, journal: Journal, device: torch.device) -> None:
        self.config, self.folder, self.journal, self.device = config, folder, journal, device
        self.streams = RandomStreams(config.seed, device)
        self.streams.seed_global()
        collection = config.collection.train
        factory = EnvironmentFactory(config.task, config.environment.train)
        self.envs = VectorEnvironment(
            [factory] * collection.num_envs, workers=False if not collection.parallel else None
        )
        spec = self.envs.spec
        method = methods.get(config.method)
        self.agent = method.build_agent(config, spec).to(device)
        capacity = replay_capacity(config)
        storage = replay_storage(config.runtime.replay, spec, capacity, device)
        self.buffer = ReplayBuffer(spec, capacity, device, storage)
        self.collector = Collector(
            self.envs, self.buffer, collection, self.streams, "train", config.quirks.truncation_is_end
        )
        generator = self.streams.torch("train/policy")
        self.actor = AgentActor(self.agent, collection, generator)
        self.random_actor = RandomActor(spec.actions, generator)
        self.phases: list[Phase] = method.build_phases(config, self.agent, self.buffer, self.streams)
        self.evaluator = Evaluator(config, self.agent, device)
        self.checkpoints = CheckpointFolder(folder, config.hash())
        self.evaluations: list[dict[str, Any]] = []
        self.sessions = Sessions(cast(ModuleType, method).__name__)
        self.clock = Clock()
        self.forecast = Forecast(self._work(), config.training.epochs)
        self.epoch = 0

    @property
    def env_steps(self) -> int:
        """Agent steps so far: all of them are stored."""
        return self.buffer.num_steps

    def steps_in(self, epoch: int) -> int:
        """Agent steps to collect in an epoch."""
        return steps_in(self.config, epoch)

    def _work(self) -> dict[str, Work]:
        """What every epoch holds of each kind of work. The random policy's final episodes are left out: they take no
        network."""
        collection, evaluation = self.config.collection, self.config.evaluation
        last = self.config.training.epochs

        def is_evaluated(epoch: int) -> bool:
            return epoch > last or epoch % evaluation.every == 0

        def episodes(epoch: int) -> int:
            return evaluation.final_episodes if epoch > last else (collection.test.episodes or 1) * is_evaluated(epoch)

        return {
            "random collection": Work(lambda epoch: self.steps_in(epoch) if self._is_random(epoch) else 0),
            "collection": Work(
                lambda epoch: self.steps_in(epoch) if self._is_collected(epoch) and not self._is_random(epoch) else 0
            ),
            "test episodes": Work(episodes),
            "evaluation": Work(is_evaluated),
            "checkpoint": Work(self._is_saved, is_awaited=False),
            **{phase.name: Work(partial(self._updates_in, phase)) for phase in self.phases},
        }

    def _updates_in(self, phase: Phase, epoch: int) -> int:
        is_trained = epoch <= self.config.training.epochs and phase.is_active(epoch)
        return phase.updates_in(epoch) if is_trained else 0

    def _is_collected(self, epoch: int) -> bool:
        stop = self.config.collection.train.stop_after_epochs
        return epoch <= self.config.training.epochs and (stop is None or epoch <= stop)

    def _is_random(self, epoch: int) -> bool:
        """Whether an epoch's actions are uniformly random."""
        return epoch == 1 and self.config.collection.train.steps_first_epoch is not None

    def _is_saved(self, epoch: int) -> bool:
        last = self.config.training.epochs
        return epoch <= last and (epoch % self.config.runtime.checkpoint_every == 0 or epoch == last)

    def run(self) -> None:
        """Train to the last epoch; raises what stops it, with the last checkpoint intact."""
        while self.epoch < self.config.training.epochs:
            self.epoch += 1
            values = self._epoch()
            self.journal.append("metrics", step=self.epoch, values=values)
            if self._is_saved(self.epoch):
                start = time.monotonic()
                self.save()
                self.forecast.record("checkpoint", time.monotonic() - start, 1)
            self._report(values)

    def close(self) -> None:
        self.envs.close()

    def _epoch(self) -> dict[str, float]:
        began = time.monotonic()
        values: dict[str, float] = {}
        if self._is_collected(self.epoch):
            steps, is_random = self.steps_in(self.epoch), self._is_random(self.epoch)
            actor: Actor = self.random_actor if is_random else self.actor
            with progress(f"epoch {self.epoch}: collect", steps) as bar:
                collected = self.collector.collect(actor, steps=steps, tick=bar.to)
            values |= self._returns("collection/train", collected)
            kind = "random collection" if is_random else "collection"
            self.forecast.record(kind, time.monotonic() - began, steps)
        values |= {
            "replay/steps": self.buffer.num_steps,
            "replay/episodes": self.buffer.num_episodes,
            "budget/env_steps": self.env_steps,
        }
        values["seconds/collection"] = time.monotonic() - began
        trained: dict[str, Tensor] = {}
        for phase in self._active():
            start = time.monotonic()
            with progress(f"epoch {self.epoch}: {phase.name}", phase.updates_in(self.epoch)) as bar:
                means = phase.train(self.epoch, bar.step)
            trained |= {f"{phase.name}/train/{name}": value for name, value in means.items()}
            float(means["loss_total"])  # wait for the device once, so that seconds mean something
            values[f"seconds/{phase.name}"] = time.monotonic() - start
            self.forecast.record(phase.name, values[f"seconds/{phase.name}"], phase.updates_in(self.epoch))
        values |= {name: float(value) for name, value in trained.items()}
        self._refuse_divergence(values)
        if self.epoch % self.config.evaluation.every == 0:
            values |= self._evaluate()
        values["seconds/epoch"] = time.monotonic() - began
        if self.device.type == "cuda":
            values["memory/peak_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return values

    def _active(self) -> list[Phase]:
        return [phase for phase in self.phases if phase.is_active(self.epoch)]

    @property
    def started(self) -> set[str]:
        """Components that have been trained: those whose losses and pictures mean something."""
        return {phase.name for phase in self.phases if phase.updates}

    def _evaluate(self) -> dict[str, float]:
        start = time.monotonic()
        active = self.started
        evaluation = self.evaluator.evaluate(self.epoch, active)
        self.forecast.record("test episodes", evaluation.play_seconds, self.config.collection.test.episodes or 1)
        self.record_evaluation("test", evaluation.episodes)
        for key, path in self.evaluator.pictures(self.epoch, evaluation.buffer, self.folder / "media", active).items():
            self.journal.append("artifact", step=self.epoch, key=key, path=str(path.relative_to(self.folder)))
        values = self._returns("eval", evaluation.episodes) | evaluation.losses
        values |= {f"eval/{key}": value for key, value in self._summary(evaluation.episodes).items()}
        values["seconds/evaluation"] = time.monotonic() - start
        self.forecast.record("evaluation", values["seconds/evaluation"] - evaluation.play_seconds, 1)
        return values

    def record_evaluation(self, split: str, episodes: Collected) -> None:
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
            | self._summary(episodes)
        )

    def _summary(self, episodes: Collected) -> dict[str, float]:
        """Scores that the benchmark computes from the episodes' achievements."""
        return summary(self.config.task, self.envs.spec.success_rates(episodes.achievements))

    def _returns(self, prefix: str, episodes: Collected) -> dict[str, float]:
        if not episodes.returns:
            return {}
        return {
            f"{prefix}/return_mean": statistics.fmean(episodes.returns),
            f"{prefix}/length_mean": statistics.fmean(episodes.lengths),
            f"{prefix}/episodes": len(episodes.returns),
        }

    def _refuse_divergence(self, values: dict[str, float]) -> None:
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is None:
            return
        component, last = bad.split("/")[0], self.checkpoints.last_epoch()
        names = [phase.name for phase in self.phases]
        setting = f"training.{component}.learning_rate" if component in names else "a learning rate"
        kept = "has no checkpoint yet" if last is None else f"stays resumable after epoch {last}"
        raise UserError(
            f"epoch {self.epoch}: {bad} is not finite, training has diverged; lower {setting}. That is another "
            f"configuration, so its run starts at epoch 1; this one {kept}."
        )

    def _report(self, values: dict[str, float]) -> None:
        """One line an epoch."""
        parts = [
            f"epoch {self.epoch:>{len(str(self.config.training.epochs))}}/{self.config.training.epochs}",
            f"{self.env_steps} steps",
        ]
        parts += [f"{phase.name} {values[f'{phase.name}/train/loss_total']:.3f}" for phase in self._active()]
        parts += [
            f"{label} {values[key]:.2f}"
            for label, key in (("train return", "collection/train/return_mean"), ("test return", "eval/return_mean"))
            if key in values
        ]
        left = self.forecast.describe(self.epoch)
        print("  ".join([*parts, f"{values['seconds/epoch']:.1f}s", left]), flush=True)

    # Checkpoint and resume

    def save(self) -> None:
        random_tensors, random_state = self.streams.state()
        tensors = {f"agent.{key}": value for key, value in self.trained_state().items()}
        for phase in self.phases:
            tensors |= {
                f"optimizer.{phase.name}.{key}": value for key, value in optimizer_tensors(phase.optimizer).items()
            } | {f"sampler.{phase.name}.{key}": value for key, value in phase.sampler.state().items()}
            if phase.memory is not None:
                tensors |= {f"memory.{phase.name}.{key}": value for key, value in phase.memory.state().items()}
        tensors |= {f"random.{key}": value for key, value in random_tensors.items()}
        collector_tensors, collector_state = self.collector.state()
        tensors |= {f"collector.{key}": value for key, value in collector_tensors.items()}
        state = {
            "random": random_state,
            "collector": collector_state,
            "updates": {phase.name: phase.updates for phase in self.phases},
            "evaluations": self.evaluations,
            "seconds": self.clock.seconds,
            "sessions": self.sessions.state(),
            "measured": self.forecast.measured,
        }
        self.checkpoints.save(self.epoch, tensors, state, self.buffer)

    def trained_state(self) -> dict[str, Tensor]:
        """The agent's tensors without the frozen perceptual network, which is read from its own file."""
        return {key: value for key, value in self.agent.state_dict().items() if ".lpips." not in key}

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises:
            UserError: it is damaged, or other code wrote it and ``runtime.resume`` does not allow that.
        """
        loaded = self.checkpoints.latest()
        if loaded is None:
            self.journal.truncate_after(0)
            return
        tensors, head = loaded
        self.sessions.resume(head["state"].get("sessions"), head["epoch"], self.folder, self.config.runtime.resume)
        try:
            self._load(tensors, head)
        except (torch.OutOfMemoryError, torch.AcceleratorError):  # a fault of the machine, not of the checkpoint
            raise
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:60]
            raise UserError(
                f"the checkpoint in {shortened(self.folder)} does not fit this code ({reason}): go back to revision "
                f"{self.sessions.last_revision}, or start again with runtime.resume=never."
            ) from error
        self.journal.truncate_after(self.epoch)
        print(f"resuming after epoch {self.epoch} of {self.config.training.epochs}", flush=True)

    def _load(self, tensors: dict[str, Tensor], head: dict[str, Any]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

        state = head["state"]
        frozen = {key: value for key, value in self.agent.state_dict().items() if ".lpips." in key}
        self.agent.load_state_dict(part("agent.") | frozen)
        for phase in self.phases:
            load_optimizer(phase.optimizer, part(f"optimizer.{phase.name}."))
            phase.updates = state["updates"][phase.name]
        self.checkpoints.load_replay(self.buffer, head["replay"])
        for phase in self.phases:
            phase.sampler.load_state(part(f"sampler.{phase.name}."))
            if phase.memory is not None:
                phase.memory.load_state(part(f"memory.{phase.name}."))
        self.collector.load_state(part("collector."), state["collector"])
        self.streams.load_state(part("random."), state["random"])
        self.epoch, self.evaluations = head["epoch"], state["evaluations"]
        self.clock = Clock(state["seconds"])
        measured = state.get("measured")  # not in checkpoints of earlier versions
        self.forecast = Forecast(self._work(), self.config.training.epochs, measured)


def replay_storage(choice: ReplayStorage, spec: EnvironmentSpec, capacity: int, device: torch.device) -> torch.device:
    """Where that many observations are to lie.

    Raises:
        UserError: the host's memory is too small for them.
    """
    needed = capacity * sum(math.prod(part.shape) * part.dtype.itemsize for part in spec.observation.values())
    if choice is ReplayStorage.auto and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        choice = ReplayStorage.host if needed > free / 2 else ReplayStorage.device
    storage = torch.device("cpu") if choice is ReplayStorage.host else device
    memory = physical_memory()
    if storage.type == "cpu" and needed > memory:
        raise UserError(
            f"the {capacity} steps of this run need {needed / 1e9:.0f} GB of memory, this machine has "
            f"{memory / 1e9:.0f} GB; train on a larger one, or for fewer epochs (training.epochs)."
        )
    return storage
