"""Send journal records to MLflow, every metric exactly once even if sending is interrupted or repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenworlds.runs.layout import JOURNAL, RUN_SCORES
from tokenworlds.tracking import store
from tokenworlds.tracking.batches import batches
from tokenworlds.tracking.inputs import file_input, task_input
from tokenworlds.tracking.journal import Record, journal_id
from tokenworlds.tracking.summary import HARDWARE, published_reference, read_scores, reference_scores_file, summary
from tokenworlds.tracking.trained_agent import ship_agent

JOURNAL_TAG = "tokenworlds.journal"


class Shipper:
    """The tracked run of one journal.

    The run is found by the journal's id in the experiment of any suite, else it is made in that of its own. The server
    is asked for the last step of every metric. Earlier steps are not sent again, whether they were read twice,
    recomputed after a resume, or received in a request whose answer was lost.

    Args:
        path: the journal.
        uri: MLflow's address.
        run_name: shown in the UI.
        tags: of the MLflow run; those that the journal has are added. ``suite`` says to which experiment it belongs.
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
        self.identity = ""  # of the journal, once it is read
        self._client: Any = None
        self._experiments: list[str] = []  # that are searched for runs
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
        tags = self._of_kind(records, "tags")
        self._tags = {key: str(value) for key, value in tags.items()} | self._tags
        with self._connected(records):
            self._log(tags=tags)
            self._ship_params(self._of_kind(records, "params"))
            self._ship_metrics(records)
            for record in records:
                if record["kind"] == "artifact":
                    self._ship_artifact(record["path"])
                    if record["path"] == RUN_SCORES:
                        self._ship_summary(record)
            for record in [record for record in records if record["kind"] == "status"][-1:]:
                self._set_status(record["value"], record["time"])

    def ship_agent(self) -> bool:
        """Send the trained agent of a finished run, once its folder is published; can be repeated, as ``ship``.

        Returns:
            Whether it is published.
        """
        if self._status != "FINISHED" or not self._is_published():
            return False
        self.is_uploading = True
        try:
            with self._connected():
                ship_agent(self._client, self._experiments, self._run_id, self._folder, self._tags)
        finally:
            self.is_uploading = False
        return True

    def _is_published(self) -> bool:
        """Whether the run folder is that of this run: what was there is replaced when the run is complete."""
        journal = self._folder / JOURNAL
        return journal == self._path or (journal.is_file() and journal_id(journal) == self.identity)

    def continue_from(self, path: Path) -> None:
        """Send from another journal, or the same after it was written anew; what MLflow has of it is asked for."""
        self._path, self.identity, self._client = path, journal_id(path), None

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
        self.identity = self.identity or journal_id(self._path)
        client = store.connect(self._uri)
        run = self._find(client)
        self._has_artifacts = run is not None
        if run is None:
            client, experiment = store.prepare(self._uri, store.of_suite(self._tags.get("suite")))
            self._experiments = sorted({*self._experiments, experiment})
            began = int(records[0]["time"] * 1000) if records else None
            tags = {**self._tags, JOURNAL_TAG: self.identity}
            run = client.create_run(experiment, start_time=began, run_name=self._run_name, tags=tags)
        # the public accessor drops the steps; asking for whole histories would cost a request per metric
        self._last_steps = {metric.key: metric.step for metric in run.data._metric_objs}
        self._run_id, self._status = run.info.run_id, run.info.status
        self._known_params = set(run.data.params)
        self._client = client
        self.answers += 1

    def _find(self, client: Any) -> Any:
        """The run of a journal, in whichever experiment it was begun; None without one, or in MLflow's trash."""
        from mlflow.entities import ViewType

        self._experiments = list(store.experiments(client).values())
        query = f"tags.`{JOURNAL_TAG}` = '{self.identity}'"
        if not self._experiments:
            return None
        found = client.search_runs(self._experiments, query, run_view_type=ViewType.ACTIVE_ONLY, max_results=1)
        return client.get_run(found[0].info.run_id) if found else None

    def _log(self, **entities: Any) -> None:
        for batch in batches(**entities):
            self._client.log_batch(self._run_id, **batch)
            self.metrics_sent += len(batch.get("metrics", ()))
            self.answers += 1

    @staticmethod
    def _of_kind(records: Sequence[Record], kind: str) -> dict[str, Any]:
        return {key: value for record in records if record["kind"] == kind for key, value in record["values"].items()}

    def _ship_params(self, params: dict[str, Any]) -> None:
        """Send the parameters that are set (to something else than None), and the task with its settings as a data set.
        One that the run has stays as it is: MLflow refuses another value."""
        known = self._known_params
        new = {key: value for key, value in params.items() if key not in known and value is not None}
        self._log(params=new)
        known |= new.keys()
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
        self._log(metrics=batch)

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
