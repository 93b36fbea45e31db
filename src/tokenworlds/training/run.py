"""A run from start to finish: its scratch folder and lock, training, final evaluation, publication (see the README, A
run)."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
import statistics
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from safetensors.torch import save

from tokenworlds import envs
from tokenworlds.config import RunConfig, project_root, to_dict
from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.mlflow_sink import MlflowSink
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training import precision
from tokenworlds.training.collector import Collected
from tokenworlds.training.evaluator import crafter_score, success_rates
from tokenworlds.training.progress import duration
from tokenworlds.training.trainer import Trainer

SCHEMA = 1
PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "minigrid", "mlflow", "dvc", "hydra-core")
OPTIONAL_PACKAGES = ("crafter", "opensimplex", "dm-control", "mujoco", "craftax", "jax", "jaxlib")


def scratch_folder(config: RunConfig) -> Path:
    """Where a running training keeps its checkpoints: the name holds the configuration's hash, so no other
    configuration can find them."""
    base = config.runtime.scratch or os.environ.get("TOKENWORLDS_SCRATCH") or project_root() / "scratch"
    return Path(base).absolute() / f"{config.identity}-{config.hash()}"


def run_training(config: RunConfig) -> None:
    """Train (or resume) a run and publish its folder.

    Raises:
        UserError: unknown task, unwritable folder, another trainer at work on this run, damaged checkpoint.
    """
    envs.check_task(config.task)
    if _is_published(config):
        _copy_scores(config)  # a kill between the two steps of publication leaves them out
        print(f"{config.out_dir} holds this run already (configuration {config.hash()}); delete it to run again.")
        return
    scratch = scratch_folder(config)
    _require_writable(config.out_dir.parent)
    _require_writable(scratch)
    lock = FileLock(scratch / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another trainer is at work on {config.identity} (it holds {scratch / 'lock'}); wait for it or stop it."
        ) from error
    try:
        _train_and_publish(config, scratch)
        if not config.runtime.keep_scratch:
            shutil.rmtree(scratch, ignore_errors=True)  # while the lock is held: nobody else can have begun here
    finally:
        lock.release()


def _train_and_publish(config: RunConfig, scratch: Path) -> None:
    device = precision.configure(config.training.precision, config.runtime)
    print(
        f"{config.identity}  scale {config.scale.name}  configuration {config.hash()}  on {hardware(device)}",
        flush=True,
    )
    write_atomic(scratch / "config.yaml", OmegaConf.to_yaml(to_dict(config)).encode())
    journal = Journal(scratch / "metrics.jsonl")
    sink = (
        MlflowSink(journal.path, config.runtime.tracking_uri, run_name=config.identity, tags=tags(config))
        if config.runtime.tracking
        else None
    )
    trainer = Trainer(config, scratch, journal, device)
    try:
        if not (scratch / "environment.json").exists():
            journal.append("tags", values=tags(config))
            journal.append("params", values=_flatten(to_dict(config)))
        write_atomic(scratch / "environment.json", json.dumps(environment(device), indent=2).encode())
        trainer.run()
        _publish(config, scratch, trainer, device)
        journal.append("status", value="FINISHED")
    except BaseException:
        journal.append("status", value="FAILED")
        raise
    finally:
        trainer.close()
        if sink is not None:
            sink.close()
    shutil.copyfile(journal.path, config.out_dir / "metrics.jsonl")


def _publish(config: RunConfig, scratch: Path, trainer: Trainer, device: torch.device) -> None:
    """Final evaluation, then the run folder: written beside its place and renamed, the scores copied last."""
    evaluation = config.evaluation
    collected, buffer = trainer.evaluator.play(
        "final", episodes=evaluation.final_episodes, num_envs=evaluation.final_num_envs
    )
    trainer.record_evaluation("final", collected)
    for key, path in trainer.evaluator.pictures(trainer.epoch, buffer, scratch / "media", trainer.started).items():
        trainer.journal.append("artifact", step=trainer.epoch, final=True, key=key, path=str(path.relative_to(scratch)))
    random = None
    if evaluation.random_episodes:
        random, _ = trainer.evaluator.play(
            "random policy", episodes=evaluation.random_episodes, num_envs=evaluation.final_num_envs, use_agent=False
        )
    result = scores(config, trainer, collected, random, device)
    trainer.journal.append("metrics", step=trainer.epoch, final=True, values={"final/return_mean": result["score"]})
    write_atomic(scratch / "scores.json", json.dumps(result, indent=2).encode())
    trainer.journal.append("artifact", step=trainer.epoch, final=True, key="scores", path="scores.json")
    staging = config.out_dir.with_name(config.out_dir.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.trained_state().items()}
    write_atomic(staging / "agent.safetensors", save(state))
    card = {
        "method": config.method,
        "variant": config.variant,
        "task": config.task,
        "config_hash": config.hash(),
        **trainer.envs.spec.card(),
    }
    write_atomic(staging / "agent.json", json.dumps(card, indent=2).encode())
    write_atomic(staging / "evaluations.csv", _csv(trainer.evaluations))
    for name in ("config.yaml", "environment.json", "scores.json"):
        write_atomic(staging / name, (scratch / name).read_bytes())
    write_atomic(staging / "metrics.jsonl", trainer.journal.path.read_bytes())
    shutil.copytree(scratch / "media", staging / "media")
    shutil.rmtree(config.out_dir, ignore_errors=True)
    os.replace(staging, config.out_dir)
    _copy_scores(config)
    against = f", random policy {result['random']['score']:.2f}" if result["random"] else ""
    print(
        f"score {result['score']:.2f} over {len(collected.returns)} episodes{against}; "
        f"{duration(trainer.clock.seconds)}; {config.out_dir}",
        flush=True,
    )


def scores(
    config: RunConfig, trainer: Trainer, final: Collected, random: Collected | None, device: torch.device
) -> dict[str, Any]:
    """The record that the analysis reads (README, A run)."""
    evaluation, rates = config.evaluation, success_rates(final, trainer.envs.spec)
    return {
        "schema": SCHEMA,
        "run": {
            "method": config.method,
            "variant": config.variant,
            "task": config.task,
            "seed": config.seed,
            "scale": config.scale.name,
            "suite": config.runtime.suite,
        },
        "budget": {
            "epochs": trainer.epoch,
            "env_steps": trainer.env_steps,
            "agent_updates": {phase.name: phase.updates for phase in trainer.phases},
        },
        "protocol": {
            "episodes": len(final.returns),
            "num_envs": evaluation.final_num_envs,
            "temperature": config.collection.test.temperature,
            "final": True,
        },
        "returns": final.returns,
        "lengths": final.lengths,
        "score": statistics.fmean(final.returns),
        "random": {"returns": random.returns, "score": statistics.fmean(random.returns)} if random else None,
        "config_hash": config.hash(),
        "git_revision": git_revision(),
        "hardware": hardware(device),
        "hours": trainer.clock.seconds / 3600,
        **({"achievements": {name: 100 * rate for name, rate in rates.items()}} if rates else {}),
        **crafter_score(rates),
    }


def tags(config: RunConfig) -> dict[str, str]:
    """What runs are told apart by in the tracking UI."""
    return {
        "method": config.method,
        "variant": config.variant or "",
        "task": config.task,
        "seed": str(config.seed),
        "suite": config.runtime.suite or "",
        "scale": config.scale.name,
        "git_revision": git_revision(),
        "config_hash": config.hash(),
    }


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def environment(device: torch.device) -> dict[str, Any]:
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "hardware": hardware(device),
        "git_revision": git_revision(),
        "packages": {
            name: metadata.version(name)
            for name in PACKAGES + OPTIONAL_PACKAGES
            if name in PACKAGES or list(metadata.distributions(name=name))
        },
    }


def _copy_scores(config: RunConfig) -> None:
    """The scores of a published run where the collection of all scores looks for them, unless it was sent elsewhere
    with ``out``."""
    if config.out is None:
        target = project_root() / "results" / "scores" / f"{config.identity}.json"
        write_atomic(target, (config.out_dir / "scores.json").read_bytes())


def _is_published(config: RunConfig) -> bool:
    try:
        recorded: str = json.loads((config.out_dir / "scores.json").read_text())["config_hash"]
    except (OSError, ValueError, KeyError):
        return False
    return recorded == config.hash()


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}); choose another folder with out=... or runtime.scratch=..."
        ) from error


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
