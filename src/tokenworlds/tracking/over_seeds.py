"""One MLflow run for all seeds of a method on a task: curves of the mean with an interval, so that methods are compared
by comparing two runs.

They are in experiments of their own, ``tokenworlds-summary/<suite>``, where nothing takes them for runs. Intervals are
of the percentile bootstrap over seeds, as in the papers; a single seed has none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tokenworlds.config import identity_of
from tokenworlds.errors import UserError
from tokenworlds.files import shortened
from tokenworlds.redaction import redact
from tokenworlds.runs.layout import RUN_SCORES
from tokenworlds.runs.settings import REFUSE, shown_variants
from tokenworlds.tracking import store
from tokenworlds.tracking.batches import batches
from tokenworlds.tracking.journal import journal_id, read_journal
from tokenworlds.tracking.summary import DIGITS, HUMAN_NORMALISED, SCORE, read_scores, summary
from tokenworlds.tracking.sync import ACCEPT, find_journals

LOW, HIGH = "_low", "_high"
"""Ends of the names of an interval's bounds: ``eval/return_mean_low``."""
KIND = {"kind": "summary", "interval": "95 % percentile bootstrap over seeds"}
IDENTITY_TAG, CONTENT_TAG = "tokenworlds.summary", "tokenworlds.content"
_LEVELS = (0.025, 0.975)
_RESAMPLES = 2000
_BUDGET = "budget/env_steps"
_CURVES = re.compile(rf"(eval|final)/return_mean|eval/crafter_score|.+/(train|eval)/loss_total|{_BUDGET}")
_FINAL = (SCORE, HUMAN_NORMALISED)
_VERSION = 1  # of what is sent of the same runs


class _Identity(NamedTuple):
    """What the runs of one summary share."""

    suite: str
    scale: str
    method: str
    variant: str  # as it is shown
    task: str

    @property
    def name(self) -> str:
        return identity_of(self.method, self.variant, self.task, "").rstrip("/")


@dataclass(frozen=True)
class _Run:
    """One finished seed."""

    journal: Path
    scores: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return int(self.scores["run"]["seed"])

    def content(self) -> list[object]:
        """What tells this run from another, or from itself with other results."""
        return [self.seed, journal_id(self.journal), self.journal.stat().st_size, self.scores]


def summarise(folders: Iterable[Path], uri: str | None = None, mixed: str = REFUSE) -> str:
    """Send the summaries that are missing or of fewer seeds; one that is replaced goes into MLflow's trash.

    Args:
        folders: with finished runs; default: ``results/runs``.
        mixed: runs of several settings under one name: ``refuse``, or ``label`` them, so that each has its own.

    Returns:
        A sentence about what was sent.

    Raises:
        UserError: there are no finished runs, or MLflow does not take the summaries.
    """
    groups = _group(_finished(folders), mixed)
    by_suite: dict[str, dict[_Identity, list[_Run]]] = defaultdict(dict)
    for identity, runs in groups.items():
        by_suite[identity.suite][identity] = runs
    address, sent = store.resolve_uri(uri), 0
    with tqdm(total=len(groups), unit="summary", disable=None, leave=False) as bar:
        for suite, chosen in by_suite.items():
            try:
                sent += _send(uri, suite, chosen, bar)
            except UserError:
                raise
            except Exception as error:  # any failure of the server, said in one sentence
                reason = store.describe_error(error)
                raise UserError(
                    f"MLflow at {address} did not take the summaries ({reason}); repeat it later."
                ) from error
    return redact(f"{len(groups)} summaries over seeds are at {address}; {sent} were missing or of other runs.")


def _finished(folders: Iterable[Path]) -> list[_Run]:
    found = [_Run(path, read_scores(path.with_name(RUN_SCORES))) for path in find_journals(folders)]
    runs = [run for run in found if run.scores]
    for run in runs:
        if lacking := {"method", "task", "seed", "scale"} - run.scores["run"].keys():
            place = run.journal.with_name(RUN_SCORES)
            raise UserError(f"{place} is damaged (no {min(lacking)}); train that run again or leave its folder out.")
    if not runs:
        raise UserError("there are no finished runs to summarise; give folders of runs that have a scores.json.")
    return runs


def _group(runs: Sequence[_Run], mixed: str) -> dict[_Identity, list[_Run]]:
    """Runs of one suite, scale, method, variant with its settings, and task; by seed."""
    described = [{**run.scores, **run.scores["run"]} for run in runs]
    groups: dict[_Identity, list[_Run]] = defaultdict(list)
    for run, tags, variant in zip(runs, described, shown_variants(described, "the folder of runs", ACCEPT, mixed)):
        suite, scale, method, task = (str(tags.get(key) or "") for key in ("suite", "scale", "method", "task"))
        groups[_Identity(suite, scale, method, variant, task)].append(run)
    for identity, members in groups.items():
        members.sort(key=lambda run: run.seed)
        for one, other in pairwise(members):
            if one.seed == other.seed:
                places = f"{shortened(one.journal.parent, 60)}, {shortened(other.journal.parent, 60)}"
                raise UserError(f"seed {one.seed} of {identity.name} is there twice ({places}); leave one folder out.")
    return dict(sorted(groups.items()))


def _send(uri: str | None, suite: str, groups: Mapping[_Identity, Sequence[_Run]], bar: Any) -> int:
    client, experiment = store.prepare(uri, store.of_suite(suite, store.SUMMARIES))
    there: dict[str, list[Any]] = defaultdict(list)
    for found in store.runs(client, experiment):
        there[found.data.tags.get(IDENTITY_TAG, "")].append(found)
    sent = 0
    for identity, runs in groups.items():
        key = f"{identity.name} {identity.scale}"
        content = json.dumps([_VERSION, *(run.content() for run in runs)], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:32]
        whole = [
            found for found in there[key] if found.info.status == "FINISHED" and found.data.tags[CONTENT_TAG] == digest
        ]
        if not whole:
            _create(client, experiment, identity, runs, {IDENTITY_TAG: key, CONTENT_TAG: digest})
            sent += 1
        for other in there[key]:
            if other not in whole[-1:]:  # of fewer seeds, or begun by a process that was killed
                client.delete_run(other.info.run_id)
        bar.update()
    return sent


def _create(client: Any, experiment: str, identity: _Identity, runs: Sequence[_Run], tags: Mapping[str, str]) -> None:
    seeds = ", ".join(str(run.seed) for run in runs)
    count = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    curves, params, times = _read(runs)
    run = client.create_run(
        experiment,
        start_time=min(times.values()),
        run_name=f"{identity.name} ({count}, {identity.scale})",
        tags={**identity._asdict(), **KIND, "seeds": seeds, **tags},
    )
    for request in batches(_metrics(curves, times), {**params, "seeds": len(runs)}):
        client.log_batch(run.info.run_id, **request)
    client.set_terminated(run.info.run_id, "FINISHED", max(times.values()))


def _read(runs: Sequence[_Run]) -> tuple[dict[str, dict[int, list[float]]], dict[str, Any], dict[int, int]]:
    """Values of all seeds by metric and step, the parameters that they share, and when a seed reached each step (in
    milliseconds)."""
    curves: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    shared: list[dict[str, Any]] = []
    times: dict[int, int] = {}
    for run in runs:
        values: dict[str, dict[int, float]] = defaultdict(dict)
        params: dict[str, Any] = {}
        step = 0
        for record in read_journal(run.journal):
            if record["kind"] == "params":
                params |= record["values"]
            if record["kind"] == "metrics":
                step = record["step"]
                times.setdefault(step, int(record["time"] * 1000))
                for key in filter(_CURVES.fullmatch, record["values"]):
                    values[key][step] = float(record["values"][key])
        numbers = summary(run.scores)
        values |= {key: {step: numbers[key]} for key in _FINAL if key in numbers}
        for key, steps in values.items():
            for step, value in steps.items():
                curves[key][step].append(value)
        shared.append(params)
    common = {
        key: value
        for key, value in shared[0].items()
        if value is not None and key != "seed" and all(params.get(key) == value for params in shared)
    }
    return curves, common, times


def _metrics(curves: Mapping[str, Mapping[int, Sequence[float]]], times: Mapping[int, int]) -> list[Any]:
    """Mean and interval of every metric at the steps that all seeds have."""
    from mlflow.entities import Metric

    count = max(len(values) for steps in curves.values() for values in steps.values())
    found = []
    for key, values in curves.items():
        steps = sorted(step for step, of_seeds in values.items() if len(of_seeds) == count)
        if not steps:
            continue
        table = np.array([values[step] for step in steps]).T
        lines = {"": table.mean(axis=0)}
        if count > 1 and key != _BUDGET:
            lines[LOW], lines[HIGH] = interval(table)
        found += [
            Metric(f"{key}{end}", round(float(value), DIGITS) if key in _FINAL else float(value), times[step], step)
            for end, line in lines.items()
            for step, value in zip(steps, line)
        ]
    return found


def interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bounds of the mean of (seeds, steps) values, (2, steps): of resamples that are the same at every step, so that
    the curves are as smooth as the seeds'."""
    seeds = len(values)
    counts = np.random.default_rng(0).multinomial(seeds, [1 / seeds] * seeds, size=_RESAMPLES)
    bounds: NDArray[np.float64] = np.quantile(counts @ values / seeds, _LEVELS, axis=0)
    return bounds
