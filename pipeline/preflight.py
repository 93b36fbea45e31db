"""What the active suite needs, checked before the first run: ``python -m pipeline.preflight``.

A run that lacks something fails after days of others. Here every kind of run (method, variant, family of environments)
is looked at before any is trained: configuration, packages, games, GPU, memory, disk. All that is missing is listed,
with the remedy, and the hours are estimated. Nothing is trained and torch is not imported.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tqdm import tqdm

from pipeline.plan import Plan, Planned, active_plan
from tokenworlds.cli import STATUS_ERROR, exit_status, print_error
from tokenworlds.config import RunConfig, load, project_root
from tokenworlds.envs import check_task
from tokenworlds.errors import UserError, excerpt
from tokenworlds.training.budget import physical_memory, replay_capacity
from tokenworlds.training.run_folder import scratch_root

COMMAND = "python -m pipeline.preflight"
PACKAGES = {"crafter": ("crafter",), "craftax": ("craftax", "jax"), "dmc": ("dm_control", "mujoco")}
PICTURES = ("atari", "crafter", "minigrid", "minigrid_mixed")  # families whose observations hold a picture
OTHER_BYTES = 1024  # of an observation without picture, at most
CHECKPOINT_BYTES = {"paper": 2_000_000_000}  # of two checkpoints without replay, at most
OUTPUT_BYTES = {"paper": 200_000_000}  # of a published run, and its copy in DVC's cache
SMALL_BYTES = 20_000_000  # of either at the other scales


@dataclass(frozen=True)
class Cost:
    """Hours of a run, and where they were measured."""

    hours: float
    source: str


# Of runs at paper scale. None of these machines is this one.
PUBLISHED = {
    ("iris", None, "atari"): Cost(100, "its authors, A100, learning in imagination alone"),
    ("rem", None, "atari"): Cost(12, "its paper"),
    ("rem", "no-pop", "atari"): Cost(22, "seconds an epoch in the paper"),
    ("rem", "no-latent-ac", "atari"): Cost(14, "seconds an epoch in the paper"),
    ("delta_iris", None, "atari"): Cost(26, "quoted from its paper"),
    ("delta_iris", None, "crafter"): Cost(139, "20 frames a second in its paper, GPU not known"),
    ("m3", None, "atari"): Cost(12, "its authors, RTX 4090"),
    ("m3", None, "dmc"): Cost(40, "its authors, V100"),
    ("m3", None, "craftax"): Cost(94, "its authors, V100"),
}


@dataclass(frozen=True)
class Kind:
    """Runs that differ in task and seed only."""

    method: str
    variant: str | None
    family: str
    runs: tuple[Planned, ...]

    @property
    def name(self) -> str:
        method = f"{self.method}+{self.variant}" if self.variant else self.method
        return f"{method}/{self.family}"


@dataclass
class Findings:
    """What was found: faults that a run surely fails with, warnings, a cost for every kind of run."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    costs: dict[Kind, Cost | None] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """Of all runs whose cost is known."""
        return sum(len(kind.runs) * cost.hours for kind, cost in self.costs.items() if cost is not None)


def kinds(runs: Iterable[Planned]) -> list[Kind]:
    grouped: dict[tuple[str, str | None, str], list[Planned]] = {}
    for run in runs:
        grouped.setdefault((run.method, run.variant, run.family), []).append(run)
    return [Kind(*key, tuple(found)) for key, found in grouped.items()]


def examine(plan: Plan, runs: Sequence[Planned]) -> Findings:
    """Everything that the runs need, with what is there."""
    findings, configs = Findings(), {}
    groups = kinds(runs)
    faults: dict[str, list[Kind]] = {}  # one line for all kinds with the same fault
    for kind in tqdm(groups, unit="kind", disable=None, leave=False):
        config, found = _configuration(kind, plan.scale)
        for fault in found:
            faults.setdefault(fault, []).append(kind)
        if config is not None:
            configs[kind] = config
        findings.costs[kind] = _recorded(kind, plan.scale, config) or _published(kind, plan.scale)
    findings.errors += [f"{_named(affected)}: {fault}" for fault, affected in faults.items()]
    findings.errors += [*_packages(groups), *_tasks(runs)]
    _check_device(plan.scale, configs, findings)
    findings.errors += _memory(configs)
    _check_disk(plan.scale, configs, findings)
    return findings


def _named(affected: Sequence[Kind]) -> str:
    names = ", ".join(kind.name for kind in affected[:3]) + (" ..." if len(affected) > 3 else "")
    count = sum(len(kind.runs) for kind in affected)
    return f"{names} ({count} run{'' if count == 1 else 's'})"


def _configuration(kind: Kind, scale: str) -> tuple[RunConfig | None, list[str]]:
    """The configuration of one of the runs, and what is wrong with it. Without perceptual weights the rest of it can
    still be looked at."""
    chosen = [f"method={kind.method}", f"task={kind.runs[0].task}", f"scale={scale}"]
    chosen += [f"variant={kind.variant}"] if kind.variant else []
    faults = []
    for more in ([], ["model.tokenizer.perceptual=none"]):
        try:
            return load([*chosen, *more]), faults
        except UserError as error:
            if not faults:
                faults.append(str(error))
            if "perceptual_weights" not in str(error):
                break
    return None, faults


def _packages(groups: Sequence[Kind]) -> list[str]:
    errors = []
    for family, modules in PACKAGES.items():
        affected = [kind for kind in groups if kind.family == family]
        missing = [module for module in modules if not is_installed(module)]
        if affected and missing:
            errors.append(
                f"{_named(affected)}: the package {missing[0]} is not installed; "
                f"pip install -c constraints.txt -e '.[{family}]' does it."
            )
    return errors


def _tasks(runs: Sequence[Planned]) -> list[str]:
    """Tasks that do not exist here: typing errors, and games whose ROM is missing."""
    errors = []
    for task in dict.fromkeys(run.task for run in runs):
        try:
            check_task(task)
        except UserError as error:
            errors.append(str(error))
    return errors


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def torch_build() -> str:
    """Torch's version, which ends in ``+cpu`` for builds without CUDA."""
    return metadata.version("torch")


def gpus() -> int:
    """NVIDIA GPUs that the driver knows, without torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, AttributeError):
        return 0


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
    is_picture = config.task.partition("/")[0] in PICTURES
    return replay_capacity(config) * (3 * config.environment.train.size**2 if is_picture else OTHER_BYTES)


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


def _held(scratch: Path, runs: Iterable[Planned]) -> int:
    """Bytes of the checkpoints and replay of interrupted runs, which go on with them."""
    files = (path for run in runs for path in scratch.glob(f"{run.identity}-*/*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def _check_disk(scale: str, configs: dict[Kind, RunConfig], findings: Findings) -> None:
    """Scratch of the largest run, since one is trained after the other, is surely needed; how much the published
    folders of all runs take is an estimate."""
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
    """Bytes that are free where a folder is, or will be made."""
    return shutil.disk_usage(next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())).free


def _recorded(kind: Kind, scale: str, config: RunConfig | None) -> Cost | None:
    """What runs of this kind took that have scores here, whichever their task, for the epochs that are planned."""
    folder = kind.runs[0].scores.parent.parent  # of the family
    hours, hardware = [], set()
    for path in sorted(folder.glob("*/*.json")):
        try:
            scores = json.loads(path.read_text())
            if scores["run"]["scale"] == scale and config is not None:
                hours.append(float(scores["hours"]) * config.training.epochs / scores["budget"]["epochs"])
                hardware.add(str(scores["hardware"]))
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue  # damaged scores are the collection's to name
    if not hours:
        return None
    return Cost(statistics.fmean(hours), f"{len(hours)} recorded here, {excerpt(', '.join(sorted(hardware)), 60)}")


def _published(kind: Kind, scale: str) -> Cost | None:
    if scale != "paper":
        return None
    own = PUBLISHED.get((kind.method, kind.variant, kind.family))
    method = PUBLISHED.get((kind.method, None, kind.family))
    if own is not None or method is None:
        return own and Cost(own.hours, f"published: {own.source}")
    return Cost(method.hours, f"published of {kind.method}: {method.source}")


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
    unknown = sum(len(kind.runs) for kind, cost in findings.costs.items() if cost is None)
    known = sum(len(kind.runs) for kind in findings.costs) - unknown
    days = findings.hours / 24
    text = f"about {_hours(findings.hours)} hours" + (f" ({days:,.0f} days)" if days >= 2 else "")
    text += " one after the other"
    if not known:
        return "hours: unknown, no such run is recorded or published"
    return text + (f", without the {unknown} runs whose hours are unknown" if unknown else "")


def summary() -> str:
    """A sentence or two for those who have just chosen a suite; it never fails."""
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
    missing = [run for run in plan.runs if not run.is_done(plan.scale)]
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
