"""An estimate of the hours of a run on a GPU, from the operations of its phases and a few numbers of the card.

    python -m benchmarks.plan [KEY=VALUE ...] [--method rem ...] [--task atari/Pong] [--card H100 ...] [--json FILE]
    python -m benchmarks.plan --check [--method rem ...]
    python -m benchmarks.plan --compare benchmarks/h200.json

Each component's update and the preparation of an epoch run once at published size on torch's ``meta`` device, which
computes nothing; every operation that would be a kernel counts with its floating-point operations and the bytes that it
reads and writes. On the card a kernel takes the longest of arithmetic, memory traffic and the least time of a kernel; a
phase takes the longer of its kernels and of their launches by the host, one at a time, or in a captured graph none.

These are estimates, for kernels that reach the share of the card's peak in ``EFFICIENCY``. ``--compare`` sets those of
updates beside what ``benchmarks.gpu`` has measured on a card; ``--check`` measures updates in small batches on this
machine's CPU, whose numbers it takes first. Both print predicted and measured seconds and their ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from benchmarks.stand_in import META, Generator, like_a_gpu
from benchmarks.timing import command_line, compare, machine
from tokenworlds import config, envs, methods
from tokenworlds.agents import chunks, imagination
from tokenworlds.cli import exit_status
from tokenworlds.config import Perceptual, Precision, RunConfig, TokenRunConfig
from tokenworlds.envs import ActionSpec, EnvironmentSpec, ModalitySpec
from tokenworlds.errors import UserError, brief
from tokenworlds.files import require_place, write_atomic
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.budget import Schedule

EFFICIENCY = 0.5  # share of a card's peak rate and bandwidth that kernels reach
EPISODE = 1000  # agent steps of an episode, in the replay and in evaluations
GATHERS = ("index", "gather", "index_select", "embedding")  # read as many bytes of their input as they write
FREE = ("empty", "empty_like", "empty_strided", "new_empty", "detach", "_unsafe_view", "lift_fresh")


@dataclass(frozen=True)
class Card:
    """Peak rates in floating-point operations a second by number format, bandwidth in bytes a second; seconds of a
    launch by the host (IRIS's rollout, launched one by one, took 21 µs a kernel beside an H200), and the least seconds
    of a kernel."""

    rates: dict[Precision, float]
    bandwidth: float
    launch: float = 20e-6
    kernel: float = 2e-6


def _card(float32: float, tf32: float, bf16: float, bandwidth: float) -> Card:
    rates = {Precision.float32: float32, Precision.tf32: tf32, Precision.bf16: bf16}
    return Card({key: EFFICIENCY * rate * 1e12 for key, rate in rates.items()}, EFFICIENCY * bandwidth * 1e12)


CARDS = {  # peak rates (dense, with sums in float32) and bandwidth of the makers' data sheets
    "A100": _card(19.5, 156, 312, 2.04),
    "H100": _card(67, 495, 989, 3.35),
    "H200": _card(67, 495, 989, 4.8),
    "4090": _card(82.6, 82.6, 165, 1.01),
}


class Costs(Counter[tuple[float, float, bool]]):
    """How often a kernel with these floating-point operations, bytes, and in a captured graph or not, is run."""

    @property
    def kernels(self) -> int:
        return sum(self.values())

    @property
    def flops(self) -> float:
        return sum(count * flops for (flops, _, _), count in self.items())

    @property
    def captured(self) -> int:
        """Kernels in captured graphs."""
        return sum(count for (_, _, is_captured), count in self.items() if is_captured)

    @property
    def bytes(self) -> float:
        return sum(count * moved for (_, moved, _), count in self.items())

    def seconds(self, card: Card, precision: Precision) -> float:
        """Of the kernels one after the other, or of their launches where these take longer."""
        rate = card.rates[precision]
        device = sum(
            n * max(flops / rate, moved / card.bandwidth, card.kernel) for (flops, moved, _), n in self.items()
        )
        return max(device, card.launch * (self.kernels - self.captured))


class Counting(TorchDispatchMode):
    """Adds every operation that would be a kernel to ``costs``; those in ``captured`` belong to a captured graph."""

    def __init__(self) -> None:
        super().__init__()
        self.costs = Costs()
        self.is_captured = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        returns = func._schema.returns
        is_view = bool(returns) and all(one.alias_info and not one.alias_info.is_write for one in returns)
        if not is_view and name not in FREE:
            count = flop_registry.get(func._overloadpacket)
            flops = float(count(*args, **(kwargs or {}), out_val=result)) if count else 0.0
            written = _bytes(result)
            moved = 2 * written if name in GATHERS else written + _bytes((args, kwargs))
            self.costs[flops, moved, self.is_captured] += 1
        return result

    @contextmanager
    def captured(self) -> Iterator[None]:
        self.is_captured = True
        yield
        self.is_captured = False

    def of(self, work: Callable[[], object]) -> Costs:
        """The costs of a call."""
        self.costs = Costs()
        with self:
            work()
        return self.costs


def _bytes(values: Any) -> float:
    return float(sum(one.numel() * one.itemsize for one in tree_flatten(values)[0] if isinstance(one, Tensor)))


@dataclass(frozen=True)
class Seconds:
    """What the parts of a run take.

    Args:
        updates: an optimiser step of a component.
        preparations: of an epoch for a component, where all that is known of the whole run's steps is computed anew.
        acting: a step of the policy in so many environments at once.
        env_step: a step of one environment.
    """

    updates: dict[str, float]
    preparations: dict[str, float]
    acting: dict[int, float]
    env_step: float


def steps_by_epoch(schedule: Schedule) -> list[int]:
    """Agent steps by the end of each epoch; none before the first."""
    epochs = range(1, schedule.epochs + 1)
    return [0, *accumulate(schedule.steps_in(epoch) * schedule.is_collected(epoch) for epoch in epochs)]


def sizes_of(chosen: RunConfig) -> set[int]:
    """Numbers of environments in which the policy acts at once."""
    collection = chosen.collection
    return {collection.train.num_envs, collection.test.num_envs, chosen.evaluation.final_num_envs}


def hours_of(schedule: Schedule, components: Sequence[ComponentTrainer], seconds: Seconds) -> dict[str, float]:
    """Hours of each kind of work of a run."""
    chosen, epochs, steps = schedule.config, range(1, schedule.epochs + 1), steps_by_epoch(schedule)
    found: dict[str, float] = {}
    for component in components:
        active = [epoch for epoch in epochs if component.is_active(epoch)]
        shares = sum(steps[epoch] / steps[-1] for epoch in active)  # of the run's steps, in each epoch
        updates = sum(map(component.updates_in, active))
        name = component.name
        found[name] = seconds.updates[name] * updates + seconds.preparations[name] * shares
    collection, evaluation = chosen.collection, chosen.evaluation
    played = [(collection.train.num_envs, steps[-1], "collection")]
    tests = sum(map(schedule.is_evaluated, epochs)) * schedule.test_episodes
    played += [(collection.test.num_envs, EPISODE * tests, "evaluation")]
    played += [(evaluation.final_num_envs, EPISODE * evaluation.final_episodes, "evaluation")]
    for size, count, name in played:
        found[name] = found.get(name, 0.0) + count * (seconds.acting[size] / size + seconds.env_step)
    return {name: total / 3600 for name, total in found.items()}


class Plan:
    """The costs of one run at the size of its configuration, counted without computing anything."""

    def __init__(self, chosen: RunConfig, spec: EnvironmentSpec, *, has_perceptual: bool) -> None:
        self.config, self.spec, self.schedule = chosen, spec, Schedule(chosen)
        self.counting = Counting()
        imagine = imagination.imagine

        def captured(*args: Any, **options: Any) -> Any:
            with self.counting.captured():
                return imagine(*args, **options)

        with like_a_gpu(), patch.object(imagination, "imagine", captured):
            method, last = methods.get(chosen.method), steps_by_epoch(self.schedule)[-1]
            self.agent = cast(Any, method.build_agent(chosen, spec).to(META))
            if has_perceptual:  # with random weights: the same cost, and no file
                self.agent.tokenizer.part("image").lpips = LPIPS().to(META)
            self.buffer = ReplayBuffer(spec, last, META)
            self.components = method.build_components(chosen, self.agent, self.buffer, RandomStreams(0, META))
            fill(self.buffer, spec, last)
            self.preparations = {component.name: self._prepare(component) for component in self.components}
            self.updates = {component.name: self._update(component) for component in self.components}
            self.acting = {size: self.counting.of(partial(self._act, size)) for size in sizes_of(chosen)}

    def hours(self, card: Card, seconds_per_step: float) -> dict[str, float]:
        """Hours of each kind of work of the run; an environment's step takes so many seconds."""
        precision = self.config.training.precision
        updates, preparations = (
            {name: costs.seconds(card, precision) for name, costs in some.items()}
            for some in (self.updates, self.preparations)
        )
        acting = {size: costs.seconds(card, precision) for size, costs in self.acting.items()}
        return hours_of(self.schedule, self.components, Seconds(updates, preparations, acting, seconds_per_step))

    def _prepare(self, component: ComponentTrainer) -> Costs:
        """Costs of preparing the last epoch, where all that is known of stored steps has to be computed anew."""
        component.sampler.refresh(2)
        chunk = chunks.chunk_size(META)
        with patch.object(Tensor, "unique", lambda stale: torch.arange(-(-len(stale) // chunk))):
            costs = self.counting.of(partial(component.prepare, component.updates_in(2)))
        component.updates += 1  # what is cached of a tokenizer is outdated for the components behind it
        return costs

    def _update(self, component: ComponentTrainer) -> Costs:
        """Costs of an update; that of the fused optimiser, one kernel for all parameters, is added."""
        parameters = sum(value.numel() for group in component.optimizer.param_groups for value in group["params"])
        component.module.train()
        with patch.object(component.optimizer, "step", lambda: None):
            costs = self.counting.of(component.update)
        component.module.eval()
        costs[12.0 * parameters, 28.0 * parameters, False] += 1  # reads weight, gradient, moments; writes all but it
        return costs

    def _act(self, size: int) -> None:
        rows = torch.ones(size, dtype=torch.int64, device=META)
        self.agent.act(self.buffer.observations(rows), self.agent.policy.initial_state(size), Generator(), 1.0)


def fill(buffer: ReplayBuffer, spec: EnvironmentSpec, steps: int) -> None:
    """Add episodes of blank steps up to this number."""
    while (missing := steps - buffer.num_steps) > 0:
        count, device = min(EPISODE, missing), buffer.device
        parts = {name: _blank(count, part, device) for name, part in spec.observation.items()}
        rewards = torch.zeros(count, device=device)
        buffer.extend(parts, _blank(count, spec.actions, device), rewards, torch.zeros(count), close=True)


def _blank(count: int, part: ModalitySpec | ActionSpec, device: torch.device) -> Tensor:
    return torch.zeros(count, *part.shape, dtype=torch.from_numpy(np.empty(0, part.dtype)).dtype, device=device)


def configure(method: str, task: str, overrides: Sequence[str]) -> tuple[RunConfig, bool]:
    """The configuration of a run, without the perceptual network, and whether its tokenizer is trained with it; the
    network's weights are not needed."""
    takes_weights = issubclass(config.SCHEMAS[method], TokenRunConfig)
    weights = [f"model.tokenizer.perceptual_weights={__file__}"] if takes_weights else []
    chosen = config.load([f"method={method}", f"task={task}", *weights, *overrides])
    if not isinstance(chosen, TokenRunConfig):
        return chosen, False
    tokenizer = chosen.model.tokenizer
    without = replace(tokenizer, perceptual=Perceptual.none, perceptual_weights=None)
    chosen = replace(chosen, model=replace(chosen.model, tokenizer=without))
    return chosen, tokenizer.perceptual is not Perceptual.none


def in_format(method: str, chosen: Precision) -> list[str]:
    """Settings with which all components of a method compute in a number format."""
    keys = ["training.precision", *(["training.actor_critic.precision"] if method == "delta_iris" else [])]
    return [f"{key}={chosen.name}" for key in keys]


def specification(chosen: RunConfig) -> EnvironmentSpec:
    with envs.make(chosen.task, chosen.environment.train) as environment:
        spec: EnvironmentSpec = environment.environment_spec
    return spec


def this_cpu() -> Card:
    """This machine's processor as a card: rates of matrix products and of copies, and the time of the smallest
    operation."""
    size = 1024
    a, b, small = torch.randn(size, size), torch.randn(size, size), torch.randn(8)
    large = torch.randn(2**24)
    works = [lambda: a @ b, lambda: large + 1, lambda: [small + 1 for _ in range(1000)]]
    product, copy, operations = compare(works, 9)
    rates = dict.fromkeys(Precision, 2 * size**3 / product)
    return Card(rates, 2 * large.nbytes / copy, launch=0.0, kernel=operations / 1000)


def check(method: str, task: str, card: Card) -> Iterator[tuple[str, float, float]]:
    """Components with predicted and measured seconds of an update on this CPU, in small batches."""
    small = [f"training.{name}.batch_size=4" for name in ("tokenizer", "world_model", "actor_critic")]
    chosen, _ = configure(method, task, [*small, *in_format(method, Precision.float32), "training.epochs=4"])
    spec, cpu = specification(chosen), torch.device("cpu")
    costs = Plan(chosen, spec, has_perceptual=False).updates
    buffer = ReplayBuffer(spec, EPISODE, cpu)
    fill(buffer, spec, EPISODE // 4)
    agent = methods.get(method).build_agent(chosen, spec)
    for component in methods.get(method).build_components(chosen, agent, buffer, RandomStreams(0, cpu)):
        component.prepare(1)
        component.sampler.refresh(2)
        component.module.train()
        [measured] = compare([component.update], 3)
        component.module.eval()
        yield component.name, costs[component.name].seconds(card, chosen.training.precision), measured


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line(".plan", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the runs, such as scale=laptop")
    parser.add_argument("--method", nargs="+", choices=list(methods.METHODS), default=list(methods.METHODS))
    parser.add_argument("--task", default="atari/Pong")
    parser.add_argument("--card", nargs="+", choices=list(CARDS), default=list(CARDS))
    parser.add_argument(
        "--env-step", type=float, default=1.5e-3, metavar="SECONDS", help="of an agent's step (default 1.5e-3)"
    )
    parser.add_argument("--check", action="store_true", help="predict and measure updates on this CPU instead")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="with measurements of benchmarks.gpu --json FILE")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    work = compare_with_gpu if options.compare else compare_with_cpu if options.check else estimate
    return exit_status(lambda: work(options))


def estimate(options: argparse.Namespace) -> None:
    if options.json:
        require_place(options.json, "name another file with --json")
    rows = []
    print(f"hours of a run on {options.task}: an ESTIMATE from counted operations, no measurement")
    for method in options.method:
        chosen, has_perceptual = configure(method, options.task, options.overrides)
        counted = Plan(chosen, specification(chosen), has_perceptual=has_perceptual)
        for name, costs in counted.updates.items():
            print(
                f"{method:10s} {name:12s} an update: {costs.kernels:8,d} kernels ({costs.captured:,d} captured), "
                f"{costs.flops / 1e12:7.3f} TFLOP, {costs.bytes / 1e9:7.2f} GB"
            )
        for card in options.card:
            hours = counted.hours(CARDS[card], options.env_step)
            parts = ", ".join(f"{name} {value:.1f}" for name, value in hours.items())
            print(f"{method:10s} {card:12s} {sum(hours.values()):6.1f} h: {parts}")
            updates = {
                name: {"kernels": costs.kernels, "captured": costs.captured, "flops": costs.flops, "bytes": costs.bytes}
                for name, costs in counted.updates.items()
            }
            rows.append({"method": method, "task": options.task, "card": card, "hours": hours, "updates": updates})
    if options.json:
        write_atomic(options.json, json.dumps({"revision": git_revision(), "estimates": rows}, indent=2).encode())


def compare_with_cpu(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    card = this_cpu()
    rate = card.rates[Precision.float32]
    numbers = f"{rate / 1e9:.0f} GFLOP/s, {card.bandwidth / 1e9:.1f} GB/s, {card.kernel * 1e6:.1f} us an operation"
    print(f"{machine()}: {numbers}")
    for method in options.method:
        for name, predicted, measured in check(method, options.task, card):
            ratio = measured / predicted
            print(f"{method:10s} {name:12s} predicted {predicted:7.3f} s, measured {measured:7.3f} s: {ratio:.2f}")


def compare_with_gpu(options: argparse.Namespace) -> None:
    """Rows for ``benchmarks/results.md``: of each update the faster mode.

    Raises:
        UserError: the file is none of ``benchmarks.gpu``, or of a card that ``CARDS`` lacks.
    """
    try:
        record = json.loads(options.compare.read_bytes())
        rows = [row for method in record["phases"].values() for row in method["rows"]]
        hardware, task, given = str(record["machine"]), record["task"], record["overrides"]
        fastest: dict[tuple[str, str], dict[str, Any]] = {}
        for row in rows:
            part, _, kind = row["phase"].partition(" ")
            if kind == "update":
                updates = fastest.setdefault((row["method"], row["precision"]), {})
                updates[part] = min(updates.get(part, row), row, key=lambda one: float(one["seconds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{options.compare} is no file of python -m benchmarks.gpu --json: {brief(error)}.") from error
    card = next((card for name, card in CARDS.items() if name in hardware), None)
    if card is None:
        raise UserError(f"no estimates for {hardware}: benchmarks/plan.py has the numbers of {', '.join(CARDS)}.")
    print(f"{hardware}\n\n| method | update | batch | format | seconds | peak GiB | estimate | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for (method, name), measured in fastest.items():
        chosen, has_perceptual = configure(method, task, [*given, *in_format(method, Precision[name])])
        plan = Plan(chosen, specification(chosen), has_perceptual=has_perceptual)
        for part, costs in plan.updates.items():
            if row := measured.get(part):
                predicted, seconds = costs.seconds(card, Precision[name]), row["seconds"]
                cells = (method, part, row["batch"], name, f"{seconds:.4f}", f"{row['peak']:.1f}")
                print(f"| {' | '.join(map(str, cells))} | {predicted:.4f} | {seconds / predicted:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
