"""Record of a run: an append-only file of JSON lines, from which trackers, which may fail, are fed.

Records are ``{"kind": ..., "time": <unix seconds>, ...}``:

* ``journal``: first line, with a unique ``id`` by which a tracker knows this run again
* ``params`` and ``tags``: ``values``, a flat dictionary
* ``metrics``: ``step`` (the epoch) and ``values``, a dictionary of numbers
* ``artifact``: ``step``, ``key`` and ``path`` relative to the journal's folder
* ``status``: ``value``, how a session ended: FINISHED, FAILED (an error), or KILLED (Ctrl-C or SIGTERM). FAILED and
  KILLED runs can be resumed, which drops this record. A run in progress, or ended by ``kill -9``, has none.

Passwords in addresses are masked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.redaction import redact_values

Record = dict[str, Any]
HEAD = ("journal", "tags", "params")  # kinds of records that say which run it is


class Journal:
    """Writes the journal at ``path``; opening one that was cut off in mid-line removes the torn end.

    A journal that is deleted while it is written begins again with the run's id, tags and parameters.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._remove_torn_end()
        self._head = [record for record in self.read() if record["kind"] in HEAD] if path.exists() else []
        if not path.exists() or path.stat().st_size == 0:
            path.touch()
            self.append("journal", id=uuid.uuid4().hex)

    def _remove_torn_end(self) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))

    def append(self, kind: str, **fields: Any) -> None:
        """Append a record and flush it to the disk; if that fails, the journal is unchanged.

        Raises:
            UserError: the disk is full, or cannot be written for another reason.
        """
        record = {"kind": kind, "time": time.time(), **redact_values(fields)}
        try:
            if not self.path.exists():
                self._begin_again()
            _append_line(self.path, _line(record))
        except OSError as error:
            raise UserError(
                f"cannot write the journal {self.path} ({error.strerror or error}); "
                "make room, then give the same command again: the run resumes."
            ) from error
        if kind in HEAD:
            self._head.append(record)

    def adopt(self, records: Iterable[Record]) -> None:
        """Append records of another journal as they are."""
        for record in records:
            _append_line(self.path, _line(record))

    def _begin_again(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        print(
            f"warning: {self.path} was deleted during the run; the record of earlier epochs is lost, the run goes on.",
            file=sys.stderr,
            flush=True,
        )
        for record in self._head:
            _append_line(self.path, _line(record))

    def read(self) -> Iterator[Record]:
        """All records, in order."""
        return read_journal(self.path)

    def truncate_after(self, step: int) -> None:
        """Cut back to a checkpoint: drop the status, and all records from the first one of a later step or of the
        final evaluation (marked ``final``) on.

        The shortened file replaces the journal, so that a follower notices.
        """
        records = list(self.read())
        later = (
            index
            for index, record in enumerate(records)
            if record.get("step", step) > step or record.get("final", False)
        )
        kept = [record for record in records[: next(later, len(records))] if record["kind"] != "status"]
        if len(kept) == len(records):
            return
        write_atomic(self.path, b"".join(map(_line, kept)))


def _line(record: Record) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _append_line(path: Path, line: bytes) -> None:
    """Append a whole line or nothing: a part of it would make the next line unreadable."""
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # the first error says what is wrong; opening removes a torn end, too
                os.ftruncate(file.fileno(), size)
            raise


def read_journal(path: Path) -> Iterator[Record]:
    """The records of a journal file; a torn last line is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield parse_record(line, path, number)


def parse_record(line: bytes, path: Path, number: int) -> Record:
    """One line of a journal."""
    try:
        record: Record = json.loads(line)
        record["kind"]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"line {number} of the journal {path} is damaged; restore the file or remove that line."
        ) from None
    return record


def journal_id(path: Path) -> str:
    """Id by which a tracker finds the run: that of the first line, or the hash of the line if it has none."""
    with path.open("rb") as file:
        first = file.readline()
    record = parse_record(first, path, 1)
    return str(record.get("id") or hashlib.sha256(first).hexdigest()[:32])


class JournalFollower:
    """Reads new records of a journal that is being written, and starts over when the journal was cut back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode: int | None = None
        self._offset = 0
        self._number = 0

    def poll(self) -> tuple[list[Record], bool]:
        """Records since the last call, and whether they begin anew from the first line."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return [], False
        with file:
            status = os.fstat(file.fileno())
            is_restarted = self._inode is not None and (status.st_ino != self._inode or status.st_size < self._offset)
            if is_restarted:
                self._offset = self._number = 0
            self._inode = status.st_ino
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        records = [parse_record(line, self.path, number) for number, line in enumerate(lines, self._number + 1)]
        self._offset += len(whole)
        self._number += len(lines)
        return records, is_restarted
