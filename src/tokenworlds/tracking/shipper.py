"""Send journal records to MLflow, every metric exactly once even if sending is interrupted or repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenworlds.redaction import redact
from tokenworlds.runs.layout import RUN_SCORES
from tokenworlds.tracking import store
from tokenworlds.tracking.inputs import file_input, task_input
from tokenworlds.tracking.journal import Record, journal_id
from tokenworlds.tracking.summary import HARDWARE, published_reference, read_scores, reference_scores_file, summary
from tokenworlds.tracking.trained_agent import ship_agent

JOURNAL_TAG = "tokenworlds.journal"
# MLflow's limits on one request and one value
_MAX_METRICS = 1000
_MAX_PARAMS = 100
_MAX_PARAM_LENGTH = 6000
_MAX_TAG_LENGTH = 5000


class Shipper:
    """The tracked run of one journal.

    The run is found by the journal's id, and the server is asked for the last step of every metric. Earlier steps are
    not sent again, whether they were read twice, recomputed after a resume, or received in a request whose answer was
    lost.

    Args:
        path: the journal.
        uri: MLflow's address.
        run_name: shown in the UI.
        tags: of the MLflow run.
        folder: the run folder with the trained agent, once it is published; default: that of the journal.
    """

    def __init__(
        self,
        path: Path,
        uri: str | None,
        run_name: str | None = None,
        tags: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._path, self._uri, self._run_name, self._tags = path, uri, run_name, tags or {}
        self._folder = folder or path.parent
        self._client: Any = None
        self._experiment = ""
        self._run_id = ""
        self._status = ""
        self._last_steps: dict[str, int] = {}
        self._known_params: set[str] = set()
        self._has_artifacts = False
        self.metrics_sent = 0
        self.answers = 0  # requests that the server has answered
        self.is_uploading = False  # the agent

    def ship(self, records: Sequence[Record]) -> None:
        """Send records; can be repeated with the same records after any exception of MLflow."""
        with self._connected(records):
            for values in _chunks(self._of_kind(records, "tags"), _MAX_PARAMS):
                self._log(tags=values)
            self._ship_params(self._of_kind(records, "params"))
            self._ship_metrics(records)
            for record in records:
                if record["kind"] == "artifact":
                    self._ship_artifact(record["path"])
                    if record["path"] == RUN_SCORES:
                        self._ship_summary(record)
            for record in records:
                if record["kind"] == "status":
                    self._set_status(record["value"], record["time"])

    def ship_agent(self) -> None:
        """Send the trained agent of a finished run, once its folder is published; can be repeated, as ``ship``."""
        if self._status != "FINISHED":
            return
        self.is_uploading = True
        try:
            with self._connected():
                ship_agent(self._client, self._experiment, self._run_id, self._folder, self._tags)
        finally:
            self.is_uploading = False

    @contextmanager
    def _connected(self, records: Sequence[Record] = ()) -> Iterator[None]:
        try:
            if self._client is None:
                self._connect(records)
            yield
        except Exception:
            self._client = None  # what has arrived is unknown: ask again
            raise

    def _connect(self, records: Sequence[Record]) -> None:
        from mlflow.entities import ViewType

        client, self._experiment = store.prepare(self._uri)
        identity = journal_id(self._path)
        query = f"tags.`{JOURNAL_TAG}` = '{identity}'"
        found = client.search_runs([self._experiment], query, run_view_type=ViewType.ACTIVE_ONLY, max_results=1)
        self._has_artifacts = bool(found)
        if found:
            run = client.get_run(found[0].info.run_id)
            # the public accessor drops the steps; asking for whole histories would cost a request per metric
            self._last_steps = {metric.key: metric.step for metric in run.data._metric_objs}
        else:
            began = int(records[0]["time"] * 1000) if records else None
            tags = {**self._tags, JOURNAL_TAG: identity}
            run = client.create_run(self._experiment, start_time=began, run_name=self._run_name, tags=tags)
            self._last_steps = {}
        self._run_id, self._status = run.info.run_id, run.info.status
        self._known_params = set(run.data.params)
        self._client = client
        self.answers += 1

    def _log(self, **entities: Any) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(key, _text(value, _MAX_PARAM_LENGTH)) for key, value in entities.get("params", {}).items()]
        tags = [RunTag(key, _text(value, _MAX_TAG_LENGTH)) for key, value in entities.get("tags", {}).items()]
        self._client.log_batch(self._run_id, params=params, tags=tags)
        self.answers += 1

    @staticmethod
    def _of_kind(records: Sequence[Record], kind: str) -> dict[str, Any]:
        return {key: value for record in records if record["kind"] == kind for key, value in record["values"].items()}

    def _ship_params(self, params: dict[str, Any]) -> None:
        """Send the parameters that are set (to something else than None), and the task with its settings as a data set.
        One that the run has stays as it is: MLflow refuses another value."""
        known = self._known_params
        new = {key: value for key, value in params.items() if key not in known and value is not None}
        for values in _chunks(new, _MAX_PARAMS):
            self._log(params=values)
            known |= values.keys()
        if "task" in params:
            self._ship_inputs(task_input(str(params["task"]), params))

    def _ship_inputs(self, *inputs: Any) -> None:
        """Data sets; MLflow ignores one that the run has."""
        self._client.log_inputs(self._run_id, datasets=list(inputs))
        self.answers += 1

    def _ship_summary(self, record: Record) -> None:
        """What a list of runs shows, from the scores that an artifact record names."""
        scores = read_scores(self._path.with_name(RUN_SCORES))
        if not scores:
            return
        self._ship_metrics([{**record, "kind": "metrics", "values": summary(scores)}])
        if HARDWARE in scores:
            self._log(tags={HARDWARE: scores[HARDWARE]})
        if published_reference(scores):
            self._ship_inputs(file_input(reference_scores_file(), "human-normalised score"))

    def _ship_metrics(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric

        batch: list[Any] = []
        for record in records:
            if record["kind"] != "metrics":
                continue
            for key, value in record["values"].items():
                if record["step"] > self._last_steps.get(key, -1):
                    self._last_steps[key] = record["step"]
                    batch.append(Metric(key, float(value), int(record["time"] * 1000), record["step"]))
        if batch and self._status != "RUNNING":
            self._set_status("RUNNING", time.time())
        for begin in range(0, len(batch), _MAX_METRICS):
            part = batch[begin : begin + _MAX_METRICS]
            self._client.log_batch(self._run_id, metrics=part)
            self.metrics_sent += len(part)
            self.answers += 1

    def _ship_artifact(self, relative: str) -> None:
        """A file beside the journal, under its relative path, unless the run has one of that name and size."""
        path = self._path.parent / relative
        folder = Path(relative).parent.as_posix()
        folder = "" if folder == "." else folder
        if not path.is_file():
            return
        if self._has_artifacts:
            present = {
                entry.path: entry.file_size for entry in self._client.list_artifacts(self._run_id, folder or None)
            }
            if present.get(relative) == path.stat().st_size:
                return
        self._client.log_artifact(self._run_id, str(path), folder or None)
        self.answers += 1

    def _set_status(self, status: str, ended: float) -> None:
        if status == self._status:
            return
        if status == "RUNNING":
            self._client.update_run(self._run_id, status=status)
        else:
            self._client.set_terminated(self._run_id, status, int(ended * 1000))
        self._status = status
        self.answers += 1


def _chunks(values: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    items = list(values.items())
    for begin in range(0, len(items), size):
        yield dict(items[begin : begin + size])


def _text(value: Any, limit: int) -> str:
    text = redact(str(value))  # journals of earlier versions hold addresses as they were given
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
