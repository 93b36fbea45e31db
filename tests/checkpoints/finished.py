"""Finished runs with small, untrained networks: every file of a run folder, and its manifest."""

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors.torch import save_file

from tokenworlds import config as configuration
from tokenworlds import envs, methods
from tokenworlds.runs.manifest import write_manifest

EVALUATIONS = """epoch,env_steps,split,episodes,return_mean,return_std,length_mean,hours
2,120,test,2,-1.5,0.5,100.0,0.001
4,180,final,2,-2.0,1.0,100.0,0.002
"""
WORLD_MODEL = """episode,predictor,horizon,part,measure,value,count
0,teacher-forced,,,accuracy,0.25,1
0,open loop,1,image,mse,0.01,1
0,open loop,5,image,mse,0.1,1
0,still,1,image,mse,0.0001,1
0,open loop,5,,reward_predicted,0.5,9
"""
JOURNAL = """{"kind": "metrics", "step": 2, "values": {"collection/train/return_mean": 1.0, "budget/env_steps": 120}}
{"kind": "status", "value": "FINISHED"}
"""


def finished_run(folder: Path, *overrides: str, **scores: Any) -> Path:
    """A run folder; ``scores`` replaces entries of its ``scores.json``."""
    given = ["method=rem", "task=atari/Pong", "scale=smoke", *overrides]
    config = configuration.load(given)
    with envs.make(config.task, config.environment.test) as env:
        spec = env.environment_spec
    agent = methods.get(config.method).build_agent(config, spec)
    folder.mkdir(parents=True)
    save_file(
        {key: value.contiguous().clone() for key, value in agent.state_dict().items()}, folder / "agent.safetensors"
    )
    identity = {key: getattr(config, key) for key in ("method", "variant", "task")}
    metadata = identity | {"config_hash": config.hash(), "git_revision": "abc", **spec.card()}
    record = {
        "schema": 1,
        "run": identity | {"seed": config.seed, "scale": config.scale.name, "suite": None},
        "budget": {"epochs": 4, "env_steps": 180, "agent_updates": {"world_model": 18, "actor_critic": 6}},
        "protocol": {"episodes": 2, "num_envs": 2, "temperature": 0.5, "max_episode_steps": 400, "final": True},
        "returns": [-1.0, -3.0],
        "lengths": [100, 100],
        "score": -2.0,
        "random": {"returns": [-2.0, -2.0], "score": -2.0},
        "config_hash": config.hash(),
        "overrides": {},
        "git_revision": "abc",
        "hardware": "CPU",
        "hours": 0.002,
    }
    files = {
        "agent.json": json.dumps(metadata, indent=2),
        "config.yaml": OmegaConf.to_yaml(configuration.to_dict(config)),
        "scores.json": json.dumps(record | scores, indent=2),
        "evaluations.csv": EVALUATIONS,
        "world_model.csv": WORLD_MODEL,
        "metrics.jsonl": JOURNAL,
        "media/imagination.png": "a picture",
        "media/episode.mp4": "a film",
        "media/episodes/train/episode_00000.npz": "experience",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    write_manifest(folder)
    return folder
