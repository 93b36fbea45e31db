"""Bring back what a stage made before, where a switch of the root ``params.yaml`` changes nothing for its run.

``dvc exp run -S model.backbone=retnet`` makes the stages of every method stale, also of those that run on a retentive
network already: DVC compares the switch, not what it resolves to. It has removed the run folder by the time that the
stage's command starts, but keeps it in its cache.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from tokenworlds.config import RunConfig, project_root
from tokenworlds.manifest import MANIFEST, verify
from tokenworlds.tracking.revision import is_code_of
from tokenworlds.training.run_folder import RunFolder

Values = dict[str, Any]


def restore(config: RunConfig) -> bool:
    """Put the run that DVC has recorded for this stage into its place, if it is of this configuration and this code
    and only switches of the root file differ from then; whether it did.

    Outside a stage, and where DVC is told to run a stage again although nothing has changed (``-f``), nothing is
    restored.
    """
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    recorded = _recorded_switches(config.method, stage)
    if not stage or config.out is not None or recorded is None or recorded == _switches(project_root() / "params.yaml"):
        return False
    from dvc.api import DVCFileSystem  # about a second

    from tokenworlds.training.run import scratch_folder

    folder = RunFolder(config, scratch_folder(config))
    files = DVCFileSystem(str(project_root()))
    place = folder.path.relative_to(project_root()).as_posix()
    try:
        content = {name: json.loads(files.read_text(f"{place}/{name}")) for name in ("scores.json", "environment.json")}
        sessions = content["scores.json"]["sessions"]
        is_same = content["scores.json"]["config_hash"] == config.hash() and len(sessions) == 1
        if not is_same or not is_code_of(content["environment.json"]["code"]):
            return False
        folder.publish(lambda staging: _fetch(files, place, staging))
    except (OSError, ValueError, KeyError, TypeError):  # not in the cache, or of an older version: it is trained
        return False
    return True


def _fetch(files: Any, place: str, staging: Path) -> None:
    files.get(place, str(staging), recursive=True)
    verify(staging, list(json.loads((staging / MANIFEST).read_text())["files"]))


def _recorded_switches(method: str, stage: str) -> Values | None:
    """The root file's values when DVC recorded the stage; None where it has not."""
    path = project_root() / "pipeline" / method / "dvc.lock"
    text = path.read_text() if path.is_file() else ""
    if not stage or f"  {stage}:\n" not in text:
        return None
    entry = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"][stage]
    return _flat(entry.get("params", {}).get("params.yaml", {}))


def _switches(path: Path) -> Values:
    return _flat(yaml.safe_load(path.read_text()) or {})


def _flat(values: Values, prefix: str = "") -> Values:
    """By dotted key; DVC records keys of either form. A section without values does not count."""
    flat: Values = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
