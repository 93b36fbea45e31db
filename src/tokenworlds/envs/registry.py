"""Tasks by name: ``<benchmark>/<name>``, such as ``atari/Breakout``.

A benchmark is a line in ``BENCHMARKS`` and a module of this package, imported when one of its tasks is asked for, with

* ``names() -> list[str]``: its tasks, without the benchmark;
* ``make(task, config) -> gymnasium.Env``: an environment that ``spec.describe`` understands;
* optionally ``left_out() -> dict[str, str]``: names that it cannot offer, and why; ``notice() -> str``: what to print
  before an environment is made; ``summary(success_rates) -> dict[str, float]``: scores of achievements, by column;
  ``check(task)``, which refuses an unknown task, where there are more than ``names`` lists.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.recorded import Recorded
from tokenworlds.envs.wrappers import AsTrained
from tokenworlds.errors import UserError, brief, installing, near_matches

# Module, and the package that it needs where this is an extra, called like the benchmark.
BENCHMARKS: dict[str, tuple[str, str | None]] = {
    "atari": ("atari", None),
    "crafter": ("crafter", "crafter"),
    "craftax": ("craftax", "craftax"),
    "dmc": ("dmc", "dm-control"),
    "minigrid": ("minigrid", None),
    "minigrid_symbolic": ("minigrid", None),
    "minigrid_mixed": ("minigrid", None),
    "gym": ("gym", None),
}


def _module(benchmark: str) -> ModuleType:
    return importlib.import_module(f"tokenworlds.envs.{BENCHMARKS[benchmark][0]}")


def known_tasks() -> list[str]:
    """Every task, also of benchmarks whose package is an extra that is not installed; without those of ``gym``, which
    is any environment of any package."""
    return [f"{benchmark}/{name}" for benchmark in BENCHMARKS for name in _module(benchmark).names()]


def check_task(task: str) -> str:
    """The benchmark of a task.

    Raises:
        UserError: the task is unknown (with near matches), or cannot be played.
    """
    benchmark, _, name = task.partition("/")
    if benchmark not in BENCHMARKS:
        nearby = near_matches(task, known_tasks())
        expected = "expected <benchmark>/<name>; of any Gymnasium environment gym/<id>"
        raise UserError(f"unknown task '{brief(task, 50)}' ({expected}): {nearby}")
    module = _module(benchmark)
    if hasattr(module, "check"):
        module.check(task)
        return benchmark
    names = module.names()
    if name not in names:
        left_out: dict[str, str] = module.left_out() if hasattr(module, "left_out") else {}
        if name in left_out:
            raise UserError(f"{task} cannot be played: {left_out[name]}; choose another task.")
        nearby = near_matches(task, (f"{benchmark}/{known}" for known in names))
        raise UserError(f"unknown task '{brief(task, 50)}': {nearby}")
    return benchmark


def summary(task: str, success_rates: Mapping[str, float]) -> dict[str, float]:
    """Scores that a task's benchmark computes from success rates in percent, by the name of their column."""
    summarise = getattr(_module(task.partition("/")[0]), "summary", None) if success_rates else None
    return {} if summarise is None else dict(summarise(success_rates))


def _missing_package(benchmark: str) -> str | None:
    package = BENCHMARKS[benchmark][1]
    return package if package and importlib.util.find_spec(package.replace("-", "_")) is None else None


@functools.cache
def announce(task: str) -> None:
    """Print the benchmark's notice, once in a process; nothing where its package is missing."""
    benchmark = check_task(task)
    if hasattr(module := _module(benchmark), "notice") and not _missing_package(benchmark):
        print(module.notice(), flush=True)


@dataclass(frozen=True)
class EnvironmentFactory:
    """``make`` without the notice: may be called repeatedly and sent to another process."""

    task: str
    config: EnvironmentConfig
    keeps_clean: bool = False  # whether pictures without the noise of ``config`` are observed, too (``envs.noise``)
    trained: EnvironmentConfig | None = None  # of training, whose rewards and ends are then told, too (``AsTrained``)

    def __call__(self) -> Recorded:
        benchmark = check_task(self.task)
        if package := _missing_package(benchmark):
            raise UserError(f"{self.task} needs the package {package}: {installing(benchmark)}.")
        env = _module(benchmark).make(self.task, self.config)
        env = env if self.trained is None else AsTrained(env, self.trained)
        if self.config.noise is None:
            return Recorded(env)
        from tokenworlds.envs.noise import NoisyPictures

        return Recorded(NoisyPictures(env, self.config.noise.std, keeps_clean=self.keeps_clean))

    def announce(self) -> None:
        announce(self.task)


def make(task: str, config: EnvironmentConfig) -> Recorded:
    """A resumable environment with the benchmark's published preprocessing.

    Raises:
        UserError: the task is unknown, or its package is not installed.
    """
    announce(task)
    return EnvironmentFactory(task, config)()
