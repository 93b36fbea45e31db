"""One journal, sent to MLflow while a training writes it, on whichever machine."""

from __future__ import annotations

import time
from pathlib import Path

from tokenworlds.errors import UserError
from tokenworlds.runs.layout import JOURNAL
from tokenworlds.tracking.journal import JournalFollower, Record, journal_id, read_journal
from tokenworlds.tracking.shipper import Shipper
from tokenworlds.tracking.store import describe_error

LONGEST_PAUSE = 60.0  # seconds between attempts to reach a server that does not answer


class Feed:
    """Sends new records of a journal. A run whose journal does not say how it ended is RUNNING.

    The journal need not exist yet, and may be cut back by a resume. Where it is gone because the run is published, the
    published one continues it.

    Args:
        path: the journal.
        uri: MLflow's address.
        run_name: shown in the UI.
        tags: of the MLflow run.
        folder: where the run is published, with the trained agent; default: the folder of the journal.
        began: Unix seconds, by this machine's clock: how sessions ended before does not count.
    """

    def __init__(
        self,
        path: Path,
        uri: str | None,
        run_name: str,
        tags: dict[str, str],
        folder: Path | None = None,
        began: float = 0.0,
    ) -> None:
        self.shipper = Shipper(path, uri, run_name, tags, folder)
        self._path, self._published = path, (folder or path.parent) / JOURNAL
        self._config_hash, self._began = tags.get("config_hash"), began
        self._is_anew = True  # what comes next begins with the first line of a journal
        self._has_ended = False
        self._follower = JournalFollower(path)
        self._pending: list[Record] = []

    def ship(self) -> None:
        """Send what is new; can be repeated after any exception."""
        records = [record for record in self._poll() if record["kind"] != "status" or record["time"] >= self._began]
        if records:
            self._has_ended = records[-1]["kind"] == "status"
            running = [] if self._has_ended else [_status("RUNNING")]
            self._pending += records + running
        if self._pending:
            self.shipper.ship(self._pending)
            self._pending = []

    def end(self, status: str) -> None:
        """Let a session that was ended by force, and could not record it, have ended with this status."""
        if self.shipper.identity and not self._has_ended:
            self._has_ended = True
            self._pending.append(_status(status))

    def _poll(self) -> list[Record]:
        """New records; what is pending of a journal that was written anew, or has moved, is among them."""
        path = self._published if not self._path.exists() and self._is_published() else self._path
        if path != self._follower.path:
            self._follower, self._is_anew = JournalFollower(path), True
        records, is_restarted = self._follower.poll()
        self._is_anew |= is_restarted
        if records and self._is_anew:
            self.shipper.continue_from(path)
            self._is_anew, self._pending = False, []
        return records

    def _is_published(self) -> bool:
        """Whether the published run is this one, and not another that it is to replace."""
        if not self._published.is_file():
            return False
        if self.shipper.identity:
            return journal_id(self._published) == self.shipper.identity
        found = [record["values"] for record in read_journal(self._published) if record["kind"] == "tags"]
        return not (found and self._config_hash) or found[-1].get("config_hash") == self._config_hash


def _status(value: str) -> Record:
    return {"kind": "status", "time": time.time(), "value": value}


def warning(error: Exception, consequence: str) -> str:
    """Sentence about an exception while a run is sent, which must not reach the training."""
    known = isinstance(error, UserError)
    reason = f": {str(error).rstrip('.')}" if known else f" cannot be reached ({describe_error(error)})"
    return f"warning: MLflow{reason}; {consequence}"
