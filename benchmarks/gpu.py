"""Everything that a GPU is needed for, in one command of a few minutes: is it right, how fast is it, does it train?

    python -m benchmarks.gpu [KEY=VALUE ...] [--minutes 9] [--method rem ...] [--task atari/Pong] [--json FILE]
    python -m benchmarks.gpu --device cpu --minutes 5       # a rehearsal, in small batches and float32 alone

1. The tests that need a GPU (marked ``gpu``).
2. Every phase of every method at published size in float32, TF32 and bf16: the updates of tokenizer, world model and
   actor-critic (plain, and with imagination captured as a CUDA graph), their preparation of an epoch, acting; with
   seconds and peak memory. Then hours of a whole run, from these seconds and the schedule of the published settings.
3. A short training of every method, with the program that trains.

The minutes are shared out: each measurement has a part of them and is repeated as often as it allows, at least once; on
a GPU after a first call that does not count. A method that fails or runs out of memory or time is named, and the others
go on. At the end there are rows for ``benchmarks/results.md`` and, with ``--json``, a file that is written anew after
every method. torch 2.11 or newer and what ``make kit KIT_ONLY=training`` collects are enough (docs/install.md).
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.plan import Seconds, configure, fill, hours_of, in_format, sizes_of, specification, steps_by_epoch
from benchmarks.timing import command_line, machine, once
from tokenworlds import methods
from tokenworlds.cli import exit_status
from tokenworlds.config import Compile, Precision, RunConfig, RuntimeConfig
from tokenworlds.config.initialization import PARTS
from tokenworlds.envs import EnvironmentFactory, VectorEnvironment, check_task
from tokenworlds.errors import UserError, brief
from tokenworlds.files import require_place, write_atomic
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.ops import precision
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.budget import Schedule

PROJECT = Path(__file__).resolve().parents[1]
SHARES = {"tests": 0.1, "phases": 0.6, "training": 0.3}  # of the minutes
WEIGHTS = {"iris": 2.0}  # of a method among all, by default 1: its rollout has twenty times as many kernels
REPETITIONS = 7  # of a measurement at most, after a first call that is not counted if time allows a second one
GRACE = 20.0  # seconds that a measurement in progress may take longer
STORED = {"cuda": 10_000, "cpu": 64}  # steps in the replay; the preparation of an epoch is proportional to them
SMALLER = 64  # on a CPU: divisor of the published batches
SHORT = (  # a run of three epochs in which each component is trained
    *("training.epochs=3", "collection.train.steps=200", "collection.train.stop_after_epochs=3"),
    *(f"training.{part}.start_after_epochs={epoch}" for epoch, part in enumerate(PARTS)),
    *(f"training.{part}.updates_per_epoch=20" for part in PARTS),
    *("environment.test.max_episode_steps=400", "collection.test.episodes=2", "evaluation.every=3"),
    *("evaluation.final_episodes=2", "evaluation.final_num_envs=2", "evaluation.random_episodes=0"),
)


@dataclass(frozen=True)
class Row:
    """One measurement: seconds of a call, and the peak of a GPU's memory in GiB."""

    method: str
    phase: str
    precision: str
    mode: str
    batch: int
    seconds: float
    calls: int
    peak: float | None

    def markdown(self) -> str:
        peak = "" if self.peak is None else f"{self.peak:.2f}"
        cells = (self.method, self.phase, self.precision, self.mode, self.batch, f"{self.seconds:.4f}", peak)
        return f"| {' | '.join(map(str, cells))} |"


Phase = tuple[str, str, int, Callable[[], object]]  # name, mode, batch, work

HEAD = "| method | phase | format | mode | batch | seconds | peak GiB |\n|---|---|---|---|---|---|---|"


def measure(work: Callable[[], object], device: torch.device, seconds: float) -> tuple[float, int, float | None]:
    """Median seconds of a call, how many were timed, and the peak of the GPU's memory in GiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started, taken = time.perf_counter(), [once(work, device)]
    if device.type == "cuda":
        taken.append(once(work, device))
    while len(taken) <= REPETITIONS and time.perf_counter() - started + taken[-1] < seconds:
        taken.append(once(work, device))
    counted = taken[1:] or taken  # the first captures, tries kernels and allocates; on a GPU it never counts
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return statistics.median(counted), len(counted), peak


class Bench:
    """The phases of one method in one number format, on blank frames."""

    def __init__(self, chosen: RunConfig, device: torch.device, *, has_perceptual: bool) -> None:
        self.config, self.device = chosen, device
        precision.configure(chosen.training.precision, RuntimeConfig(device=str(device)))
        self.spec, method = specification(chosen), methods.get(chosen.method)
        self.agent = cast(Any, method.build_agent(chosen, self.spec).to(device))
        if has_perceptual:  # with random weights: the same cost, and no file
            self.agent.tokenizer.part("image").lpips = LPIPS().to(device)
        self.buffer = ReplayBuffer(self.spec, STORED[device.type], device)
        fill(self.buffer, self.spec, STORED[device.type])

    def components(self, compile: Compile) -> list[ComponentTrainer]:
        """The trainers of the components, ready to update."""
        self.config.runtime.compile = compile
        streams = RandomStreams(0, self.device)
        found = methods.get(self.config.method).build_components(self.config, self.agent, self.buffer, streams)
        for component in found:
            component.prepare(component.updates_in(2))
            component.sampler.refresh(2)
        return found

    def rows(self, seconds: float) -> Iterator[Row]:
        """All measurements within about so many seconds."""
        components = self.components(Compile.auto)
        works = [*self._preparations(components), *self._updates(components)]
        if self.device.type == "cuda":
            works += [work for work in self._updates(self.components(Compile.off)) if work[0] == "actor_critic update"]
        works += [("act", "plain", size, partial(self._act, size)) for size in sorted(sizes_of(self.config))]
        ends = time.perf_counter() + seconds
        for index, (phase, mode, batch, work) in enumerate(works):
            share = (ends - time.perf_counter()) / (len(works) - index)
            taken, calls, peak = measure(work, self.device, share)
            yield Row(self.config.method, phase, self.config.training.precision.name, mode, batch, taken, calls, peak)

    def _updates(self, components: Sequence[ComponentTrainer]) -> list[Phase]:
        def update(component: ComponentTrainer) -> object:
            component.module.train()
            found = component.update()
            component.module.eval()
            return found

        is_captured = self.config.runtime.compile is Compile.auto and self.device.type == "cuda"
        return [
            (
                f"{component.name} update",
                "captured" if is_captured and component.name == "actor_critic" else "plain",
                component.config.batch_size,
                partial(update, component),
            )
            for component in components
        ]

    def _preparations(self, components: Sequence[ComponentTrainer]) -> list[Phase]:
        """Of an epoch of each component, after the tokenizer has been trained: each finds what the one before it has
        encoded, as in a run."""
        first = components[0]

        def prepare(component: ComponentTrainer) -> None:
            if component is not components[-1]:
                first.updates += 1
            component.prepare(component.updates_in(2))

        return [
            (f"{some.name} preparation", "plain", self.buffer.num_steps, partial(prepare, some)) for some in components
        ]

    @torch.no_grad()
    def _act(self, size: int) -> object:
        rows = torch.ones(size, dtype=torch.int64, device=self.device)
        state, generator = self.agent.policy.initial_state(size), RandomStreams(0, self.device).torch("act")
        return self.agent.eval().act(self.buffer.observations(rows), state, generator, 1.0)

    def hours(self, rows: Sequence[Row], published: RunConfig, env_step: float) -> dict[str, float]:
        """Hours of a whole run with the published batches, from these measurements; the faster mode counts. What took a
        part of a batch, or of the run's steps, is multiplied."""
        schedule = Schedule(published)
        seconds = Seconds({}, {}, {}, env_step)
        for row in sorted(rows, key=lambda row: -row.seconds):
            name, _, kind = row.phase.partition(" ")
            if kind == "update":
                seconds.updates[name] = row.seconds * getattr(published.training, name).batch_size / row.batch
            elif kind == "preparation":
                seconds.preparations[name] = row.seconds * steps_by_epoch(schedule)[-1] / row.batch
            else:
                seconds.acting[row.batch] = row.seconds
        return hours_of(schedule, self.components(Compile.off), seconds)


def env_step(chosen: RunConfig) -> float:
    """Seconds of a step of one environment."""
    envs, steps = VectorEnvironment([EnvironmentFactory(chosen.task, chosen.environment.train)], workers=False), 300
    envs.reset([0])
    actions = RandomStreams(0, torch.device("cpu")).numpy("actions")

    def work() -> None:
        for _ in range(steps):
            envs.step(list(envs.spec.actions.random(actions, 1)))
            if envs.finished.all():
                envs.reset()

    return once(work, torch.device("cpu")) / steps


def settings_of(method: str, task: str, chosen: Precision, device: torch.device, given: Sequence[str]) -> list[str]:
    """The published settings in another number format; on a CPU with parts of the published batches."""
    found = [*given, *in_format(method, chosen)]
    if device.type == "cpu":
        training = configure(method, task, found)[0].training
        for part in PARTS:  # multiples of 4, of which the members of an ensemble take a part each
            batch = 4 * max(1, round(getattr(training, part).batch_size / SMALLER / 4))
            found.append(f"training.{part}.batch_size={batch}")
    return found


def measure_method(pipe: Connection, method: str, options: argparse.Namespace, ends: float) -> None:
    """Send rows, then hours, of one method; runs in a process of its own, so that one failure is not all."""
    try:
        device = precision.find_device(str(options.device))
        formats = [Precision[name] for name in options.format] if device.type == "cuda" else [Precision.float32]
        for index, chosen in enumerate(formats):
            settings = settings_of(method, options.task, chosen, device, options.overrides)
            config, has_perceptual = configure(method, options.task, settings)
            published = configure(method, options.task, options.overrides)[0]
            bench = Bench(config, device, has_perceptual=has_perceptual)
            rows = []
            for row in bench.rows((ends - time.time()) / (len(formats) - index)):
                rows.append(row)
                pipe.send(row)
            pipe.send({"precision": chosen.name, "hours": bench.hours(rows, published, env_step(config))})
            del bench
            if device.type == "cuda":
                torch.cuda.empty_cache()
        pipe.send(None)
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {brief(error, 200)}")


def phases_of(method: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """All rows and hours of one method, and what went wrong."""
    context, ends = multiprocessing.get_context("spawn"), time.time() + seconds
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=measure_method, args=(there, method, options, ends - 0.1 * seconds), daemon=True)
    process.start()
    there.close()
    found: dict[str, Any] = {"rows": [], "hours": {}, "fault": None}
    try:
        while True:
            if not here.poll(max(0.0, ends + GRACE - time.time())):
                found["fault"] = f"not finished within {seconds + GRACE:.0f} s"
                break
            if (message := here.recv()) is None:
                break
            if isinstance(message, Row):
                found["rows"].append(message)
                print(message.markdown(), flush=True)
            elif isinstance(message, dict):
                found["hours"][message["precision"]] = message["hours"]
            else:
                found["fault"] = message
                break
    except EOFError:
        process.join()
        found["fault"] = f"the process ended with status {process.exitcode}"
    process.kill()
    process.join()
    return found


def run(command: Sequence[str], seconds: float) -> tuple[int | None, float, str]:
    """Exit status (None: stopped after that time), seconds, and the last line of a command."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT), *sys.path[1:]])}
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
        )  # fmt: skip
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        status, output = None, (error.stdout or b"").decode(errors="replace")
    lines = output.strip().splitlines() or [""]
    return status, time.perf_counter() - started, lines[-1]


def tests(device: torch.device, seconds: float) -> dict[str, Any]:
    """The tests marked ``gpu``; without a GPU they are only found."""
    files = [path for path in sorted((PROJECT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in path.read_text()]
    names = [str(path.relative_to(PROJECT)) for path in files]
    how = ["--collect-only"] if device.type == "cpu" else ["-n", "8"]
    how += ["-p", "no:cacheprovider", "-p", "no:benchmark"]  # the latter, where it is installed, refuses -n
    status, taken, last = run(["pytest", "-q", "-m", "gpu", *how, *names], seconds)
    return {"status": status, "seconds": taken, "said": last}


def training(method: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A short run of the program that trains."""
    weights = [] if method == "delta_iris" else ["model.tokenizer.perceptual=none"]
    is_gpu = options.device.type == "cuda"
    size = [*SHORT, *weights] if is_gpu else ["scale=smoke"]
    with tempfile.TemporaryDirectory() as scratch:
        where = [f"runtime.scratch={scratch}/scratch", f"out={scratch}/run", "runtime.tracking=false"]
        command = ["pipeline.train", f"method={method}", f"task={options.task}", f"runtime.device={options.device}"]
        status, taken, last = run([*command, *size, *where, *options.overrides], seconds)
    return {"status": status, "seconds": taken, "said": last}


def shared_out(names: Sequence[str], seconds: float) -> Iterator[tuple[str, float]]:
    """Each method and its part of the seconds; what one leaves goes to the next ones."""
    ends = time.time() + seconds
    for index, name in enumerate(names):
        weights = [WEIGHTS.get(each, 1.0) for each in names[index:]]
        yield name, max(0.0, ends - time.time()) * weights[0] / sum(weights)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line(".gpu", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of all runs, such as scale=laptop")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cuda (default), or cpu")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything together (default 9)")
    parser.add_argument("--method", nargs="+", choices=list(methods.METHODS), default=list(methods.METHODS))
    names = [chosen.name for chosen in Precision]
    parser.add_argument("--format", nargs="+", choices=names, default=names, help="number formats (default: all)")
    parser.add_argument("--task", default="atari/Pong")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    return exit_status(lambda: benchmark(options))


def benchmark(options: argparse.Namespace) -> int:
    """0 if everything worked, else 1."""
    device = precision.find_device(str(options.device))
    if options.minutes <= 0:
        raise UserError(f"--minutes must be above 0, not {options.minutes:g}.")
    check_task(options.task)
    for method in options.method:
        configure(method, options.task, options.overrides)  # a mistake is said before anything is measured
    if options.json:
        require_place(options.json, "name another file with --json")
    total = 60 * options.minutes
    record: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(device),
        "python": sys.version.split()[0],
        "revision": git_revision(),
        "task": options.task,
        "overrides": options.overrides,
        "phases": {},
        "training": {},
    }

    def keep() -> None:
        if options.json:
            text = json.dumps(record, indent=1, default=lambda row: row.__dict__)
            write_atomic(options.json, text.encode())

    print(f"{record['date']}, {record['machine']}", flush=True)
    record["tests"] = tests(device, SHARES["tests"] * total)
    print(f"tests     {_said(record['tests'])}\n\n{HEAD}", flush=True)
    for method, seconds in shared_out(options.method, SHARES["phases"] * total):
        record["phases"][method] = found = phases_of(method, options, seconds)
        keep()
        if found["fault"]:
            print(f"{method} FAILED: {found['fault']}", flush=True)
    print("\nhours of a run, with the published batches and schedule")
    for method, found in record["phases"].items():
        for name, hours in found["hours"].items():
            parts = ", ".join(f"{part} {value:.1f}" for part, value in hours.items())
            print(f"{method:10s} {name:8s} {sum(hours.values()):7.2f} h: {parts}", flush=True)
    for method, seconds in shared_out(options.method, SHARES["training"] * total):
        record["training"][method] = done = training(method, options, seconds)
        print(f"training  {method:10s} {_said(done)}", flush=True)
        keep()
    faults = [found["fault"] for found in record["phases"].values()]
    statuses = [done["status"] for done in (record["tests"], *record["training"].values())]
    return int(any(faults) or any(status != 0 for status in statuses))


def _said(done: dict[str, Any]) -> str:
    state = {0: "ok", None: "STOPPED, out of time"}.get(done["status"], f"FAILED with status {done['status']}")
    return f"{state} after {done['seconds']:.0f} s: {done['said']}"


if __name__ == "__main__":
    sys.exit(main())
