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

from tokenworlds.config import RunConfig, project_root
from tokenworlds.config.values import flat
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.runs.layout import ENVIRONMENT, RUN_SCORES
from tokenworlds.runs.manifest import MANIFEST, verify
from tokenworlds.tracking.revision import is_code_of
from tokenworlds.training.run_folder import RunFolder, scratch_folder

Values = dict[str, Any]


def restore(config: RunConfig) -> bool:
    """Publish the run that DVC has recorded for this stage again, if it has this configuration and this code and only
    switches of the root file have changed; return whether it did.

    Nothing is restored outside a stage, and where DVC is told to repeat a stage that has not changed (``-f``).
    """
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    recorded = _recorded_switches(config.method, stage)
    if (
        not stage
        or config.out is not None
        or recorded is None
        or recorded == flat(read_mapping(project_root() / "params.yaml"))
    ):
        return False
    folder = RunFolder(config, scratch_folder(config))
    place = folder.path.relative_to(project_root()).as_posix()
    try:
        from dvc.api import DVCFileSystem  # about a second

        files = DVCFileSystem(str(project_root()))
        scores, made_by = (json.loads(files.read_text(f"{place}/{name}")) for name in (RUN_SCORES, ENVIRONMENT))
        is_same = scores["config_hash"] == config.hash() and len(scores["sessions"]) == 1
        if not is_same or not is_code_of(made_by["code"]):
            return False
        folder.publish(lambda staging: _fetch(files, place, staging))
    except Exception:  # not in the cache, damaged there, of an older version, a remote that fails: it is trained
        return False
    return True


def _fetch(files: Any, place: str, staging: Path) -> None:
    files.get(place, str(staging), recursive=True)
    verify(staging, list(json.loads((staging / MANIFEST).read_text())["files"]))


def _recorded_switches(method: str, stage: str) -> Values | None:
    """The root file's values when DVC recorded the stage; None where it has not."""
    path = project_root() / "pipeline" / method / "dvc.lock"
    if not stage or not path.is_file() or f"  {stage}:\n" not in path.read_text():
        return None
    return flat(read_mapping(path)["stages"][stage].get("params", {}).get("params.yaml", {}))
