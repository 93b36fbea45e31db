"""Runs of the families of experiments, fabricated as they are collected."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.families import FAMILIES
from tokenworlds.runs.columns import ACTIVITIES, OF_RANDOM_PLAY, OPEN_LOOP, PARAMETERS, TOKENIZER

Run = dict[str, Any]
PICTURES = tuple(
    f"{name}{end}"
    for name in (
        "psnr",
        "ssim",
        "l1_changed",
        "codebook_perplexity",
        "probe_return_r2_tokens",
        "probe_reward_f1_tokens",
    )
    for end in ("", OF_RANDOM_PLAY)
)
WHOLE = ("token_churn_late", "parameters", "trainable_parameters", "seconds_per_imagined_frame", "state_bytes")
MEASURES = [
    *((name, "image") for name in PICTURES), *((name, "") for name in WHOLE),
    *((name, "world_model") for name in ("parameters", "seconds_per_update")),
]  # fmt: skip
"""Names of what is measured of a run as a whole, and their parts."""
LEVELS = {
    **{f"psnr{end}": 30.0 for end in ("", OF_RANDOM_PLAY)}, "codebook_perplexity": 60.0, "parameters": 9e6,
    "trainable_parameters": 8e6, "state_bytes": 9e4,
}  # fmt: skip
EPOCHS = (200, 400, 600)


def runs(families: Iterable[str], tasks: Sequence[str], seeds: int, scale: str) -> list[Run]:
    """Identities of runs of all variants, those that families share once."""
    chosen = {(FAMILIES[key].method, name): None for key in families for name in FAMILIES[key].names}
    return [
        {"method": method, "variant": name, "task": task, "seed": seed, "scale": scale}
        for method, name in chosen
        for task in tasks
        for seed in range(seeds)
    ]


def write(folder: Path, chosen: Sequence[Run], better: dict[str, float] | None = None) -> Path:
    """All tables of ``python -m pipeline.collect`` for these runs, random numbers in them.

    Args:
        better: by how much the scores of a variant are higher than random ones between 0 and 0.1, and its losses lower.
    """
    random, better = np.random.default_rng(0), better or {}
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("scores", "costs", "evaluations", "losses", "measures", "world_model")
    }
    for who in chosen:
        shift = better.get(who["variant"], 0.0)
        score, spent = shift + 0.1 * random.random(), {"hardware": "CPU", "hours": 0.3, "epochs": 600, "env_steps": 1e5}
        limit = {"episode_limit": np.inf if who["scale"] == "paper" else 400.0}
        tables["scores"].append({**who, "score": score, "episodes": 100.0, **limit, **spent, **_before(who)})
        seconds = {f"seconds_{name}": random.random() for name in ACTIVITIES}
        tables["costs"].append({**who, **spent, **seconds, **{column.name: 1e7 for column in PARAMETERS}})
        for epoch in EPOCHS:
            steps = {"epoch": epoch, "env_steps": 1e5 * epoch / 600}
            tables["evaluations"].append({**who, **steps, "split": "test", "return_mean": score, "hours": 0.1})
            for split in ("train", "eval"):
                kind = {"component": "world_model", "split": split, "loss": "observations"}
                value = 2 + 600 / epoch - shift + 0.1 * random.random()
                progress = {"updates": 200.0 * epoch, "seconds": epoch * (1 + random.random())}
                tables["losses"].append({**who, **kind, **steps, **progress, "value": value})
        for measure, part in MEASURES:
            value = LEVELS.get(measure, 0.5) * (1 + shift + 0.1 * random.random())
            tables["measures"].append({**who, "group": "tokenizer", "measure": measure, "part": part, "value": value})
        loss = {"measure": "loss_random_play", "part": "", "value": 2 - shift + 0.1 * random.random()}
        tables["measures"].append({**who, "group": "world model", **loss})
        error = {"measure": "mse", "part": "image", "value": 0.001 * (1 - shift + 0.1 * random.random()), "count": 1}
        for predictor, horizon in ((OPEN_LOOP, 1), (OPEN_LOOP, 5), (TOKENIZER, "")):
            row = {**who, "episode": 0, "predictor": predictor, "horizon": horizon, **error}
            tables["world_model"].append(row | {"value": error["value"] * (horizon or 0.1)})
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder / "scores.csv"


def _before(who: Run) -> dict[str, Any]:
    """Steps and frames that are not those of the run."""
    source = f"{who['method']}/{who['task']}/{who['seed']}"
    is_same, is_oracle = who["variant"].startswith("tokenizer-same-game"), who["variant"] == "oracle"
    trained_on = f"tokenizer: 100000 frames of {source}, not counted" if is_same else ""
    return {"trained_on": trained_on, "oracle_steps": 1e6 if is_oracle else np.nan}
