"""Trained agents from disk: run folders, scratch folders of runs in training, imported checkpoints."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenworlds.config import Perceptual, RunConfig, TokenRunConfig, hash_of, load_written, validate
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.errors import UserError, brief, excerpt
from tokenworlds.files import shortened
from tokenworlds.runs.layout import CONFIG, ENVIRONMENT, WEIGHTS
from tokenworlds.runs.manifest import verify
from tokenworlds.tracking.revision import git_revision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tokenworlds.agents.base import Agent
    from tokenworlds.envs import EnvironmentSpec, Recorded
    from tokenworlds.inference import Acting, Imagined

HUB = "hub:"  # begins a reference to a folder of a Hugging Face repository
AGENT_PREFIX = "agent."  # of the networks' tensors in a checkpoint of a running training
TRY_AGAIN = "it is damaged or was being replaced; try again after the next epoch, or load a finished run"


@dataclass(frozen=True)
class TrainedAgent:
    """An agent that acts and imagines, on its device, with its configuration and the environment that it was trained
    in.

    Observations are those of ``make_env``: a dictionary of arrays by modality, pictures uint8 (C, Y, X), all with a
    dimension more in a batch. Where there is one modality, its array may be given alone; a picture may be (Y, X, C).
    """

    folder: Path
    config: RunConfig
    """Without the perceptual network, which only training needs."""
    spec: EnvironmentSpec
    agent: Agent
    """The networks: tokenizer, world model and policy."""
    device: torch.device
    epoch: int | None
    """Of the checkpoint of a run in training; None for a finished run."""

    def __repr__(self) -> str:
        config = self.config
        parameters = sum(value.numel() for value in self.agent.parameters() if value.requires_grad)
        return (
            f"TrainedAgent({config.method}{f'+{config.variant}' if config.variant else ''} on {config.task}, "
            f"{config.training.epochs if self.epoch is None else self.epoch} epochs, {parameters:,} parameters, "
            f"{self.device}, {self.folder})"
        )

    @cached_property
    def _acting(self) -> Acting:
        from tokenworlds.inference import Acting

        return Acting(self.agent, self.spec, self.config.collection.test, self.device)

    def act(self, observation: Any, temperature: float | None = None) -> Any:
        """The policy's action, which ``env.step`` takes.

        The policy remembers what it has observed since the last ``reset``, and takes its own actions for those that are
        carried out. One step draws (n, B) uniforms, n for each of an action's numbers and B for the rows of the batch,
        as a training does: with the same seed it chooses the same actions.

        Args:
            observation: of one environment, or of B side by side (B, ...), which stay the same until ``reset``.
            temperature: actions are drawn from softmax(logits / temperature); 0: the most likely one; by default as in
                the run's evaluations.

        Returns:
            An int where the environment is one and its actions are discrete, else an array (*shape), or (B, *shape).

        Raises:
            UserError: the observation is of another environment, or the batch has another size than before.
        """
        return self._acting.act(observation, temperature)

    def reset(self, rows: Any = None, *, seed: int | None = None) -> None:
        """Begin an episode with the next observation.

        Args:
            rows: booleans (B,), to begin in these rows of a batch alone; the others go on. Gymnasium's vector
                environments return the first observation of an episode with the step after its end, or with the same
                (``AutoresetMode.SAME_STEP``); it is then that its row is reset.
            seed: of the actions from here on.

        Raises:
            UserError: there are more or fewer ``rows`` than in the last observation.
        """
        self._acting.reset(rows, seed)

    def imagine(
        self,
        context: Any,
        actions: Any,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        observe: bool = True,
    ) -> Imagined:
        """What the world model expects to follow from T actions.

        Args:
            context: where imagination starts: an observation as ``act`` takes it; a pair of the last observations
                (T, ...) and the actions between them (T - 1, ...), of a batch (B, T, ...) and (B, T - 1, ...); an
                ``Episode``, whose last frames count; or None, for what ``act`` has observed since the last reset. Of
                several frames the last ``agent.agent.context_frames`` are read.
            actions: (T, *shape), or (B, T, *shape); a context of one row serves a batch of actions, and one sequence
                of actions a batch of contexts.
            temperature: of tokens and terminations; 0 for the most likely ones.
            seed: of what is drawn.
            observe: whether observations are decoded; rewards and terminations alone are had sooner.

        Raises:
            UserError: context or actions are of another environment, or do not fit each other.
        """
        import torch

        from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
        from tokenworlds.inference import imagining
        from tokenworlds.inference.arrays import check_seed, check_temperature

        heat = check_temperature(temperature)
        generator = torch.Generator(self.device)
        generator.seed() if seed is None else generator.manual_seed(check_seed(seed))
        frames = self.agent.context_frames
        given, is_batch = (
            self._acting.recent()
            if context is None
            else imagining.read_context(self.spec, context, frames, self.device)
        )
        world = ImaginedWorld(self.agent, generator, max(frames + 1, published_memory(self.config)), heat)
        return imagining.imagine(world, self.spec, given, is_batch, actions, observe)

    def make_env(self, split: Literal["train", "test"] = "test") -> Recorded:
        """The environment of training or of evaluation, with its preprocessing.

        Raises:
            UserError: its package is missing, or there is no such split.
        """
        from tokenworlds import envs

        splits = vars(self.config.environment)
        if split not in splits:
            raise UserError(f"there is no environment '{excerpt(split)}'; give {' or '.join(splits)}.")
        return envs.make(self.config.task, splits[split])


def locate(path: str | os.PathLike[str]) -> Path:
    """The folder of a run: a local one as it is, ``hub:owner/name/subfolder[@revision]`` fetched first."""
    if not str(path).startswith(HUB):
        return Path(path)
    pulled: Path = importlib.import_module("tokenworlds.checkpoints.hub").pull(str(path))
    return pulled


def load(path: str | os.PathLike[str], device: str | torch.device = "auto") -> TrainedAgent:
    """The agent of a finished run, of the newest checkpoint of a run in training, or of an imported checkpoint.

    Args:
        path: run folder (``results/runs/rem/atari/Pong/0``), scratch folder of a training, imported checkpoint, or
            ``hub:owner/name/subfolder[@revision]``.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: there are no weights; they are damaged, of another revision, or hold NaN or infinite values; the
            environment's package is missing; this machine has no such device.
    """
    folder = locate(path)
    config = read_config(folder)
    config = replace(config, runtime=replace(config.runtime, device=str(device)))
    from tokenworlds.ops import precision

    chosen = precision.configure(config.training.precision, config.runtime)
    agent, spec, epoch = load_agent(folder, config)
    return TrainedAgent(folder, config, spec, agent.to(chosen), chosen, epoch)


def is_training(folder: Path) -> bool:
    """Whether a folder holds checkpoints of a run that has not been published."""
    has_weights = os.path.isfile(folder / WEIGHTS)
    return not has_weights and os.path.isdir(folder) and any(folder.glob("epoch_*.json"))


def read_config(run: Path) -> RunConfig:
    """The configuration in a run folder, without the perceptual network, which only training needs.

    Raises:
        UserError: the folder holds no run, or its configuration is damaged or of another revision.
    """
    needed = (CONFIG,) if is_training(run) else (CONFIG, WEIGHTS)
    missing = [name for name in needed if not os.path.isfile(run / name)]
    if missing == [WEIGHTS] and os.path.isfile(run / "lock"):
        raise UserError(
            f"{shortened(run, 80)} has no checkpoint yet; try again after the first epoch of that training."
        )
    if not os.path.isdir(run):
        what = (
            "is a file: give its folder" if os.path.isfile(run) else "does not exist; give a folder below results/runs"
        )
        raise UserError(f"{shortened(Path(os.path.abspath(run)), 80)} {what}.")
    if missing:
        raise UserError(
            f"{shortened(run, 80)} is no finished run: it has no {' and no '.join(missing)}; give a folder below "
            "results/runs, or import a published checkpoint with `python -m tokenworlds.checkpoints import`."
        )
    config = _written_config(run)
    if isinstance(config, TokenRunConfig):
        tokenizer = replace(
            config.model.tokenizer, perceptual=Perceptual.none, perceptual_weights=None, perceptual_weight=None
        )
        config = replace(config, model=replace(config.model, tokenizer=tokenizer))
    return validate(config)


def _written_config(run: Path) -> RunConfig:
    try:
        return load_written(run / CONFIG)
    except UserError as error:
        raise UserError(
            f"{shortened(run / CONFIG)} is damaged or of another revision ({_written_by(run)}; this one is "
            f"{git_revision()}): {brief(error, 80)}."
        ) from error


def _written_by(run: Path) -> str:
    """The revision of the program that wrote a run folder."""
    for name in (ENVIRONMENT, "agent.json"):
        try:
            return brief(json.loads((run / name).read_text())["git_revision"], 40)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "unknown"


def load_agent(run: Path, config: RunConfig) -> tuple[Agent, EnvironmentSpec, int | None]:
    """The trained networks of a run, every tensor of them and no other; the specification of its environment; the
    epoch, where the run is in training.

    Raises:
        UserError: the weights are damaged, of another revision, or hold NaN or infinite values.
    """
    from tokenworlds import envs, methods
    from tokenworlds import tensor_files as tensors

    envs.check_task(config.task)
    file, found, epoch = read_weights(run)
    with envs.make(config.task, config.environment.test) as environment:
        spec = environment.environment_spec
    agent = methods.get(config.method).build_agent(config, spec)
    misfits = list(tensors.misfits(found, agent.state_dict()))
    if misfits:
        named = brief(", ".join(misfits[:3]), 110) + (f" and {len(misfits) - 3} more" if len(misfits) > 3 else "")
        raise UserError(
            f"{shortened(file, 60)} was written by revision {_written_by(run)} and does not fit this one, "
            f"{git_revision()}: {named} differ; check that revision out, or train again."
        )
    tensors.refuse_not_finite(file, tensors.not_finite(found), "the run diverged, train it again")
    agent.load_state_dict(found)
    return agent, spec, epoch


def read_weights(run: Path) -> tuple[Path, dict[str, Tensor], int | None]:
    """The file with a run's weights, the networks' tensors in it, and the epoch of a run in training."""
    from tokenworlds import tensor_files as tensors

    if not is_training(run):
        verify(run, [WEIGHTS], {CONFIG, WEIGHTS}.__contains__)
        tensors.refuse_other_format(run / WEIGHTS)
        return run / WEIGHTS, tensors.read(run / WEIGHTS), None
    from tokenworlds import epoch_files

    # the hash of the file as it is: this revision may have settings that the run's had not
    loaded = epoch_files.read_last(run, hash_of(read_mapping(run / CONFIG)), TRY_AGAIN)
    assert loaded is not None
    stored, head = loaded
    file = run / f"epoch_{head['epoch']:05d}.safetensors"
    return file, epoch_files.part(stored, AGENT_PREFIX), head["epoch"]
