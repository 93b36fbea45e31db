"""Why runs of the active suite have no result.

A training writes ``<scratch folder>/failed/<run>.json`` when it begins, replaces it by what ended it, and removes it
when it is finished or interrupted. So a failure is known on every machine that shares the scratch folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.plan import Plan, recorded_hash
from tokenworlds.config import RunConfig, is_temporary, load, project_root
from tokenworlds.errors import UserError, brief
from tokenworlds.files import write_atomic
from tokenworlds.runs.identity import RunId
from tokenworlds.training.run_folder import scratch_root

UNKNOWN = "it has begun and not ended: another process is at work on it, or it was killed"
LIST = Path("made", "failures.json")  # in results/; the report depends on its folder


@contextlib.contextmanager
def recorded(config: RunConfig) -> Iterator[None]:
    """While the context lasts, the training of a run in its usual folder is recorded; a full disk hides nothing."""
    path = _record(RunId.of_config(config))
    if config.out is not None or is_temporary(project_root()):
        yield
        return
    _write(path, config, UNKNOWN)
    try:
        yield
    except Exception as error:
        known = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {brief(error, 200)}"
        _write(path, config, known)
        raise
    except KeyboardInterrupt:
        _remove(path)
        raise
    _remove(path)


def absent(plan: Plan) -> dict[str, str | None]:
    """The runs of a suite that have no scores, by name: what ended them, or None where they have not been trained yet
    or were interrupted."""
    return {run.name: _reason(run) for run in plan.runs if recorded_hash(run) is None}


def keep(results: Path, reasons: Mapping[str, str | None]) -> None:
    """Leave the reasons for the report; without any of them there is no file."""
    known = {name: reason for name, reason in reasons.items() if reason}
    if known:
        write_atomic(results / LIST, json.dumps(known, indent=2).encode())
    else:
        (results / LIST).unlink(missing_ok=True)


def kept(results: Path) -> dict[str, str]:
    """What ``keep`` has left."""
    try:
        return {str(name): str(reason) for name, reason in json.loads((results / LIST).read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _record(run: RunId) -> Path:
    return scratch_root() / "failed" / f"{run.name}.json"


def _reason(run: RunId) -> str | None:
    """What ended the last training of the configuration that the run has today."""
    try:
        record = json.loads(_record(run).read_bytes())
        return str(record["message"]) if record["config_hash"] == load(run.overrides()).hash() else None
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def _write(path: Path, config: RunConfig, message: str) -> None:
    content = {"config_hash": config.hash(), "message": message}
    with contextlib.suppress(OSError, UserError):
        write_atomic(path, json.dumps(content).encode())


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
