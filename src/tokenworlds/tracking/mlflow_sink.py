"""Send the journal of a running training to MLflow, in a background thread that does not block it."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from tokenworlds.redaction import redact
from tokenworlds.tracking.feed import LONGEST_PAUSE, Feed, warning
from tokenworlds.tracking.store import is_local

_POLL_SECONDS = 2.0
# seconds without an answer of the server after which a finished run does not wait for it any longer, unless it is sent
# the agent, one large request
_PATIENCE = 5.0


class MlflowSink:
    """Sends new records of the journal at ``path`` as one MLflow run.

    A server that refuses, hangs or fails causes one warning: the journal keeps everything, attempts continue, and
    ``python -m tokenworlds.tracking sync`` sends the rest later. A resumed training continues the same MLflow run,
    which is RUNNING again, however the journal says that the previous session ended.

    Args:
        path: the journal; it need not exist yet.
        uri: MLflow's address; default ``MLFLOW_TRACKING_URI``, else the database in the project.
        run_name: shown in the UI.
        tags: of the MLflow run (method, variant, task, seed, ...).
        folder: where the run is published, with the trained agent; default: the folder of the journal.
    """

    def __init__(
        self, path: Path, uri: str | None, *, run_name: str, tags: dict[str, str], folder: Path | None = None
    ) -> None:
        self._run_name = run_name
        self._feed = Feed(path, uri, run_name, tags, folder, began=time.time())
        self._is_local = is_local(uri)
        self._has_warned = False
        self._is_complete = False
        self._is_closing = threading.Event()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-sink", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while True:
            is_last = self._is_closing.is_set()
            try:
                self._feed.ship()
                pause = _POLL_SECONDS
                if is_last:
                    self._feed.shipper.ship_agent()
                    self._is_complete = True
                    break
            except Exception as error:  # whatever a tracker does must not reach the training
                self._warn(error)
                pause = min(2 * pause, LONGEST_PAUSE)
                if is_last:
                    break
            self._is_closing.wait(pause)
        self._is_done.set()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            print(warning(error, "the run goes on, its journal keeps everything."), file=sys.stderr, flush=True)

    def close(self, timeout: float = 30.0) -> bool:
        """Send the rest for at most ``timeout`` seconds, or ``_PATIENCE`` seconds without an answer; return whether all
        was sent."""
        self._is_closing.set()
        self._wait(timeout, timeout if self._is_local and not self._has_warned else _PATIENCE)
        if not self._is_complete:
            command = "python -m tokenworlds.tracking sync"
            text = (
                f"warning: MLflow lacks a part of {self._run_name}. Once the run is published, send it with: {command}"
            )
            print(redact(text), file=sys.stderr, flush=True)
        return self._is_complete

    def _wait(self, timeout: float, patience: float) -> None:
        """Wait until the thread is done, ``timeout`` has passed, or ``patience`` without an answer of the server."""
        began = last_answer = time.monotonic()
        answers = self._feed.shipper.answers
        while not self._is_done.wait(0.05):
            now = time.monotonic()
            if self._feed.shipper.answers != answers:
                answers, last_answer = self._feed.shipper.answers, now
            if now - began > timeout or (now - last_answer > patience and not self._feed.shipper.is_uploading):
                return
