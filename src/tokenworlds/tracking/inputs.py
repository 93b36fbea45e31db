"""Data sets of a run as MLflow's own: the task that it is trained on, and the published scores it is compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenworlds.files import sha256

_DIGEST = 12  # characters; MLflow takes 36


def task_input(task: str, settings: Mapping[str, Any]) -> Any:
    """``atari/Pong`` as the data set of training; its digest changes with the settings of the environment."""
    environment = {key: value for key, value in settings.items() if key.startswith("environment.")}
    source = json.dumps({"task": task, **environment}, sort_keys=True)
    return _input(task, hashlib.sha256(source.encode()).hexdigest(), "environment", source, "training")


def file_input(path: Path, context: str) -> Any:
    """A file of published scores, by its name and content."""
    return _input(path.name, sha256(path), "local", json.dumps({"uri": str(path)}), context)


def _input(name: str, digest: str, source_type: str, source: str, context: str) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name=name, digest=digest[:_DIGEST], source_type=source_type, source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
