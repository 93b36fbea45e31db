"""Folders of runs below ``results/``, and names of the files in a run's folder."""

from __future__ import annotations

import os
from pathlib import Path

from tokenworlds.config import project_root
from tokenworlds.errors import UserError
from tokenworlds.files import require_place, shortened

CONFIG, WEIGHTS, JOURNAL = "config.yaml", "agent.safetensors", "metrics.jsonl"
EVALUATIONS, RUN_SCORES, ENVIRONMENT = "evaluations.csv", "scores.json", "environment.json"
EPISODES, REPLAY = "media/episodes", "replay"  # folders of kept episodes, and of the whole experience
KINDS = TRAIN, TEST, IMAGINED = "train", "test", "imagined"  # of kept episodes, a folder each
WORLD_MODEL, MEASURES = "world_model.csv", "measures.csv"
RUN_MARKS = (WEIGHTS, "manifest.json", "epoch_*.json", JOURNAL)
"""Beside a configuration any of these makes a folder that of a run, or the scratch folder of a training."""


def runs_folder() -> Path:
    """Folder of all run folders, ``<method>[+<variant>]/<task>/<seed>`` below it."""
    return project_root() / "results" / "runs"


def scores_folder() -> Path:
    """Folder with a copy of every run's scores, ``<method>[+<variant>]/<task>/<seed>.json`` below it."""
    return project_root() / "results" / "scores"


def refuse_in_run(path: Path, option: str) -> None:
    """Refuse a place for results in the folder of any run, or of any training, whose files belong together.

    Args:
        path: file or folder to write; it may be absent.
        option: that names it, such as ``--out``.

    Raises:
        UserError: ``path`` lies in such a folder, or is one.
    """
    place = path.resolve()
    for folder in (place, *place.parents):
        if os.path.isfile(folder / CONFIG) and any(any(folder.glob(mark)) for mark in RUN_MARKS):
            raise UserError(
                f"{option} {shortened(path)} lies in the run folder {shortened(folder, 80)}, which stays as it is; "
                "name another place."
            )


def require_new(path: Path, option: str) -> None:
    """Refuse a place for a new folder where something is, in a run's folder, or where nothing can be made.

    Args:
        option: that names it, such as ``--out``.
    """
    another = f"name another folder with {option}"
    if os.path.lexists(path):
        raise UserError(f"{shortened(path)} exists, and nothing is written over; {another}.")
    refuse_in_run(path, option)
    require_place(path, another)
