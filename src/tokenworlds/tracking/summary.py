"""Numbers of a finished run for a list of runs: score, human-normalised score, random policy's score, hours."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenworlds.config import project_root
from tokenworlds.errors import UserError
from tokenworlds.scores import is_cut

SCORE, HUMAN_NORMALISED, RANDOM, HOURS = "score", "score_human_normalised", "score_random", "hours"
HARDWARE = "hardware"  # a tag
DIGITS = 4


def reference_scores_file() -> Path:
    """File with the published scores of a random policy and of a human."""
    return project_root() / "results" / "data" / "reference_scores.csv"


def read_scores(path: Path) -> dict[str, Any]:
    """Content of ``scores.json``; nothing where there is none, as beside the journal of a run that still trains."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content["run"], dict):
            raise TypeError("run is no section")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged (it holds no scores of a run); train that run again or leave its folder out."
        ) from error
    return dict(content)


def summary(scores: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a run from the content of its ``scores.json``; what is not defined for it is left out.

    Human-normalised is (score - random) / (human - random) with published references, of whole Atari games only. The
    random policy's score is the run's own measurement, else the published one. Rounded, for narrow columns.
    """
    values = {SCORE: scores.get("score"), HOURS: scores.get("hours")}
    if scores.get("random"):
        values[RANDOM] = scores["random"]["score"]
    if reference := published_reference(scores):
        random, human = reference
        values = {RANDOM: random} | values | {HUMAN_NORMALISED: (float(scores["score"]) - random) / (human - random)}
    return {key: round(float(value), DIGITS) for key, value in values.items() if value is not None}


def published_reference(scores: Mapping[str, Any]) -> tuple[float, float] | None:
    """Published (random, human) scores of the run's task; None where there are none, or its episodes were cut."""
    run, limit = scores["run"], scores.get("protocol", {}).get("max_episode_steps", math.nan)
    family, _, game = str(run.get("task")).partition("/")
    cut = is_cut(str(run.get("task")), math.inf if limit is None else float(limit), str(run.get("scale")))
    if family != "atari" or cut or not reference_scores_file().is_file():
        return None
    with reference_scores_file().open(encoding="utf-8", newline="") as file:
        rows = {row["task"]: row for row in csv.DictReader(file)}
    return (float(rows[game]["random"]), float(rows[game]["human"])) if game in rows else None
