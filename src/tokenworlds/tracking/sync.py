"""Send to MLflow what it lacks of runs that were trained without it, or whose server failed; can be repeated."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tokenworlds.config import identity_of
from tokenworlds.errors import UserError
from tokenworlds.redaction import redact
from tokenworlds.runs.layout import JOURNAL, RUN_SCORES, runs_folder
from tokenworlds.runs.settings import REFUSE, shown_variants
from tokenworlds.tracking.journal import Record, read_journal
from tokenworlds.tracking.shipper import Shipper
from tokenworlds.tracking.store import describe_error, resolve_uri
from tokenworlds.tracking.summary import read_scores

ACCEPT = "accept both with `--mixed label`"


def find_journals(folders: Iterable[Path]) -> list[Path]:
    """The journals of all runs in the folders; without folders, of all published runs."""
    chosen = list(folders) or [runs_folder()]
    missing = [folder for folder in chosen if not folder.exists()]
    if missing:
        raise UserError(f"{missing[0]} does not exist; give run folders, or folders that contain them.")
    found = {path.resolve() for folder in chosen for path in folder.rglob(JOURNAL)}
    if not found:
        raise UserError(f"there is no {JOURNAL} in {', '.join(map(str, chosen))}; give folders of runs.")
    return sorted(found)


def describe_run(journal: Path) -> tuple[str, dict[str, str]]:
    """Name and tags of a run: those in its journal, else what ``scores.json`` beside it says."""
    tags: dict[str, Any] = {}
    for record in read_journal(journal):
        if record["kind"] == "tags":
            tags |= record["values"]
    content = read_scores(journal.with_name(RUN_SCORES))
    if not tags and content:
        tags = {**content["run"], **{key: content[key] for key in ("config_hash", "git_revision") if key in content}}
    if not tags:
        return journal.parent.name, {}
    for key in ("settings_hash", "overrides"):
        if key in content:
            tags[key] = content[key] if isinstance(content[key], str) else json.dumps(content[key], sort_keys=True)
    tags = {key: "" if value is None else str(value) for key, value in tags.items()}
    return _name(tags), tags


def _name(tags: Mapping[str, str]) -> str:
    return identity_of(str(tags.get("method")), tags.get("variant"), str(tags.get("task")), tags.get("seed"))


def describe_runs(journals: Sequence[Path], mixed: str = REFUSE) -> list[tuple[str, dict[str, str]]]:
    """Name and tags of every run; those that deviate from the shipped configuration with a variant that says so.

    Raises:
        UserError: several configurations under one name, unless ``mixed`` is ``label``.
    """
    described = [describe_run(journal) for journal in journals]
    known = [tags for _, tags in described if tags]
    for tags, variant in zip(known, shown_variants(known, "the folder of runs", ACCEPT, mixed)):
        tags["variant"] = variant
    return [(_name(tags) if tags else name, tags) for name, tags in described]


def _records(journal: Path, tags: Mapping[str, str]) -> list[Record]:
    """The records of a journal, their tags with the variant under which the run is shown."""
    return [
        {**record, "values": {**record["values"], "variant": tags["variant"]}} if record["kind"] == "tags" else record
        for record in read_journal(journal)
    ]


def sync(folders: Iterable[Path], uri: str | None = None, mixed: str = REFUSE) -> int:
    """Send what is missing of every run; returns the number of metric values sent."""
    journals = find_journals(folders)
    described = describe_runs(journals, mixed)
    address = resolve_uri(uri)
    sent = 0
    with tqdm(journals, unit="run", disable=None, leave=False) as bar:
        for journal, (name, tags) in zip(bar, described):
            bar.set_postfix_str(name)
            shipper = Shipper(journal, address, name, tags)
            try:
                shipper.ship(_records(journal, tags))
                shipper.ship_agent()
            except UserError:
                raise
            except Exception as error:  # any failure of the server, said in one sentence
                message = f"MLflow at {address} did not take {name} ({describe_error(error)}); sync again later."
                raise UserError(message) from error
            sent += shipper.metrics_sent
    print(redact(f"{len(journals)} runs are complete at {address}; {sent} values were missing."), file=sys.stdout)
    return sent
