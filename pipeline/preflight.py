"""Check what the active suite needs before its first run: ``python -m pipeline.preflight``.

Every kind of run (method, variant, benchmark) is checked before any is trained: configuration, packages, games, GPU,
memory, disk. All that is missing is listed with its remedy, and the hours are estimated. Torch is not imported.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline import estimate
from pipeline.plan import Plan, active_plan, is_done
from tokenworlds.cli import STATUS_ERROR, exit_status, print_error
from tokenworlds.config import RunConfig, digest_of, load, places_of, project_root
from tokenworlds.config.spaces import Kind as Shown
from tokenworlds.config.spaces import kind as shown
from tokenworlds.config.trunk import STAND_INS, TrunkInit, require_weights
from tokenworlds.envs import check_task
from tokenworlds.errors import UserError, excerpt, installing
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import runs_folder
from tokenworlds.tasks import family_of, is_any
from tokenworlds.training.budget import physical_memory, replay_capacity
from tokenworlds.training.run_folder import scratch_root

COMMAND = "python -m pipeline.preflight"
PACKAGES = {"crafter": ("crafter",), "craftax": ("craftax", "jax"), "dmc": ("dm_control", "mujoco")}
PICTURES = ("atari", "crafter", "minigrid", "minigrid_mixed")  # benchmarks whose observations hold a picture
OTHER_BYTES = 1024  # upper bound of an observation without a picture
CHECKPOINT_BYTES = {"paper": 2_000_000_000}  # upper bound of two checkpoints without replay
OUTPUT_BYTES = {"paper": 200_000_000}  # a published run and its copy in DVC's cache
SMALL_BYTES = 20_000_000  # either of them at the other scales


@dataclass(frozen=True)
class Kind:
    """Runs that differ in task and seed only; of a Gymnasium environment in the seed only."""

    method: str
    variant: str
    benchmark: str  # or the whole task
    runs: tuple[RunId, ...]

    @property
    def name(self) -> str:
        return f"{self.runs[0].name.partition('/')[0]}/{self.benchmark}"


@dataclass
class Findings:
    """Errors with which a run would fail, warnings, and a cost for every kind of run."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    costs: dict[Kind, estimate.Estimate | None] = field(default_factory=dict)


def examine(plan: Plan, runs: Sequence[RunId], is_elsewhere: bool = False) -> Findings:
    """Compare everything that the runs need with what is there.

    Args:
        is_elsewhere: other machines train them, so that memory and GPUs of this one do not matter.
    """
    findings, configs = Findings(), {}
    grouped: dict[tuple[str, str, str], list[RunId]] = {}
    for run in runs:
        grouped.setdefault((run.method, run.variant, family_of(run.task)), []).append(run)
    groups = [Kind(*key, tuple(found)) for key, found in grouped.items()]
    estimates = estimate.hours((kind.runs[0] for kind in groups), None if is_elsewhere else gpu_name())
    faults: dict[str, list[Kind]] = {}  # one line for all kinds with the same fault
    for kind in tqdm(groups, unit="kind", disable=None, leave=False):
        config, found = _configuration(kind)
        for fault in found:
            faults.setdefault(fault, []).append(kind)
        if config is not None:
            configs[kind] = config
        findings.costs[kind] = estimates.get(kind.runs[0])
    findings.errors += [f"{_named(affected)}: {fault}" for fault, affected in faults.items()]
    findings.errors += [*_packages(groups), *_tasks(runs), *_beginnings(plan, configs)]
    if not is_elsewhere:
        _check_device(plan.scale, configs, findings)
        findings.errors += _memory(configs)
    _check_disk(plan.scale, configs, findings)
    return findings


def _named(affected: Sequence[Kind]) -> str:
    names = ", ".join(kind.name for kind in affected[:3]) + (" ..." if len(affected) > 3 else "")
    count = sum(len(kind.runs) for kind in affected)
    return f"{names} ({count} run{'' if count == 1 else 's'})"


def _configuration(kind: Kind) -> tuple[RunConfig | None, list[str]]:
    """The configuration of one of the runs, and its faults. The rest of it is checked without perceptual weights,
    too."""
    faults: list[str] = []
    for more in ([], ["model.tokenizer.perceptual=none"]):
        try:
            config = load([*kind.runs[0].overrides(), *more])
            return config, faults + _missing_weights(config)
        except UserError as error:
            if not faults:
                faults.append(str(error))
            if "perceptual_weights" not in str(error):
                break
    return None, faults


def _missing_weights(config: RunConfig) -> list[str]:
    """Weights that the trunk is to begin with; stand-ins are made by a stage before the runs."""
    trunk = config.model.world_model.trunk
    if trunk is not None and trunk.init is TrunkInit.llama and not is_installed("gguf"):
        return [f"the package gguf, which reads weights of Llama, is not installed; {installing('pretrained')}."]
    try:
        if trunk is not None and not str(trunk.weights).startswith(STAND_INS):
            require_weights(trunk)
    except UserError as error:
        return [str(error)]
    return []


def _packages(groups: Sequence[Kind]) -> list[str]:
    errors = []
    for benchmark, modules in PACKAGES.items():
        affected = [kind for kind in groups if kind.benchmark == benchmark]
        missing = [module for module in modules if not is_installed(module)]
        if affected and missing:
            errors.append(f"{_named(affected)}: the package {missing[0]} is not installed; {installing(benchmark)}.")
    return errors


def _tasks(runs: Sequence[RunId]) -> list[str]:
    """Tasks that do not exist here: typing errors, and games whose ROM is missing."""
    errors = []
    for task in dict.fromkeys(run.task for run in runs):
        try:
            check_task(task)
        except UserError as error:
            errors.append(str(error))
    return errors


def _beginnings(plan: Plan, configs: dict[Kind, RunConfig]) -> list[str]:
    """Runs that begin with a run of their task and seed that is neither here nor in the suite."""
    trained, errors = {runs_folder() / run.name for run in plan.runs}, []
    for kind, config in configs.items():
        is_pretrained = getattr(config, "pretraining", None) is not None  # by a stage of its own
        for run in () if is_pretrained else kind.runs:
            if (lacking := lacking_weights(run, config)) and project_root() / lacking not in trained:
                errors.append(
                    f"{_named([kind])}: {run.name} begins with {lacking}, which is neither here nor a run of this "
                    "suite; add that run to the suite, or train it."
                )
                break
    return errors


def lacking_weights(run: RunId, config: RunConfig) -> str | None:
    """The folder of another stage that a run begins with and that holds no weights yet.

    Args:
        config: of the run, or of one that differs in task and seed only.
    """
    chosen = config.initialization
    if chosen is None or not chosen.has_placeholders:
        return None
    places = places_of(vars(chosen), run.task, run.seed).values()
    return next((place for place in places if digest_of(project_root() / place) is None), None)


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def torch_build() -> str:
    """Version of torch; ends in ``+cpu`` for builds without CUDA."""
    return metadata.version("torch")


def gpus() -> int:
    """Number of NVIDIA GPUs that the driver knows."""
    count = ctypes.c_int(0)
    return count.value if _driver_says("cuDeviceGetCount", ctypes.byref(count)) else 0


def gpu_name() -> str | None:
    """Name of the first of them, as runs record it."""
    name = ctypes.create_string_buffer(256)
    return name.value.decode() if _driver_says("cuDeviceGetName", name, len(name), 0) else None


def _driver_says(function: str, *arguments: Any) -> bool:
    """Whether NVIDIA's driver is there and has answered."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return driver.cuInit(0) == 0 and getattr(driver, function)(*arguments) == 0
    except (OSError, AttributeError):
        return False


def _check_device(scale: str, configs: dict[Kind, RunConfig], findings: Findings) -> None:
    count, build = gpus(), torch_build()
    for device in sorted({config.runtime.device for config in configs.values() if config.runtime.device[:4] == "cuda"}):
        if int(device.partition(":")[2] or 0) >= count:
            findings.errors.append(
                f"runtime.device={device}: there are {count} NVIDIA GPUs here; choose another device."
            )
    if scale != "paper" or any(config.runtime.device == "mps" for config in configs.values()):
        return
    if not count:
        findings.warnings.append(
            "no NVIDIA GPU was found: at paper scale a run takes weeks to months on a CPU; train on a GPU machine."
        )
    elif build.endswith("+cpu"):
        findings.warnings.append(
            f"torch {build} does not use the {count} GPUs here; install the CUDA build: pip install torch=="
            f"{build.partition('+')[0]} from an index that has it first."
        )


def replay_bytes(config: RunConfig) -> int:
    size = config.environment.train.size
    return replay_capacity(config) * (3 * size**2 if _shows_picture(config.task) else OTHER_BYTES)


def _shows_picture(task: str) -> bool:
    return shown(task) in (Shown.image, Shown.mixed) if is_any(task) else task.partition("/")[0] in PICTURES


def _memory(configs: dict[Kind, RunConfig]) -> list[str]:
    """A replay that is larger than the host's memory fits into no GPU either, or half of one at most."""
    memory = physical_memory()
    too_large = {kind: needed for kind, config in configs.items() if (needed := replay_bytes(config)) > memory}
    if not too_large:
        return []
    return [
        f"{_named(list(too_large))}: the replay takes {max(too_large.values()) / 1e9:.0f} GB of memory, this machine "
        f"has {memory / 1e9:.0f} GB; train these on a larger one."
    ]


def _held(scratch: Path, runs: Iterable[RunId]) -> int:
    """Bytes of the checkpoints and replay of interrupted runs, which resume from them."""
    files = (path for run in runs for path in scratch.glob(f"{run.name}-*/*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def _check_disk(scale: str, configs: dict[Kind, RunConfig], findings: Findings) -> None:
    """An error where scratch of the largest run does not fit (one is trained after the other), a warning where the
    published folders of all runs may not."""
    if not configs:
        return
    checkpoints, output = (table.get(scale, SMALL_BYTES) for table in (CHECKPOINT_BYTES, OUTPUT_BYTES))
    scratch = scratch_root(next(iter(configs.values())).runtime.scratch)
    largest = max(configs, key=lambda kind: replay_bytes(configs[kind]))
    needed, free = replay_bytes(configs[largest]) + checkpoints, _free(scratch)
    if free < needed - _held(scratch, largest.runs):
        findings.errors.append(
            f"{_named([largest])}: checkpoints and replay take {needed / 1e9:.1f} GB of scratch, {free / 1e9:.1f} GB "
            "are free there; make room, or choose another disk with $TOKENWORLDS_SCRATCH."
        )
    needed, free = sum(len(kind.runs) for kind in configs) * output, _free(project_root() / "results")
    if free < needed:
        findings.warnings.append(
            f"the run folders and their copies in DVC's cache may take {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are "
            "free; make room as runs are finished, or move the cache (dvc config --local cache.dir FOLDER)."
        )


def _free(place: Path) -> int:
    """Free bytes on the disk on which a folder is, or will be made."""
    return shutil.disk_usage(next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())).free


def report(plan: Plan, findings: Findings) -> None:
    """Costs on stdout; faults and warnings on stderr, a line each."""
    for kind, cost in findings.costs.items():
        each = f"{_hours(cost.hours):>7} h each  ({cost.source})" if cost else "hours unknown"
        print(f"{kind.name:<36} {len(kind.runs):>4} run{' ' if len(kind.runs) == 1 else 's'} {each}")
    print(total(findings))
    sys.stdout.flush()
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for error in findings.errors:
        print_error(error)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def total(findings: Findings) -> str:
    """Hours of all runs whose cost is known, and how many others there are."""
    known = {kind: cost for kind, cost in findings.costs.items() if cost is not None}
    if not known:
        return "hours: unknown, no such run is recorded or published"
    hours = sum(len(kind.runs) * cost.hours for kind, cost in known.items())
    unknown = sum(len(kind.runs) for kind in findings.costs if kind not in known)
    days = f" ({hours / 24:,.0f} days)" if hours >= 48 else ""
    others = f", without the {unknown} runs whose hours are unknown" if unknown else ""
    return f"about {_hours(hours)} hours{days} one after the other{others}"


def summary() -> str:
    """One or two sentences for somebody who has just chosen a suite; user errors are part of them."""
    try:
        if (plan := active_plan()) is None:
            return ""
        findings = examine(plan, plan.runs)
    except UserError as error:
        return f"preflight: {error}"
    problems = [*findings.errors, *findings.warnings]
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "nothing is missing"
    first = f" ({excerpt(problems[0], 100)})" if problems else ""
    return f"preflight: {count}{first}; {total(findings)}. All of it: {COMMAND}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Check what the active suite needs, and estimate its hours."
    )
    parser.add_argument(
        "--missing", action="store_true", help="only for runs without scores of their configuration; silent without any"
    )
    options = parser.parse_args(arguments)
    plan = active_plan()
    if plan is None:
        raise UserError("no suite is active: choose one with `make suite SUITE=...`.")
    missing = [run for run in plan.runs if not is_done(run)]
    runs = missing if options.missing else plan.runs
    if not runs:
        return 0
    print(f"suite {plan.suite}: {len(plan.runs)} runs at {plan.scale} scale, {len(missing)} to be trained")
    findings = examine(plan, runs)
    report(plan, findings)
    if findings.errors and options.missing:
        print("nothing was trained; `make repro PREFLIGHT=no` starts all the same.", file=sys.stderr)
    return STATUS_ERROR if findings.errors else 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
