"""All aggregates with intervals in one dictionary: ``{suite: {method: {metric: {point, low, high, runs, tasks}}}}``.

Probabilities of improvement have the same shape, with the beaten method in the place of the metric:
``{"probability_of_improvement": {X: {Y: {...}}}}`` holds P(X > Y). In a file, ``{"resampled": {...}}`` beside them says
with how many repetitions, from which seed and by which engine the intervals were computed.

Resampling is expensive, so the metrics of a method, and a P(X > Y), are computed when they are first looked up. Each
has a random stream of its own: what else is looked up, and in which order, changes no number.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from analysis.data import naming
from analysis.data.published import ATARI, DMC, SUBJECT_ABLATIONS, SUBJECT_GAMES
from analysis.data.runs import ABLATION_SUITES
from analysis.data.scores import Suite
from analysis.options import Options
from analysis.stats import metrics
from analysis.stats.bootstrap import Bounds
from analysis.stats.engines import Engine
from analysis.stats.metrics import Matrix
from tokenworlds.errors import UserError, excerpt
from tokenworlds.files import write_atomic

Entry = dict[str, Any]
Entries = Mapping[str, Mapping[str, Entry]]
Aggregates = Mapping[str, Entries]
Value = TypeVar("Value")

IMPROVEMENT = "probability_of_improvement"
RESAMPLED = "resampled"
FILE = "aggregates.json"
FIELDS = {"point", "low", "high", "runs", "tasks"}
# Suites compared pair by pair; of the ablations, only the full agent (also ours) against each of them.
OF_ONE_AGENT = (*ABLATION_SUITES, SUBJECT_ABLATIONS)
PAIRED_SUITES = {ATARI: IMPROVEMENT, **{name: f"{IMPROVEMENT}_{name}" for name in (*OF_ONE_AGENT, SUBJECT_GAMES)}}


class Lazy(Mapping[str, Value]):
    """A mapping of which every value is computed once, when it is first looked up.

    Args:
        compute: gives the value of one of ``keys``.
    """

    def __init__(self, keys: Iterable[str], compute: Callable[[str], Value]) -> None:
        self._keys = dict.fromkeys(keys)
        self._compute = compute
        self._values: dict[str, Value] = {}

    def __getitem__(self, key: str) -> Value:
        if key not in self._keys:
            raise KeyError(key)
        if key not in self._values:
            self._values[key] = self._compute(key)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def compute(suites: Mapping[str, Suite], engine: Engine, options: Options) -> Aggregates:
    """Points and intervals of every method of every suite, and the probabilities of improvement."""
    result = {name: suite_aggregates(suite, engine, options) for name, suite in suites.items()}
    for name, key in PAIRED_SUITES.items():
        if name in suites:
            result[key] = suite_improvements(suites[name], engine, options)
    return result


def suite_aggregates(suite: Suite, engine: Engine, options: Options) -> Entries:
    """Every metric of every method of one suite; those of a method share their resamples.

    Bounds of a method with a single run, or with equal ones, are null: a width of zero would mislead.
    """
    return Lazy(suite.scores, partial(_method_aggregates, suite, engine, options))


def _method_aggregates(suite: Suite, engine: Engine, options: Options, method: str) -> dict[str, Entry]:
    scores = suite.scores[method]
    bounds: Mapping[str, Bounds | tuple[None, None]] = dict.fromkeys(metrics.METRICS, (None, None))
    if metrics.tell_spread(scores):
        bounds = engine.aggregates(scores, options.generator(suite.name, method), options.repetitions_aggregates)
    points = metrics.points(scores)
    if suite.name == DMC:
        points.pop("superhuman")  # there is no human on DMC
    return {
        metric: _entry(point, bounds[metric], len(scores), len(suite.tasks)) | _fewest(scores)
        for metric, point in points.items()
    }


def suite_improvements(suite: Suite, engine: Engine, options: Options) -> Entries:
    """P(X > Y) of all ordered pairs of methods with more than one run."""
    several = [method for method, scores in suite.scores.items() if len(scores) > 1]
    return {
        x: Lazy([y for y in several if y != x], partial(_improvement, suite, engine, options, x))
        for x in (_full_agents(several) if suite.name in OF_ONE_AGENT else several)
    }


def _improvement(suite: Suite, engine: Engine, options: Options, x: str, y: str) -> Entry:
    scores = suite.scores[x], suite.scores[y]
    bounds = engine.improvement(
        *scores, options.generator(suite.name, "improvement", x, y), options.repetitions_improvement
    )
    point = metrics.probability_of_improvement(*scores)
    return {**_entry(point, bounds, len(scores[0]), len(suite.tasks)), "runs_other": len(scores[1])}


def _full_agents(methods: Sequence[str]) -> list[str]:
    """The first of these methods, which the others are ablations of, and our runs of it."""
    return [name for name in methods if naming.twin(name) == methods[0]]


def _entry(point: float, bounds: Bounds | tuple[None, None], runs: int, tasks: int) -> dict[str, Any]:
    return {"point": point, "low": bounds[0], "high": bounds[1], "runs": runs, "tasks": tasks}


def _fewest(scores: Matrix) -> dict[str, int]:
    """Smallest number of runs of a task, where it differs from ``runs``, the largest."""
    return {"fewest_runs": int(metrics.run_counts(scores).min())} if metrics.is_ragged(scores) else {}


def _resampled(engine: Engine, options: Options) -> dict[str, Any]:
    names = ("repetitions_aggregates", "repetitions_improvement", "seed")
    return {"engine": type(engine).__name__, **{name: getattr(options, name) for name in names}}


def write(aggregates: Aggregates, path: Path, engine: Engine, options: Options) -> None:
    """One JSON file with a stable layout; computes what was not looked up before."""
    content = {**aggregates, RESAMPLED: _resampled(engine, options)}
    write_atomic(path, (json.dumps(content, indent=1, default=dict) + "\n").encode())


def read(path: Path, suites: Mapping[str, Suite], engine: Engine, options: Options) -> Aggregates:
    """Aggregates computed earlier; they must belong to the scores at hand (points are cheap to check against), and be
    resampled as captions will say."""
    remedy = "make it anew with `python -m pipeline.aggregate`, or leave it out."
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
    for name, wanted in _resampled(engine, options).items():
        if (found := _lookup(aggregates, RESAMPLED, name)) != wanted:
            raise UserError(
                f"{path} was computed with {name.replace('_', ' of ')} {excerpt(str(found))} where {wanted} is asked "
                f"for; give the same options, {remedy}"
            )
    return aggregates


def is_own(path: Path) -> bool:
    """Whether a file is one of aggregates, which may be replaced."""
    return path.read_text(errors="replace").lstrip("{ \n").startswith(f'"{ATARI}"')


def _lookup(value: Any, *keys: str) -> Any:
    """Value at this path; None where the file has another shape."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
