"""A finished run that goes on for more epochs as another run (``extend``, docs/warm_starts.md)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tokenworlds import loading, tensor_files
from tokenworlds.config import Resume, RunConfig
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened
from tokenworlds.runs.layout import EVALUATIONS, JOURNAL, RUN_SCORES
from tokenworlds.tracking.journal import read_journal
from tokenworlds.training.initialization import last_state
from tokenworlds.training.progress import Clock
from tokenworlds.training.trainer import Trainer


def begin(trainer: Trainer) -> None:
    """Take over the last state of the run that ``extend`` names, or its weights where it has not kept its state, and
    its journal. That run stays as it is.

    Raises:
        UserError: the run or its state is damaged, of other code, or leaves nothing to learn from.
    """
    config = trainer.config
    assert config.extend is not None and config.extended_from is not None
    run, found = Path(config.extend), config.extended_from
    state = None if config.runtime.resume is Resume.never else last_state(run)
    if state is not None and state.last_epoch() == found.epochs:
        trainer.go_on_from(state)
        before = trainer.beginning.record.get("extended_from", {})
        origin: dict[str, Any] = {"from": "state"} | {
            key: before[key] for key in ("from", "steps_not_stored") if key in before
        }
        said = "the last state of {}"
    else:
        origin = {"from": "weights", "steps_not_stored": _take_weights(trainer, run)}
        said = "the weights of {} alone (runtime.keep_scratch=true keeps more): replay and optimisers begin anew"
    trainer.beginning.record["extended_from"] = {
        "run": config.identity,
        "epochs": found.epochs,
        "config_hash": found.config_hash,
        "weights": found.weights,
        **origin,
    }
    trainer.journal.adopt(
        record
        for record in read_journal(run / JOURNAL)
        if record["kind"] == "metrics" and record["step"] <= found.epochs and not record.get("final", False)
    )
    print(f"going on after epoch {trainer.epoch} of {config.training.epochs} from {said.format(shortened(run, 80))}")


def _take_weights(trainer: Trainer, run: Path) -> int:
    """Weights, counters and evaluations of a finished run; returns its agent steps."""
    config, scores = trainer.config, json.loads((run / RUN_SCORES).read_text())
    budget = scores["budget"]
    _require_collection(config, run)
    file, tensors, _ = loading.read_weights(run)
    state = trainer.agent.state_dict()
    if misfits := tensor_files.misfits(tensors, trainer.trained_state()):
        raise UserError(f"{shortened(file, 80)} does not fit this revision: {brief(', '.join(misfits), 110)} differ.")
    tensor_files.refuse_not_finite(file, tensor_files.not_finite(tensors), "that run diverged")
    trainer.agent.load_state_dict(state | tensors)
    for some in trainer.components:
        some.updates = budget["agent_updates"].get(some.name, 0)
    trainer.epoch = budget["epochs"]
    trainer.evaluations = [row for row in _rows(run / EVALUATIONS) if row["split"] != "final"]
    trainer.clock = Clock(3600 * scores["hours"])
    sessions = [session | {"code": {}} for session in scores["sessions"]]
    trainer.sessions.resume(sessions, trainer.epoch, run, Resume.any_code)
    trainer.beginning.record |= {key: scores[key] for key in ("initialization", "trunk") if key in scores}
    return int(budget["env_steps"]) - trainer.beginning.steps_before  # steps of pretraining count there as well


def _require_collection(config: RunConfig, run: Path) -> None:
    """Refuse epochs without any experience."""
    assert config.extended_from is not None
    stop = config.collection.train.stop_after_epochs
    if stop is not None and stop <= config.extended_from.epochs:
        raise UserError(
            f"only weights of {shortened(run, 80)} are taken, and collection.train.stop_after_epochs={stop} leaves "
            "nothing to learn from: give a later epoch, or null."
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return [{name: value if name == "split" else json.loads(value) for name, value in row.items()} for row in rows]
