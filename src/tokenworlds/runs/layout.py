"""Folders of runs below ``results/``, and names of the files in a run's folder."""

from __future__ import annotations

from pathlib import Path

from tokenworlds.config import project_root

CONFIG, WEIGHTS, JOURNAL = "config.yaml", "agent.safetensors", "metrics.jsonl"
EVALUATIONS, RUN_SCORES, ENVIRONMENT = "evaluations.csv", "scores.json", "environment.json"
EPISODES, REPLAY = "media/episodes", "replay"  # folders of kept episodes, and of the whole experience
KINDS = TRAIN, TEST, IMAGINED = "train", "test", "imagined"  # of kept episodes, a folder each


def runs_folder() -> Path:
    """Folder of all run folders, ``<method>[+<variant>]/<task>/<seed>`` below it."""
    return project_root() / "results" / "runs"


def scores_folder() -> Path:
    """Folder with a copy of every run's scores, ``<method>[+<variant>]/<task>/<seed>.json`` below it."""
    return project_root() / "results" / "scores"
