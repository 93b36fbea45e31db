"""Many journals, sent to MLflow by one process: the runs of a launcher, which write nothing but their journals."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tokenworlds.errors import UserError
from tokenworlds.redaction import redact
from tokenworlds.tracking.feed import LONGEST_PAUSE, Feed, warning

_FIRST_PAUSE = 2.0  # seconds after a first failure


class ManyJournals:
    """The tracked runs of many journals, for one thread of one process at a time.

    A server that refuses, hangs or fails causes one warning, and is asked again after a pause that doubles. Another
    process can continue after this one was killed: MLflow is asked what it has. Two at once would send values twice.

    Args:
        uri: MLflow's address; default ``MLFLOW_TRACKING_URI``, else the database in the project.
    """

    def __init__(self, uri: str | None = None) -> None:
        self._uri = uri
        self._feeds: dict[Path, Feed] = {}  # the one that failed is the last, so that it holds up no other
        self._warned: set[str] = set()
        self._pause, self._next = _FIRST_PAUSE, 0.0

    def watch(self, path: Path, run_name: str, tags: dict[str, str], folder: Path) -> None:
        """Send a journal from now on, until the run is finished and its trained agent is sent; can be repeated.

        Args:
            path: the journal, which need not exist yet; in a scratch folder it may disappear when the run is published.
            run_name: shown in the UI.
            tags: of the MLflow run, of which ``suite`` says the experiment, and ``config_hash`` whether a run in
                ``folder`` is this one.
            folder: where the run is published.
        """
        if path not in self._feeds:
            self._feeds[path] = Feed(path, self._uri, run_name, tags, folder)

    def ended(self, path: Path, status: str) -> None:
        """Let the run of a journal have the status FAILED or KILLED if it did not record one itself: it was ended by
        ``kill -9``, or lost with its machine, and is not tried again."""
        if path in self._feeds:
            self._feeds[path].end(status)

    def ship(self) -> bool:
        """Send what is new of all journals, for as long as the server takes to answer; return whether all was sent."""
        return time.monotonic() >= self._next and self._ship()

    def _ship(self) -> bool:
        is_complete = True
        for path, feed in list(self._feeds.items()):
            try:
                feed.ship()
                if feed.shipper.ship_agent():
                    del self._feeds[path]
            except UserError as error:  # of this journal, or of the place of MLflow's database
                is_complete = False
                self._warn(str(error), error)
            except Exception as error:  # whatever a tracker does must not reach the runs
                self._warn("", error)
                self._feeds[path] = self._feeds.pop(path)
                self._next = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                return False
        self._pause = _FIRST_PAUSE
        return is_complete

    def _warn(self, kind: str, error: Exception) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            print(warning(error, "the runs go on, their journals keep everything."), file=sys.stderr, flush=True)

    def close(self) -> bool:
        """Send the rest; return whether all was sent."""
        is_complete = self._ship()
        if not is_complete:
            text = "warning: MLflow lacks a part of the runs. Once they are published, send it with: "
            print(redact(f"{text}python -m tokenworlds.tracking sync"), file=sys.stderr, flush=True)
        return is_complete
