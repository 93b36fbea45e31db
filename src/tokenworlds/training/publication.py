"""Publication of a run: final evaluation, scores, weights and pictures in its folder (docs/runs.md)."""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
import statistics
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from tokenworlds import envs
from tokenworlds.config import Provenance, RunConfig, to_dict
from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.redaction import redact_values
from tokenworlds.runs.columns import MEASURED, QUALITY, names
from tokenworlds.runs.layout import EPISODES, REPLAY, TRAIN, runs_folder, scores_folder
from tokenworlds.runs.manifest import write_manifest
from tokenworlds.tensor_files import not_finite, save
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training import costs, initialization, token_churn
from tokenworlds.training.collector import EpisodeStats
from tokenworlds.training.kept_episodes import keep_played, last_of_training, whole_replay
from tokenworlds.training.kept_episodes import write as write_episodes
from tokenworlds.training.progress import duration
from tokenworlds.training.run_folder import RunFolder
from tokenworlds.training.trainer import Trainer
from tokenworlds.training.world_model_quality import metrics_of

SCHEMA = 1
PACKAGES = (  # whose versions a run records, of those that are installed
    *("torch", "numpy", "gymnasium", "ale-py", "minigrid", "mlflow", "dvc", "hydra-core"),
    *("crafter", "opensimplex", "dm-control", "mujoco", "craftax", "jax", "jaxlib"),
)


def publish(trainer: Trainer, settings: Provenance, made_by: bytes, folder: RunFolder) -> None:
    """Final evaluation, then the run folder, the scores copied last.

    Args:
        trainer: after its last epoch.
        settings: of the configuration's files when the session began.
        made_by: content of environment.json.
        folder: where the run is published.
    """
    config, scratch = trainer.config, trainer.folder
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.trained_state().items()}
    if broken := not_finite(state):
        raise UserError(
            f"{config.identity}: {broken[0]} is not finite after the last update ({len(broken)} tensors in all): "
            "training has diverged; lower the learning rate of that component, which makes another run of it."
        )
    evaluation, evaluator = config.evaluation, trainer.evaluator
    final, buffer = evaluator.play("final", episodes=evaluation.final_episodes, num_envs=evaluation.final_num_envs)
    trainer.record_evaluation("final", final)

    def journal(kind: str, **entries: Any) -> None:
        trainer.journal.append(kind, step=trainer.epoch, final=True, **entries)

    for key, path in evaluator.pictures(trainer.epoch, buffer, scratch / "media", trainer.started).items():
        journal("artifact", key=key, path=str(path.relative_to(scratch)))
    compared = config.runtime.measured_episodes if "world_model" in trainer.started else 0
    quality = evaluator.world_model("final", buffer, compared)
    if compared:
        quality.measures += evaluator.random_play(min(compared, evaluation.final_episodes))
    of_tokenizer = evaluator.tokenizer(buffer, config.runtime.measured_episodes)
    random = None
    if evaluation.random_episodes:
        random, _ = evaluator.play(
            "random policy", episodes=evaluation.random_episodes, num_envs=evaluation.final_num_envs, use_agent=False
        )
    result = scores(trainer, settings, final, random)
    of_cost = costs.measures(
        config,
        trainer.agent,
        trainer.components,
        trainer.journal,
        trainer.clock.seconds,
        trainer.beginning.steps_before,
    )
    measures = [*quality.measures, *of_tokenizer, *token_churn.measures(trainer.journal), *of_cost]
    journal("metrics", values={"final/return_mean": result["score"], **metrics_of(measures)})
    encoded = json.dumps(redact_values(result), indent=2).encode()
    write_atomic(scratch / "scores.json", encoded)
    journal("artifact", key="scores", path="scores.json")
    trainer.journal.append("status", value="FINISHED")
    agent = {key: getattr(config, key) for key in ("method", "variant", "task")}
    agent |= {"config_hash": config.hash(), "git_revision": result["git_revision"]}
    files = {
        "agent.safetensors": save(state, agent),
        "agent.json": json.dumps({**agent, **trainer.envs.spec.card()}, indent=2).encode(),
        "config.yaml": OmegaConf.to_yaml(to_dict(config)).encode(),
        "environment.json": made_by,
        "evaluations.csv": _csv(list(trainer.evaluations[0]), trainer.evaluations),
        "measures.csv": _csv(names(MEASURED), measures),
        "metrics.jsonl": trainer.journal.path.read_bytes(),
        "scores.json": encoded,
        "world_model.csv": _csv(names(QUALITY), quality.rows),
    }

    def write(staging: Path) -> None:
        for name, content in files.items():
            write_atomic(staging / name, content)
        shutil.copytree(scratch / "media", staging / "media")
        episodes, given = staging / EPISODES, (config, trainer.epoch)
        write_episodes(last_of_training(trainer.buffer, *given), episodes / TRAIN, trainer.agent)
        keep_played(trainer.agent, buffer, *given, trainer.started, episodes)
        if config.runtime.keep_replay:
            write_episodes(whole_replay(trainer.buffer, *given), staging / REPLAY)
        write_manifest(staging)
        if not all((staging / name).is_file() for name in files):
            raise UserError(f"{staging} was changed while it was written; give the same command again.")

    folder.publish(write)
    copy_scores(config)
    against = f", random policy {result['random']['score']:.2f}" if result["random"] else ""
    print(
        f"score {result['score']:.2f} over {len(final.returns)} episodes{against}; "
        f"{duration(trainer.clock.seconds)}; {config.out_dir}",
        flush=True,
    )


def scores(trainer: Trainer, settings: Provenance, final: EpisodeStats, random: EpisodeStats | None) -> dict[str, Any]:
    """The record that the analysis reads (docs/runs.md)."""
    config, rates = trainer.config, trainer.envs.spec.success_rates(final.achievements)
    return {
        "schema": SCHEMA,
        "run": {
            **{key: getattr(config, key) for key in ("method", "variant", "task", "seed")},
            "scale": config.scale.name,
            "suite": config.runtime.suite,
        },
        "budget": {
            "epochs": trainer.epoch,
            "env_steps": trainer.env_steps,
            **{name: count for component in trainer.components for name, count in component.spent().items()},
            "agent_updates": {component.name: component.updates for component in trainer.components},
            **({"trained_on": trainer.beginning.trained_on} if trainer.beginning.trained_on else {}),
        },
        "protocol": {
            "episodes": len(final.returns),
            "num_envs": config.evaluation.final_num_envs,
            "temperature": config.collection.test.temperature,
            "max_episode_steps": config.environment.test.max_episode_steps,
            "final": True,
        },
        "returns": final.returns,
        "lengths": final.lengths,
        "score": statistics.fmean(final.returns),
        "random": {"returns": random.returns, "score": statistics.fmean(random.returns)} if random else None,
        "config_hash": config.hash(),
        "settings_hash": settings.settings_hash,
        "overrides": settings.overrides | trainer.beginning.overrides(settings.begins_as_shipped),
        "git_revision": "+".join(dict.fromkeys(session["git_revision"] for session in trainer.sessions)),
        "sessions": [{key: session[key] for key in ("from_epoch", "git_revision")} for session in trainer.sessions],
        "hardware": hardware(trainer.device),
        "hours": trainer.clock.seconds / 3600,
        **({"achievements": rates} if rates else {}),
        **envs.summary(config.task, rates),
        **trainer.beginning.record,
    }


def tags(config: RunConfig) -> dict[str, str]:
    """Identity of the run in the tracking UI."""
    return {
        "method": config.method,
        "variant": config.variant or "",
        "task": config.task,
        "seed": str(config.seed),
        "suite": config.runtime.suite or "",
        "scale": config.scale.name,
        "git_revision": git_revision(),
        "config_hash": config.hash(),
        **({} if config.initialization is None else {"initialization": initialization.label(config)}),
        **({} if config.extended_from is None else {"extended_from": config.extended_from.config_hash}),
    }


def hardware(device: torch.device) -> str:
    """Name of the GPU, or of the CPU's architecture with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def environment(trainer: Trainer) -> dict[str, Any]:
    """Versions of interpreter, packages and code, and the hardware: environment.json."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "hardware": hardware(trainer.device),
        "git_revision": git_revision(),
        "packages": {name: metadata.version(name) for name in PACKAGES if list(metadata.distributions(name=name))},
        "code": trainer.sessions.code,
    }


def copy_scores(config: RunConfig) -> None:
    """Copy a published run's scores to the folder from which all scores are collected, unless it was sent elsewhere
    with ``out``."""
    if config.out_dir.resolve() == (runs_folder() / config.identity).resolve():
        target = scores_folder() / f"{config.identity}.json"
        write_atomic(target, (config.out_dir / "scores.json").read_bytes())


def _csv(columns: Sequence[str], rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
