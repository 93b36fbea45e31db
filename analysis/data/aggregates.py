"""All aggregates with intervals in one dictionary: ``{suite: {method: {metric: {point, low, high, runs, tasks}}}}``.

Probabilities of improvement have the same shape, with the beaten method in the place of the metric:
``{"probability_of_improvement": {X: {Y: {...}}}}`` holds P(X > Y).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data import naming
from analysis.data.published import ATARI, DMC, SUBJECT_ABLATIONS, SUBJECT_GAMES
from analysis.data.runs import ABLATION_SUITES
from analysis.data.scores import Suite
from analysis.options import Options
from analysis.stats import metrics
from analysis.stats.bootstrap import Bounds
from analysis.stats.engines import Engine
from analysis.stats.metrics import Matrix
from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic

Aggregates = dict[str, dict[str, dict[str, dict[str, Any]]]]

IMPROVEMENT = "probability_of_improvement"
FIELDS = {"point", "low", "high", "runs", "tasks"}
# Suites compared pair by pair; of the ablations, only the full agent (also ours) against each of them.
OF_ONE_AGENT = (*ABLATION_SUITES, SUBJECT_ABLATIONS)
PAIRED_SUITES = {ATARI: IMPROVEMENT, **{name: f"{IMPROVEMENT}_{name}" for name in (*OF_ONE_AGENT, SUBJECT_GAMES)}}


def compute(suites: Mapping[str, Suite], engine: Engine, options: Options) -> Aggregates:
    """Points and intervals of every method of every suite, and the probabilities of improvement."""
    result: Aggregates = {name: suite_aggregates(suite, engine, options) for name, suite in suites.items()}
    for name, key in PAIRED_SUITES.items():
        if name in suites:
            result[key] = suite_improvements(suites[name], engine, options)
    return result


def suite_aggregates(suite: Suite, engine: Engine, options: Options) -> dict[str, dict[str, dict[str, Any]]]:
    """Every metric of every method of one suite.

    Bounds of a method with a single run, or with equal ones, are null: a width of zero would mislead.
    """
    result = {}
    for method, scores in suite.scores.items():
        bounds: Mapping[str, Bounds | tuple[None, None]] = dict.fromkeys(metrics.METRICS, (None, None))
        if tell_spread(scores):
            generator = options.generator(suite.name, method)
            bounds = engine.aggregates(scores, generator, options.repetitions_aggregates)
        points = metrics.points(scores)
        if suite.name == DMC:
            points.pop("superhuman")  # there is no human on DMC
        result[method] = {
            metric: _entry(point, bounds[metric], len(scores), len(suite.tasks)) | _fewest(scores)
            for metric, point in points.items()
        }
    return result


def tell_spread(scores: Matrix) -> bool:
    """Whether runs (N, M) tell how much runs differ: there are several of some task, and these are not all equal."""
    return bool((np.nanmax(scores, axis=0) > np.nanmin(scores, axis=0)).any())


def suite_improvements(suite: Suite, engine: Engine, options: Options) -> dict[str, dict[str, dict[str, Any]]]:
    """P(X > Y) of all ordered pairs of methods with more than one run."""
    several = [method for method, scores in suite.scores.items() if len(scores) > 1]
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for x in _full_agents(several) if suite.name in OF_ONE_AGENT else several:
        result[x] = {}
        for y in several:
            if x != y:
                scores = suite.scores[x], suite.scores[y]
                generator = options.generator(suite.name, "improvement", x, y)
                bounds = engine.improvement(*scores, generator, options.repetitions_improvement)
                point = metrics.probability_of_improvement(*scores)
                result[x][y] = {**_entry(point, bounds, len(scores[0]), len(suite.tasks)), "runs_other": len(scores[1])}
    return result


def _full_agents(methods: Sequence[str]) -> list[str]:
    """The first of these methods, which the others are ablations of, and our runs of it."""
    return [name for name in methods if naming.twin(name) == methods[0]]


def _entry(point: float, bounds: Bounds | tuple[None, None], runs: int, tasks: int) -> dict[str, Any]:
    return {"point": point, "low": bounds[0], "high": bounds[1], "runs": runs, "tasks": tasks}


def _fewest(scores: Matrix) -> dict[str, int]:
    """Smallest number of runs of a task, where it differs from ``runs``, the largest."""
    return {"fewest_runs": int(metrics.run_counts(scores).min())} if metrics.is_ragged(scores) else {}


def write(aggregates: Aggregates, path: Path) -> None:
    """One JSON file with a stable layout."""
    write_atomic(path, (json.dumps(aggregates, indent=1) + "\n").encode())


def read(path: Path, suites: Mapping[str, Suite]) -> Aggregates:
    """Aggregates computed earlier; they must belong to the scores at hand (points are cheap to check against)."""
    remedy = "make it anew with `python -m pipeline.aggregate`."
    try:
        aggregates: Aggregates = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read the aggregates {path} ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); {remedy}") from error
    for name, suite in suites.items():
        for method, scores in suite.scores.items():
            entry = _lookup(aggregates, name, method)
            point, found = metrics.mean(scores), _lookup(entry, "mean", "point")
            if not isinstance(found, int | float) or abs(found - point) > 1e-9:
                raise UserError(
                    f"{path} does not belong to these scores: the mean of {method[:40]} in {name[:40]} is {point:.6g}, "
                    f"the file says {str(found)[:20]}; {remedy}"
                )
            wanted = [metric for metric in metrics.METRICS if not (name == DMC and metric == "superhuman")]
            if any(not set(_lookup(entry, metric) or ()) >= FIELDS for metric in wanted):
                raise UserError(f"{path} is no complete file of aggregates ({method[:40]} in {name[:40]}); {remedy}")
    if lacking := [key for name, key in PAIRED_SUITES.items() if name in suites and not _lookup(aggregates, key)]:
        raise UserError(f"{path} is no complete file of aggregates (no {lacking[0]}); {remedy}")
    return aggregates


def _lookup(value: Any, *keys: str) -> Any:
    """Value at this path; None where the file has another shape."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
