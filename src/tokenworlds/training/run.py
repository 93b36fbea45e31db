"""A run from start to finish: its scratch folder and lock, training, final evaluation, publication (see the README, A
run)."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import platform
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from safetensors.torch import save

from tokenworlds import envs
from tokenworlds.config import (
    Provenance,
    Resume,
    RunConfig,
    project_root,
    provenance,
    to_dict,
)
from tokenworlds.config.values import flat
from tokenworlds.errors import UserError
from tokenworlds.files import remove_own, require_place, write_atomic
from tokenworlds.ops import precision
from tokenworlds.redaction import redact_values
from tokenworlds.runs.manifest import is_result, verify, write_manifest
from tokenworlds.tensor_files import not_finite
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.mlflow_sink import MlflowSink
from tokenworlds.tracking.revision import git_revision, is_code_of
from tokenworlds.training.collector import Collected
from tokenworlds.training.progress import duration
from tokenworlds.training.run_folder import (
    RESUMED_FILES,
    RunFolder,
    is_kept,
    is_scratch_of,
    remove_scratch,
    scratch_folder,
)
from tokenworlds.training.trainer import Trainer

SCHEMA = 1
PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "minigrid", "mlflow", "dvc", "hydra-core")
OPTIONAL_PACKAGES = ("crafter", "opensimplex", "dm-control", "mujoco", "craftax", "jax", "jaxlib")


def run_training(config: RunConfig) -> None:
    """Train (or resume) a run and publish its folder.

    Raises:
        UserError: unknown task, a run folder that must not or cannot be written, another trainer at work on this run,
            a checkpoint that is damaged or was written by other code.
    """
    envs.check_task(config.task)
    precision.find_device(config.runtime.device)
    scratch = scratch_folder(config)
    folder = RunFolder(config, scratch)
    if folder.is_published() and _is_whole(folder.path, config.replace):
        _copy_scores(config)  # a kill between the steps of publication leaves out this one and the next
        if is_scratch_of(scratch, folder.path) and not is_kept(scratch):
            with _locked(config, scratch):
                _remove_scratch(scratch)
        print(f"{config.out_dir} holds this run already (configuration {config.hash()}); delete it to run again.")
        return
    folder.check()
    require_place(scratch / "lock", "choose another folder with runtime.scratch=...")
    _name_others(config, scratch)
    with _locked(config, scratch):
        if config.runtime.resume is Resume.never:
            _discard_other_code(scratch)
        _train_and_publish(config, scratch, folder)
        if not config.runtime.keep_scratch:
            _remove_scratch(scratch)


def _is_whole(folder: Path, is_replaced: bool) -> bool:
    """Whether nothing of a published run is damaged; such a run is trained again only when told so."""
    try:
        verify(folder, is_needed=is_result)
    except UserError:
        if is_replaced:
            return False
        raise
    return True


@contextmanager
def _locked(config: RunConfig, scratch: Path) -> Iterator[None]:
    """While the context lasts, no other process trains this run or removes its scratch folder."""
    scratch.mkdir(parents=True, exist_ok=True)
    lock = FileLock(scratch / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another trainer is at work on {config.identity} (it holds {scratch / 'lock'}); wait for it or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _name_others(config: RunConfig, scratch: Path) -> None:
    """Say that this run has checkpoints of other configurations, which a change of the program makes of the same
    command, too."""
    others = {path.parent.name for path in scratch.parent.glob(f"{config.seed}-*/epoch_*.json")} - {scratch.name}
    if others:
        print(
            f"note: {scratch.parent} also holds checkpoints of other configurations or revisions of this run "
            f"({', '.join(sorted(others)[:3])}); python -m pipeline.clean lists them.",
            flush=True,
        )


def _discard_other_code(scratch: Path) -> None:
    """Start again where other code wrote the last checkpoint; what this code wrote is resumed, also when the command
    that started again is given a second time."""
    heads = sorted(scratch.glob("epoch_*.json"))
    try:
        code = json.loads(heads[-1].read_text())["state"]["sessions"][-1]["code"] if heads else {}
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        code = {}
    if heads and not is_code_of(code):
        remove_own(scratch, RESUMED_FILES)


def _remove_scratch(scratch: Path) -> None:
    if left := remove_scratch(scratch):
        print(f"left in {scratch}: {', '.join(left[:3])}, not made by this program.", file=sys.stderr, flush=True)


def _train_and_publish(config: RunConfig, scratch: Path, folder: RunFolder) -> None:
    device = precision.configure(config.training.precision, config.runtime)
    print(
        f"{config.identity}  scale {config.scale.name}  configuration {config.hash()}  revision {git_revision()}  "
        f"on {hardware(device)}",
        flush=True,
    )
    settings = provenance(config)  # of the files as they are now: an edit during the run does not count
    write_atomic(scratch / "config.yaml", OmegaConf.to_yaml(to_dict(config)).encode())
    journal = Journal(scratch / "metrics.jsonl")
    trainer = Trainer(config, scratch, journal, device)
    try:
        trainer.resume()
        if not (scratch / "environment.json").exists():
            journal.append("tags", values=tags(config))
            journal.append("params", values=flat(to_dict(config)))
        made_by = json.dumps(environment(trainer), indent=2).encode()
        write_atomic(scratch / "environment.json", made_by)
        with _tracked(config, journal):
            trainer.run()
            _publish(config, settings, made_by, scratch, trainer, device, folder)
    finally:
        trainer.close()


@contextmanager
def _tracked(config: RunConfig, journal: Journal) -> Iterator[None]:
    """While the context lasts, MLflow gets what the journal gets; the journal then says how the session ended."""
    sink = (
        MlflowSink(journal.path, config.runtime.tracking_uri, run_name=config.identity, tags=tags(config))
        if config.runtime.tracking
        else None
    )
    try:
        yield
    except BaseException as error:
        _record_end(journal, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")  # SIGTERM is one, too
        raise
    finally:
        if sink is not None:
            sink.close()


def _record_end(journal: Journal, status: str) -> None:
    """How the session ended; where even that cannot be written, what ended it is the thing to say."""
    with contextlib.suppress(UserError, OSError):
        journal.append("status", value=status)


def _publish(
    config: RunConfig,
    settings: Provenance,
    made_by: bytes,
    scratch: Path,
    trainer: Trainer,
    device: torch.device,
    folder: RunFolder,
) -> None:
    """Final evaluation, then the run folder, the scores copied last."""
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.trained_state().items()}
    if broken := not_finite(state):
        raise UserError(
            f"{config.identity}: {broken[0]} is not finite after the last update ({len(broken)} tensors in all): "
            "training has diverged; lower the learning rate of that component, which makes another run of it."
        )
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
    result = scores(config, settings, trainer, collected, random, device)
    trainer.journal.append("metrics", step=trainer.epoch, final=True, values={"final/return_mean": result["score"]})
    encoded = json.dumps(redact_values(result), indent=2).encode()
    write_atomic(scratch / "scores.json", encoded)
    trainer.journal.append("artifact", step=trainer.epoch, final=True, key="scores", path="scores.json")
    trainer.journal.append("status", value="FINISHED")
    card = {
        "method": config.method,
        "variant": config.variant,
        "task": config.task,
        "config_hash": config.hash(),
        "git_revision": result["git_revision"],
        **trainer.envs.spec.card(),
    }
    files = {
        "agent.safetensors": save(state),
        "agent.json": json.dumps(card, indent=2).encode(),
        "config.yaml": OmegaConf.to_yaml(to_dict(config)).encode(),
        "environment.json": made_by,
        "evaluations.csv": _csv(trainer.evaluations),
        "metrics.jsonl": trainer.journal.path.read_bytes(),
        "scores.json": encoded,
    }

    def write(staging: Path) -> None:
        for name, content in files.items():
            write_atomic(staging / name, content)
        shutil.copytree(scratch / "media", staging / "media")
        write_manifest(staging)
        if not all((staging / name).is_file() for name in files):
            raise UserError(f"{staging} was changed while it was written; give the same command again.")

    folder.publish(write)
    _copy_scores(config)
    against = f", random policy {result['random']['score']:.2f}" if result["random"] else ""
    print(
        f"score {result['score']:.2f} over {len(collected.returns)} episodes{against}; "
        f"{duration(trainer.clock.seconds)}; {config.out_dir}",
        flush=True,
    )


def scores(
    config: RunConfig,
    settings: Provenance,
    trainer: Trainer,
    final: Collected,
    random: Collected | None,
    device: torch.device,
) -> dict[str, Any]:
    """The record that the analysis reads (README, A run)."""
    evaluation, rates = config.evaluation, trainer.envs.spec.success_rates(final.achievements)
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
        "settings_hash": settings.settings_hash,
        "overrides": settings.overrides,
        "git_revision": "+".join(dict.fromkeys(session["git_revision"] for session in trainer.sessions)),
        "sessions": [{key: session[key] for key in ("from_epoch", "git_revision")} for session in trainer.sessions],
        "hardware": hardware(device),
        "hours": trainer.clock.seconds / 3600,
        **({"achievements": rates} if rates else {}),
        **envs.summary(config.task, rates),
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


def environment(trainer: Trainer) -> dict[str, Any]:
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "hardware": hardware(trainer.device),
        "git_revision": git_revision(),
        "packages": {
            name: metadata.version(name)
            for name in PACKAGES + OPTIONAL_PACKAGES
            if name in PACKAGES or list(metadata.distributions(name=name))
        },
        "code": trainer.sessions.code,
    }


def _copy_scores(config: RunConfig) -> None:
    """The scores of a published run where the collection of all scores looks for them, unless it was sent elsewhere
    with ``out``."""
    if config.out is None:
        target = project_root() / "results" / "scores" / f"{config.identity}.json"
        write_atomic(target, (config.out_dir / "scores.json").read_bytes())


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
