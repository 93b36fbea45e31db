"""Sends to MLflow what it lacks of runs that were made without it, or whose server failed. Can be repeated at will."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tokenworlds.config import project_root
from tokenworlds.errors import UserError
from tokenworlds.tracking.journal import read_journal
from tokenworlds.tracking.shipper import Shipper
from tokenworlds.tracking.store import resolve_uri

JOURNAL_NAME = "metrics.jsonl"


def find_journals(folders: Iterable[Path]) -> list[Path]:
    """The journals of all runs in the folders; without folders, of all published runs."""
    chosen = list(folders) or [project_root() / "results" / "runs"]
    missing = [folder for folder in chosen if not folder.exists()]
    if missing:
        raise UserError(f"{missing[0]} does not exist; give run folders, or folders that contain them.")
    found = {path.resolve() for folder in chosen for path in folder.rglob(JOURNAL_NAME)}
    if not found:
        raise UserError(f"there is no {JOURNAL_NAME} in {', '.join(map(str, chosen))}; give folders of runs.")
    return sorted(found)


def describe_run(journal: Path) -> tuple[str, dict[str, str]]:
    """Name and tags of a run: those in its journal, else what ``scores.json`` beside it says."""
    tags: dict[str, Any] = {}
    for record in read_journal(journal):
        if record["kind"] == "tags":
            tags |= record["values"]
    scores = journal.with_name("scores.json")
    if not tags and scores.is_file():
        content = json.loads(scores.read_text())
        tags = {**content["run"], **{key: content[key] for key in ("config_hash", "git_revision") if key in content}}
    if not tags:
        return journal.parent.name, {}
    variant = f"+{tags['variant']}" if tags.get("variant") else ""
    name = f"{tags.get('method')}{variant}/{tags.get('task')}/{tags.get('seed')}"
    return name, {key: "" if value is None else str(value) for key, value in tags.items()}


def sync(folders: Iterable[Path], uri: str | None = None) -> int:
    """Send what is missing of every run; returns the number of metric values sent."""
    journals = find_journals(folders)
    address = resolve_uri(uri)
    sent = 0
    with tqdm(journals, unit="run", disable=None, leave=False) as bar:
        for journal in bar:
            name, tags = describe_run(journal)
            bar.set_postfix_str(name)
            shipper = Shipper(journal, address, name, tags)
            try:
                shipper.ship(list(read_journal(journal)))
            except UserError:
                raise
            except Exception as error:  # any failure of the server, said in one sentence
                reason = " ".join(str(error).split())[:200]
                message = (
                    f"MLflow at {address} did not take {name} ({type(error).__name__}: {reason}); sync again later."
                )
                raise UserError(message) from error
            sent += shipper.metrics_sent
    print(f"{len(journals)} runs are complete at {address}; {sent} values were missing.", file=sys.stdout)
    return sent
