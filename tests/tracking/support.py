"""Helpers of the tracking tests: what MLflow holds, journals with known content, a real server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tokenworlds.tracking import store
from tokenworlds.tracking.journal import Journal

TAGS = {"method": "iris", "task": "minigrid/Empty-5x5", "seed": "0"}
KEYS = ("tokenizer/train/loss_total", "eval/return_mean")


def record_epochs(journal: Journal, first: int, last: int) -> None:
    for epoch in range(first, last + 1):
        journal.append("metrics", step=epoch, values={key: epoch + index / 10 for index, key in enumerate(KEYS)})


def tracked_runs(uri: str) -> list[Any]:
    """All training runs, of whichever suite."""
    client = store.connect(uri)
    return [run for experiment in store.experiments(client).values() for run in store.runs(client, experiment)]


def tracked_steps(uri: str, run: Any, key: str) -> list[int]:
    """All steps that MLflow has a value for, with repetitions."""
    client = store.connect(uri)
    return sorted(metric.step for metric in client.get_metric_history(run.info.run_id, key))


def assert_complete(uri: str, last: int) -> Any:
    """One run, with every metric of every epoch exactly once; returns it."""
    (run,) = tracked_runs(uri)
    for index, key in enumerate(KEYS):
        assert tracked_steps(uri, run, key) == list(range(1, last + 1)), key
        assert run.data.metrics[key] == last + index / 10
    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``mlflow server`` on localhost, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{folder / 'server.db'}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "served")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.3)
        raise TimeoutError((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
