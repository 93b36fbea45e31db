"""A published run's trained agent as a model of MLflow, and as a version with an alias in its registry.

The model holds what ``python -m pipeline.evaluate`` reads. The registered model is the method and task,
``iris-atari-Pong``; the alias ``paper-seed-0`` is its version of that scale and seed, and ``paper-best`` that of the
seed with the highest score among those sent so far.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from tokenworlds.config import identity_of
from tokenworlds.runs.layout import CONFIG, RUN_SCORES, WEIGHTS
from tokenworlds.tracking.summary import SCORE

_FILES = (WEIGHTS, "agent.json", CONFIG, RUN_SCORES)
_FORBIDDEN = re.compile(r"[/:.%'\"]")  # in names of models
_NO_MODELS = ("ENDPOINT_NOT_FOUND", "FEATURE_DISABLED", "NOT_IMPLEMENTED", "PERMISSION_DENIED")


def ship_agent(client: Any, experiments: Sequence[str], run_id: str, folder: Path, tags: Mapping[str, str]) -> None:
    """Send what MLflow lacks of the agent in a run folder; can be repeated. A store that knows no models, or has no
    registry of them, refuses, which is no error.

    Args:
        experiments: in which other seeds may be.
    """
    from mlflow.exceptions import MlflowException

    if not {"method", "task", "seed", "scale"} <= tags.keys() or not all((folder / name).is_file() for name in _FILES):
        return
    try:
        _ship(client, experiments, run_id, folder, tags)
    except MlflowException as error:
        if error.error_code not in _NO_MODELS:
            raise


def _ship(client: Any, experiments: Sequence[str], run_id: str, folder: Path, tags: Mapping[str, str]) -> None:
    from mlflow.entities import LoggedModelOutput

    seedless = identity_of(tags["method"], tags.get("variant"), tags["task"], "").rstrip("/")
    name = _FORBIDDEN.sub("-", seedless)
    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1)
    model = found[0] if found else client.create_logged_model(experiment, name, run_id, dict(tags), model_type="agent")
    if str(model.status) != "READY":
        for file in _FILES:
            _store(client, model, folder / file)
        model = client.finalize_logged_model(model.model_id, "READY")
    if not (run.outputs and run.outputs.model_outputs):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    _register(client, model, name, f"{tags['scale']}-seed-{tags['seed']}")
    _mark_best(client, experiments, name, tags["scale"])


def _store(client: Any, model: Any, file: Path) -> None:
    """Add a file to the model's artifacts; where they are on the same disk, a second name of the same bytes: a run
    folder's files are replaced, never written to."""
    place = urlparse(model.artifact_location)
    if place.scheme == "file":
        folder = Path(url2pathname(place.path))
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            (folder / file.name).unlink(missing_ok=True)
            os.link(file, folder / file.name)
            return
    client.log_model_artifact(model.model_id, str(file))


def _register(client: Any, model: Any, name: str, alias: str) -> None:
    """Give the model a version with an alias in the registry, once."""
    found = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    known = [version for version in found if version.name == name]
    if known and alias in client.get_registered_model(name).aliases:  # perhaps of a run that was sent later
        return
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    source = model.artifact_location, model.source_run_id
    version = known[0] if known else client.create_model_version(name, *source, model_id=model.model_id)
    client.set_registered_model_alias(name, alias, version.version)


def _mark_best(client: Any, experiments: Sequence[str], name: str, scale: str) -> None:
    """Let the alias ``<scale>-best`` name the version of the seed with the highest score; of equal ones the lowest.
    Deleted runs do not count."""
    aliases, best = client.get_registered_model(name).aliases, f"{scale}-best"
    runs = {str(found.version): found.run_id for found in client.search_model_versions(f"name = '{name}'")}
    seeds = {
        runs[str(version)]: int(match[1])
        for alias, version in aliases.items()
        if (match := re.fullmatch(rf"{re.escape(scale)}-seed-(\d+)", alias)) and str(version) in runs
    }
    listed = ", ".join(f"'{run_id}'" for run_id in seeds)
    found = client.search_runs(experiments, f"attributes.run_id IN ({listed})")
    scores = {seeds[run.info.run_id]: run.data.metrics[SCORE] for run in found if SCORE in run.data.metrics}
    if scores:
        chosen = aliases[f"{scale}-seed-{max(scores, key=lambda seed: (scores[seed], -seed))}"]
        if aliases.get(best) != chosen:
            client.set_registered_model_alias(name, best, chosen)
