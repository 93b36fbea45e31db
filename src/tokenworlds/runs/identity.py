"""Identity of a run: what it is called, and whether there can be such a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenworlds.config import RunConfig, identity_of, known_methods
from tokenworlds.envs import known_tasks
from tokenworlds.envs.registry import BENCHMARKS
from tokenworlds.errors import excerpt, near_matches
from tokenworlds.tasks import ANY, ANY_TASK

LONGEST = 100  # letters of a list of near matches


@dataclass(frozen=True)
class RunId:
    """The run of one method, variant (``""``: none), task (``<benchmark>/<name>``) and seed at one scale."""

    method: str
    variant: str
    task: str
    seed: int
    scale: str

    @classmethod
    def of_record(cls, run: Mapping[str, Any]) -> RunId:
        """Identity from the section ``run`` of a ``scores.json``, or from a row of the collected scores.

        Raises:
            ValueError: the seed is no whole number; ``unknown_part`` says so in a sentence.
        """
        trained = run.get("trained_variant")  # in a collected table, `variant` may end with a label of the settings
        variant = run.get("variant") if trained is None else trained
        return cls(str(run["method"]), str(variant or ""), str(run["task"]), int(run["seed"]), str(run["scale"]))

    @classmethod
    def of_config(cls, config: RunConfig) -> RunId:
        """Identity of the run that a configuration describes."""
        return cls(config.method, config.variant or "", config.task, config.seed, config.scale.name)

    @property
    def benchmark(self) -> str:
        """First part of the task: ``atari``."""
        return self.task.partition("/")[0]

    @property
    def name(self) -> str:
        """``<method>[+<variant>]/<task>/<seed>``: relative path of the run's folder, and of its scores without suffix.

        Without the scale: runs of two scales would replace each other.
        """
        return identity_of(self.method, self.variant, self.task, self.seed)

    def overrides(self) -> list[str]:
        """Command line of the run's training."""
        chosen = [f"method={self.method}", f"task={self.task}", f"seed={self.seed}", f"scale={self.scale}"]
        return chosen + ([f"variant={self.variant}"] if self.variant else [])


@cache
def _tasks() -> dict[str, frozenset[str]]:
    """Names of the tasks of each benchmark."""
    found: dict[str, set[str]] = {benchmark: set() for benchmark in BENCHMARKS}
    for task in known_tasks():
        benchmark, _, name = task.partition("/")
        found.setdefault(benchmark, set()).add(name)
    return {benchmark: frozenset(names) for benchmark, names in found.items()}


def unknown_part(method: object, task: object, seed: object) -> str:
    """The part of a stored identity that no run can have, to be put after "holds"; empty where there is none."""
    if not isinstance(method, str) or method not in known_methods():
        return f"the unknown method {excerpt(repr(method))}: {_near(str(method), known_methods())}"
    benchmark, _, name = task.partition("/") if isinstance(task, str) else ("", "", "")
    if benchmark not in _tasks():
        known = ", ".join(_tasks())
        return f"the unknown task {excerpt(repr(task))}, expected BENCHMARK/NAME with a benchmark of: {known}."
    if benchmark == ANY and not ANY_TASK.fullmatch(str(task)):
        return f"the task {excerpt(repr(task))}, where gym/<id> or gym/<module>:<id> of an environment is expected"
    if benchmark != ANY and name not in _tasks()[benchmark]:  # an environment's package need not be installed here
        return f"the unknown task {excerpt(repr(task))}: {_near(name, _tasks()[benchmark])}"
    if isinstance(seed, bool) or not str(seed).isascii() or not str(seed).isdigit():
        return f"the seed {excerpt(repr(seed))} where a whole number from 0 on is expected; train that run again."
    return ""


def _near(name: str, known: Iterable[str]) -> str:
    """Known names close to ``name``; a long list ends after a whole name."""
    text = near_matches(name[:LONGEST], known)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(',')[0]}, ..."
