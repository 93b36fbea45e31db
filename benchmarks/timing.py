"""Command lines, timers and the description of the machine, for all benchmarks."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.publication import hardware

Work = Callable[[], object]


def command_line(
    name: str, doc: str | None, repetitions: int | None = None, *, device: bool = False
) -> argparse.ArgumentParser:
    """A parser with the options that benchmarks share; without ``repetitions`` with none of them."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if repetitions is not None:
        parser.add_argument("--repetitions", type=int, default=repetitions)
        parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    if device:
        parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, after the number of threads was set."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def machine(device: torch.device | None = None) -> str:
    return f"{hardware(device or torch.device('cpu'))}, torch {torch.__version__}, {git_revision()}"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def once(work: Work, device: torch.device) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def compare(works: Sequence[Work], repetitions: int, device: torch.device | None = None) -> list[float]:
    """Median seconds of each, in turns, after one warm-up call each: a machine that slows down meets all of them."""
    where = device or torch.device("cpu")
    seconds = [[once(work, where) for work in works] for _ in range(repetitions + 1)]
    return [statistics.median(times) for times in zip(*seconds[1:])]
