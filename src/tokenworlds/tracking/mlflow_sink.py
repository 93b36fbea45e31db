"""Feeds MLflow from the journal of a running training, in a background thread that nothing waits for."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tokenworlds.tracking.journal import JournalFollower, Record
from tokenworlds.tracking.shipper import Shipper

_POLL_SECONDS = 2.0
_LONGEST_PAUSE = 60.0  # between attempts to reach a server that does not answer


class MlflowSink:
    """Ships what the journal at ``path`` gets, as one MLflow run.

    A server that refuses, hangs or fails costs one warning line: the journal keeps everything, attempts go on, and
    what is missing in the end is sent by ``python -m tokenworlds.tracking sync``. A resumed training continues the
    same MLflow run.

    Arguments:
        path: the journal; it need not exist yet.
        uri: MLflow's address; default ``MLFLOW_TRACKING_URI``, else the database in the project.
        run_name: shown in the UI.
        tags: of the MLflow run (method, variant, task, seed, ...).
    """

    def __init__(self, path: Path, uri: str | None, *, run_name: str, tags: dict[str, str]) -> None:
        self._path, self._run_name = path, run_name
        self._shipper = Shipper(path, uri, run_name, tags)
        self._follower = JournalFollower(path)
        self._pending: list[Record] = []
        self._has_warned = False
        self._is_closing = threading.Event()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-sink", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while True:
            is_last = self._is_closing.is_set()
            try:
                self._ship_news()
                pause = _POLL_SECONDS
                if is_last:
                    break
            except Exception as error:  # whatever a tracker does must not reach the training
                self._warn(error)
                pause = min(2 * pause, _LONGEST_PAUSE)
                if is_last:
                    break
            self._is_closing.wait(pause)
        self._is_done.set()

    def _ship_news(self) -> None:
        records, is_restarted = self._follower.poll()
        self._pending = records if is_restarted else self._pending + records
        if self._pending:
            self._shipper.ship(self._pending)
            self._pending = []

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            text = f"warning: MLflow cannot be reached ({reason}); the run goes on, its journal keeps everything."
            print(text, file=sys.stderr, flush=True)

    def close(self, timeout: float = 30.0) -> bool:
        """Ship what is left, for at most ``timeout`` seconds (few if the server has failed); whether all was sent."""
        self._is_closing.set()
        self._is_done.wait(min(timeout, 5.0) if self._has_warned else timeout)
        is_complete = self._is_done.is_set() and not self._pending
        if not is_complete:
            command = "python -m tokenworlds.tracking sync"
            text = (
                f"warning: MLflow lacks a part of {self._run_name}. Once the run is published, send it with: {command}"
            )
            print(text, file=sys.stderr, flush=True)
        return is_complete
